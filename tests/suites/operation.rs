//! Running Conclave: what the binary prints, keeps, refuses, and how it ends.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conclave_client::Session;
use conclave_proto::v1::{NewItem, SendItemsRequest};
use conclave_tests::claims::{says, within};
use conclave_tests::cluster::{Cluster, binary};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Longest pause that a planned stop of a leader may make.
const PAUSE_LIMIT: Duration = Duration::from_millis(1_500);

/// A running `conclave dev`, and what it greeted with.
struct Dev {
    child: Child,
    /// The data folder that it named.
    folder: PathBuf,
    address: String,
    token: String,
    /// The line that sets the environment, then the commands to try.
    commands: Vec<String>,
}

impl Dev {
    async fn start(arguments: &[&str]) -> Result<Dev> {
        let mut command = Command::new(binary()?);
        command.args(["dev", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("standard output")?).lines();
        let mut greeting = Vec::new();
        loop {
            let line = lines.next_line().await?;
            let line = line.with_context(|| format!("it ended after {greeting:?}"))?;
            if line.starts_with("Ctrl-C") {
                break;
            }
            greeting.push(line);
        }
        let value = |key: &str| {
            let found = greeting.iter().find_map(|line| line.trim().strip_prefix(key));
            found.map(|value| value.trim().to_owned()).with_context(|| format!("no {key} in {greeting:?}"))
        };
        let folder = greeting[0].split_once("data in ").context("no data folder")?.1.into();
        let (address, token) = (value("address")?, value("token")?);
        ensure!(value("project")? == "default", "{greeting:?}");
        let commands = greeting.iter().map(|line| line.trim());
        let commands = commands.filter(|line| line.starts_with("export ") || line.starts_with("conclave "));
        let commands = commands.map(str::to_owned).collect();
        Ok(Dev { child, folder, address, token, commands })
    }

    /// SIGTERM; it must end well.
    async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().context("it has ended already")?.to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status().await?.success(), "kill -TERM {pid}");
        let status = self.child.wait().await?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// A command line of the product against this cluster.
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let environment = [("CONCLAVE_ADDRESS", self.address.as_str()), ("CONCLAVE_TOKEN", self.token.as_str())];
        let output = Command::new(binary()?).args(arguments).envs(environment).output().await?;
        printed(&output)
    }
}

fn printed(output: &Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout.clone())?)
}

/// Runs the product, which must refuse, and returns what it says.
async fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
    let output = Command::new(binary()?).args(arguments).envs(environment.iter().copied()).output().await?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "conclave {arguments:?} was not refused: {errors}");
    ensure!(!errors.contains("panicked"), "{errors}");
    Ok(errors)
}

/// A shell whose command goes on until it is interrupted.
struct Terminal {
    shell: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn open(mut shell: Command) -> Result<Terminal> {
        // A group of its own, as a terminal makes it: an interrupt reaches the command too.
        let mut shell =
            shell.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let lines = BufReader::new(shell.stdout.take().context("standard output")?).lines();
        Ok(Terminal { shell, lines })
    }

    /// Reads on until a line says all of this.
    async fn until(&mut self, parts: &[&str]) -> Result<()> {
        loop {
            let line = self.lines.next_line().await?.with_context(|| format!("it ended before {parts:?}"))?;
            if parts.iter().all(|part| line.contains(part)) {
                return Ok(());
            }
        }
    }

    async fn interrupt(mut self) -> Result<()> {
        let group = format!("-{}", self.shell.id().context("it has ended already")?);
        ensure!(Command::new("kill").args(["-INT", "--", &group]).status().await?.success(), "kill -INT {group}");
        self.shell.wait().await?;
        Ok(())
    }
}

#[tokio::test]
async fn the_printed_commands_work_as_printed() -> Result<()> {
    within(async {
        let dev = Dev::start(&["--ephemeral"]).await?;
        ensure!(dev.folder.exists(), "{} does not exist", dev.folder.display());
        let [export, watch, post, attach] = dev.commands.as_slice() else {
            anyhow::bail!("not an export and three commands: {:?}", dev.commands);
        };
        let bin = TempDir::new()?;
        symlink(std::path::absolute(binary()?)?, bin.path().join("conclave"))?;
        let path = format!("{}:{}", bin.path().display(), std::env::var("PATH")?);
        let typed = |command: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{export}\n{command}")]).env("PATH", &path);
            shell
        };
        let mut watching = Terminal::open(typed(watch))?;
        watching.until(&["rooms/my-room"]).await?;
        watching.until(&["live"]).await?;
        says(&printed(&typed(post).output().await?)?, &["REVISION", "durable"])?;
        watching.until(&["dev", "durable", "hello, room"]).await?;
        let mut attached = Terminal::open(typed(attach))?;
        attached.until(&["dev", "user"]).await?;
        watching.until(&["dev  attached"]).await?;
        attached.interrupt().await?;
        watching.until(&["dev  detached"]).await?;
        watching.interrupt().await?;
        let folder = dev.folder.clone();
        dev.stop().await?;
        ensure!(!folder.exists(), "{} was left behind", folder.display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_data_folder_keeps_its_items_and_belongs_to_its_cluster() -> Result<()> {
    within(async {
        let folder = TempDir::new()?;
        let data = folder.path().join("data");
        let data_flag = data.to_str().context("a path")?;
        let dev = Dev::start(&["--data", data_flag]).await?;
        ensure!(dev.folder == data, "it named {}", dev.folder.display());
        dev.run(&["rooms", "create", "kept", "--metadata", "colour=green"]).await?;
        let texts = ["--text", "one", "--text", "two", "--text", "three"];
        dev.run(&[&["room", "queue", "send", "kept", "jobs"], &texts[..]].concat()).await?;
        dev.stop().await?;

        let other_count = refusal(&["dev", "--data", data_flag, "--hosts", "1"], &[]).await?;
        says(&other_count, &["holds a cluster of 3 hosts", "--hosts is 1", "--hosts 3"])?;
        hosts_refuse_it(&data).await?;

        let dev = Dev::start(&["--data", data_flag]).await?;
        says(&dev.run(&["rooms", "get", "kept"]).await?, &["colour", "green"])?;
        let received = dev.run(&["room", "queue", "receive", "kept", "jobs", "--max-items", "10"]).await?;
        let bodies: Vec<usize> = ["one", "two", "three"].iter().filter_map(|body| received.find(body)).collect();
        ensure!(bodies.len() == 3 && bodies.is_sorted(), "not the items as they were sent: {received}");
        dev.stop().await
    })
    .await
}

/// Nobody else's host takes a folder of the cluster in `data`.
async fn hosts_refuse_it(data: &Path) -> Result<()> {
    let plan: Value = serde_json::from_str(&std::fs::read_to_string(data.join("dev.json"))?)?;
    let token = plan["cluster_token"].as_str().context("a token")?;
    let hosts: Vec<&str> = plan["hosts"].as_array().context("hosts")?.iter().filter_map(Value::as_str).collect();
    let (all, first) = (hosts.join(","), hosts[0]);
    let host = data.join("host-0");
    let host = host.to_str().context("a path")?;
    let start = |hosts: &str, token: &str, listen: &str| {
        let arguments =
            ["host", "--data", host, "--initial-hosts", hosts, "--cluster-token", token, "--listen", listen];
        arguments.map(str::to_owned)
    };
    let refused = async |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refusal(&arguments, &[]).await
    };
    let other_token = refused(&start(&all, "another-cluster-token", first)).await?;
    says(&other_token, &["belongs to a cluster with another token", host])?;
    ensure!(!other_token.contains(token), "the refusal tells the token");
    let other_founders = refused(&start(first, token, first)).await?;
    says(&other_founders, &["was started as host 1 of the initial hosts", &all, host])?;
    let joining = ["host", "--data", host, "--join", first, "--cluster-token", token, "--listen", "127.0.0.1:0"]
        .map(str::to_owned);
    says(&refused(&joining).await?, &["was started as host 1", "not to join a cluster"])?;
    let store = data.join("host-0/store");
    let store = store.to_str().context("a path")?;
    let foreign = ["host", "--data", store, "--initial-hosts", first, "--cluster-token", token, "--listen", first];
    says(&refusal(&foreign, &[]).await?, &["holds files but no Conclave identity"])
}

#[tokio::test]
async fn one_host_is_enough() -> Result<()> {
    within(async {
        let dev = Dev::start(&["--ephemeral", "--hosts", "1", "--shards", "4"]).await?;
        dev.run(&["rooms", "create", "small"]).await?;
        dev.run(&["room", "queue", "send", "small", "jobs", "--text", "alone"]).await?;
        let received = dev.run(&["room", "queue", "receive", "small", "jobs", "--wait", "5s", "--ack"]).await?;
        says(&received, &["alone"])?;
        dev.stop().await
    })
    .await
}

#[tokio::test]
async fn contradictions_and_misspellings_are_refused_with_a_remedy() -> Result<()> {
    within(async {
        let folder = TempDir::new()?;
        let path = |name: &str| folder.path().join(name).to_str().map(str::to_owned).context("a path");
        let data = path("data")?;
        let both = refusal(&["dev", "--data", &data, "--ephemeral"], &[]).await?;
        says(&both, &["--data and --ephemeral are both given", "keep one of them"])?;
        says(&refusal(&["dev", "--ephemeral", "--hosts", "2"], &[]).await?, &["--hosts", "1 or 3"])?;
        let public = refusal(&["dev", "--ephemeral", "--listen", "0.0.0.0:0"], &[]).await?;
        says(&public, &["loopback", "conclave gateway"])?;

        let config = path("conclave.toml")?;
        std::fs::write(&config, "[host]\nlisten = \"127.0.0.1:0\"\nadvertize = \"127.0.0.1:1\"\n")?;
        let misspelt = refusal(&["host", "--config", &config, "--data", &data], &[]).await?;
        says(&misspelt, &["no option host.advertize", "line 3", "the nearest is advertise in [host]"])?;
        std::fs::write(&config, "[gatway]\nlisten = \"127.0.0.1:0\"\n")?;
        says(&refusal(&["gateway", "--config", &config], &[]).await?, &["[gatway]", "the nearest is [gateway]"])?;
        let variable = refusal(&["gateway"], &[("CONCLAVE_GATEWAY_LISTN", "127.0.0.1:0")]).await?;
        says(&variable, &["gateway.listn", "the nearest is CONCLAVE_GATEWAY_LISTEN"])?;

        let token = ["--cluster-token", "a-token-of-enough-bytes"];
        let open = ["gateway", "--listen", "0.0.0.0:0", "--hosts", "127.0.0.1:1", token[0], token[1]];
        says(&refusal(&open, &[]).await?, &["reachable from other machines", "insecure"])?;
        let short = ["gateway", "--listen", "127.0.0.1:0", "--hosts", "127.0.0.1:1", "--cluster-token", "short"];
        says(&refusal(&short, &[]).await?, &["cluster.token", "16 to 1024 bytes"])?;
        let unborn = ["host", "--listen", "127.0.0.1:0", "--data", &data, token[0], token[1]];
        says(&refusal(&unborn, &[]).await?, &["knows no cluster yet", "--initial-hosts", "--join"])?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_version_names_release_commit_and_data_format() -> Result<()> {
    within(async {
        let output = printed(&Command::new(binary()?).arg("version").output().await?)?;
        let lines: Vec<&str> = output.lines().collect();
        let [version, commit, format] = lines.as_slice() else { anyhow::bail!("not three lines: {output}") };
        says(version, &["conclave ", env!("CARGO_PKG_VERSION")])?;
        ensure!(commit.strip_prefix("commit ").is_some_and(|commit| !commit.is_empty()), "{commit}");
        let format = format.strip_prefix("data format ").context("no data format")?;
        ensure!(format.parse::<u32>().is_ok_and(|format| format > 0), "{format}");
        Ok(())
    })
    .await
}

/// Frames that the session below keeps in flight.
const IN_FLIGHT: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_told_to_stop_hands_over_and_nobody_notices() -> Result<()> {
    within(async {
        let mut cluster = Cluster::start(3, 4).await?;
        let client = cluster.client_with_room("sender", "busy").await?;
        let session = Session::open(&client, "rooms/busy").await?;
        let leader = cluster.leader_of("busy").await?;

        let (mut answered_at, mut pause) = (Instant::now(), Duration::ZERO);
        let mut replies = FuturesOrdered::new();
        let mut sent = 0_u64;
        let mut answered = 0_u64;
        // Until the host has ended, and then as long as one election would take to show.
        let mut stopping = Box::pin(async { cluster.stop_host(leader).await.map(|()| Instant::now()) });
        let mut stopped_at = None;
        while stopped_at.is_none_or(|at: Instant| at.elapsed() < PAUSE_LIMIT) {
            while replies.len() < IN_FLIGHT {
                sent += 1;
                let items = vec![NewItem { body: sent.to_string().into(), ..Default::default() }];
                let parent = "rooms/busy/queues/jobs".into();
                replies.push_back(session.send_items(SendItemsRequest { parent, items, ..Default::default() }));
            }
            tokio::select! {
                Some(reply) = replies.next() => {
                    let reply = reply.with_context(|| format!("item {}", answered + 1))?;
                    answered += 1;
                    pause = pause.max(answered_at.elapsed());
                    answered_at = Instant::now();
                    ensure!(reply.first_item == answered, "item {} instead of {answered}", reply.first_item);
                }
                // The first frames are answered before the host is told to stop.
                stopped = &mut stopping, if stopped_at.is_none() && answered > 100 => stopped_at = Some(stopped?),
            }
        }
        drop(stopping);
        ensure!(pause < PAUSE_LIMIT, "the session paused {pause:?}\n{}", cluster.last_lines(20));
        ensure!(session.resumes() == 0, "the client's own stream was lost");
        let successor = cluster.leader_of("busy").await?;
        ensure!(successor != leader, "host {leader} has ended and still leads");
        while let Some(reply) = replies.next().await {
            reply?;
        }
        session.close().await;
        cluster.start_host(leader)?;
        cluster.client_with_room("sender", "afterwards").await?;
        ensure!(cluster.panics().is_empty(), "{:?}", cluster.panics());
        Ok(())
    })
    .await
}
