//! A cluster of real processes on loopback: hosts, a gateway, and the means to kill and restart one of them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use conclave_client::Client;
use conclave_cluster::{ClusterTable, TableClient};
use conclave_proto::v1::{CreateRoomRequest, ErrorReason};
use tempfile::TempDir;

/// How long a cluster may take to be born, or a host to come back.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What the nodes of a test cluster share.
pub const CLUSTER_TOKEN: &str = "a-cluster-token-for-tests-only";

pub struct Cluster {
    binary: PathBuf,
    folder: TempDir,
    hosts: Vec<Process>,
    gateway: Process,
    host_addresses: Vec<String>,
    gateway_address: String,
}

struct Process {
    name: String,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Cluster {
    /// Starts hosts and a gateway and waits until the cluster serves.
    pub async fn start(hosts: usize, shards: u16) -> Result<Cluster> {
        let binary = binary()?;
        let folder = tempfile::tempdir()?;
        let host_addresses: Vec<String> = (0..hosts).map(|_| free_address()).collect::<Result<_>>()?;
        let gateway_address = free_address()?;
        let everyone = host_addresses.join(",");
        let host = |index: usize| -> Vec<String> {
            let data = folder.path().join(format!("host-{index}"));
            let mut arguments = vec!["host".to_owned()];
            for (flag, value) in [
                ("--listen", host_addresses[index].clone()),
                ("--data", data.display().to_string()),
                ("--initial-hosts", everyone.clone()),
                ("--cluster-token", CLUSTER_TOKEN.to_owned()),
                ("--shards", shards.to_string()),
            ] {
                arguments.extend([flag.to_owned(), value]);
            }
            arguments
        };
        let mut cluster = Cluster {
            hosts: (0..hosts).map(|index| Process::new(format!("host-{index}"), host(index))).collect(),
            gateway: Process::new(
                "gateway".to_owned(),
                [
                    "gateway",
                    "--listen",
                    gateway_address.as_str(),
                    "--hosts",
                    everyone.as_str(),
                    "--cluster-token",
                    CLUSTER_TOKEN,
                ]
                .map(str::to_owned)
                .to_vec(),
            ),
            binary,
            folder,
            host_addresses,
            gateway_address,
        };
        for index in 0..hosts {
            cluster.start_host(index)?;
        }
        let log = cluster.log_file("gateway");
        cluster.gateway.start(&cluster.binary, &log)?;
        Ok(cluster)
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.gateway_address)
    }

    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub fn host_pid(&self, index: usize) -> Option<u32> {
        self.hosts[index].child.as_ref().map(Child::id)
    }

    pub fn gateway_pid(&self) -> Option<u32> {
        self.gateway.child.as_ref().map(Child::id)
    }

    pub fn start_host(&mut self, index: usize) -> Result<()> {
        let log = self.log_file(&self.hosts[index].name);
        self.hosts[index].start(&self.binary, &log)
    }

    /// SIGKILL: the process gets no chance to do anything.
    pub fn kill_host(&mut self, index: usize) -> Result<()> {
        let mut child = self.hosts[index].child.take().context("the host does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Kills the gateway and starts it again.
    pub fn restart_gateway(&mut self) -> Result<()> {
        if let Some(mut child) = self.gateway.child.take() {
            child.kill()?;
            child.wait()?;
        }
        let log = self.log_file("gateway");
        self.gateway.start(&self.binary, &log)
    }

    /// SIGTERM, and waits for the process to end by itself.
    pub async fn stop_host(&mut self, index: usize) -> Result<()> {
        let child = self.hosts[index].child.take().context("the host does not run")?;
        terminate(child).await
    }

    /// Runs the product's command line against this cluster and returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary).args(arguments).stdin(Stdio::null()).output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "conclave {}: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A token made by the operator's command; waits until the cluster is born.
    pub async fn token(&self, participant: &str) -> Result<String> {
        let hosts = self.host_addresses.join(",");
        let arguments = ["token", "create", "--hosts", &hosts, "--cluster-token", CLUSTER_TOKEN, "--name", participant];
        eventually("a token", || async { self.run(&arguments).map(|token| token.trim().to_owned()) }).await
    }

    /// The operator's view of the hosts: a line each, with its store and what it has stopped.
    pub fn status(&self) -> Result<Vec<serde_json::Value>> {
        self.records(&[])
    }

    /// The operator's view of the shards: a line each, with its leader and how many vote.
    pub fn shards(&self) -> Result<Vec<serde_json::Value>> {
        self.records(&["--shards"])
    }

    fn records(&self, flags: &[&str]) -> Result<Vec<serde_json::Value>> {
        let hosts = self.host_addresses.join(",");
        let arguments = ["status", "--hosts", &hosts, "--cluster-token", CLUSTER_TOKEN, "--output", "json"];
        Ok(serde_json::from_str(&self.run(&[&arguments[..], flags].concat())?)?)
    }

    /// Where a host keeps its data.
    pub fn data_folder(&self, index: usize) -> PathBuf {
        self.folder.path().join(&self.hosts[index].name)
    }

    /// Waits for a host that must end by itself; returns what it has logged so far.
    pub async fn refused(&mut self, index: usize) -> Result<String> {
        let mut child = self.hosts[index].child.take().context("the host does not run")?;
        let until = Instant::now() + READY_WITHIN;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > until => {
                    child.kill()?;
                    bail!("the host was not refused\n{}", self.last_lines(20));
                }
                None => tokio::time::sleep(POLL).await,
            }
        };
        ensure!(!status.success(), "the host ended with {status}");
        Ok(std::fs::read_to_string(self.log_file(&self.hosts[index].name))?)
    }

    /// A client whose cluster is known to serve: it has created `room`.
    pub async fn client_with_room(&self, participant: &str, room: &str) -> Result<Client> {
        let token = self.token(participant).await?;
        let client = eventually("a connection", || async {
            Client::connect(&self.address(), &token).await.map_err(anyhow::Error::from)
        })
        .await?;
        eventually("a room", || async {
            let request = CreateRoomRequest { name: format!("rooms/{room}"), ..Default::default() };
            match client.create_room(request).await {
                Ok(_) => Ok(()),
                Err(error) if error.reason == Some(ErrorReason::RoomExists) => Ok(()),
                Err(error) => Err(anyhow::Error::from(error)),
            }
        })
        .await?;
        Ok(client)
    }

    /// The host that leads the shard of a room, as the cluster says.
    pub async fn leader_of(&self, room: &str) -> Result<usize> {
        let hosts = self.host_addresses.join(",");
        let arguments = ["leader", "--hosts", &hosts, "--cluster-token", CLUSTER_TOKEN, "--room", room];
        eventually("a leader", || async {
            let address = self.run(&arguments)?;
            let found = self.host_addresses.iter().position(|host| *host == address.trim());
            found.with_context(|| format!("leader {address} is none of the hosts"))
        })
        .await
    }

    /// Lines of all logs that say WARN or ERROR and are not expected.
    pub fn alarming_lines(&self, expected: &[&str]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for name in self.hosts.iter().map(|host| host.name.as_str()).chain(["gateway"]) {
            let log = std::fs::read_to_string(self.log_file(name)).unwrap_or_default();
            let alarming = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
            let unexpected = alarming.filter(|line| !expected.iter().any(|words| line.contains(words)));
            found.extend(unexpected.map(|line| format!("{name}: {line}")));
        }
        Ok(found)
    }

    /// Internal address of a host, for callers that go past the gateway.
    pub fn host_address(&self, index: usize) -> &str {
        &self.host_addresses[index]
    }

    /// The cluster's own table with its keys, as whoever holds the cluster token may read it.
    pub async fn table(&self) -> Result<Arc<ClusterTable>> {
        let client = TableClient::start(self.host_addresses.clone(), CLUSTER_TOKEN.parse()?);
        let mut watch = client.table();
        let table = tokio::time::timeout(READY_WITHIN, watch.wait_for(Option::is_some)).await;
        let table = table.context("no table in time")??.clone().context("the table went away")?;
        client.shutdown().await;
        Ok(table)
    }

    /// Processes that were started and have ended by themselves.
    pub fn ended(&mut self) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for process in self.hosts.iter_mut().chain([&mut self.gateway]) {
            let Some(child) = &mut process.child else { continue };
            if let Some(status) = child.try_wait()? {
                ended.push(format!("{}: {status}", process.name));
            }
        }
        Ok(ended)
    }

    /// Lines of all logs that tell of a panic.
    pub fn panics(&self) -> Vec<String> {
        let names = self.hosts.iter().map(|host| host.name.as_str()).chain(["gateway"]);
        let of = |name: &str| -> Vec<String> {
            let log = std::fs::read_to_string(self.log_file(name)).unwrap_or_default();
            log.lines().filter(|line| line.contains("panicked")).map(|line| format!("{name}: {line}")).collect()
        };
        names.flat_map(of).collect()
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// The end of every log, for a failed test's message.
    pub fn last_lines(&self, count: usize) -> String {
        let names = self.hosts.iter().map(|host| host.name.as_str()).chain(["gateway"]);
        let tail = |name: &str| {
            let log = std::fs::read_to_string(self.log_file(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(count);
            format!("--- {name}\n{}\n", lines[from..].join("\n"))
        };
        names.map(tail).collect()
    }
}

impl Process {
    fn new(name: String, arguments: Vec<String>) -> Process {
        Process { name, arguments, child: None }
    }

    fn start(&mut self, binary: &Path, log: &Path) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(binary)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        self.child = Some(child);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// SIGTERM, then the process has this long to hand over and end.
const STOP_WITHIN: Duration = Duration::from_secs(30);

async fn terminate(mut child: Child) -> Result<()> {
    let pid = child.id().to_string();
    ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill -TERM {pid}");
    let until = Instant::now() + STOP_WITHIN;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the host ended with {status}");
            return Ok(());
        }
        if Instant::now() > until {
            child.kill()?;
            bail!("the host did not end within {STOP_WITHIN:?} of SIGTERM");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How often a condition of another process is looked at; it has no other way to tell.
const POLL: Duration = Duration::from_millis(50);

/// Tries until it succeeds or the cluster should long be ready.
pub async fn eventually<T, F: Future<Output = Result<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> Result<T> {
    let until = Instant::now() + READY_WITHIN;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > until => {
                return Err(error.context(format!("{what}, within {READY_WITHIN:?}")));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Ports that tests listen on: below those that the system gives to connections, which could take one between here and
/// the process that is to listen on it.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

fn free_address() -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        // Processes begin at places of their own; within one, no port is given twice.
        let step = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", PORTS.start + step % (PORTS.end - PORTS.start));
        if TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// The product's binary: named by `CONCLAVE_BIN`, else beside this test's own.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CONCLAVE_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let beside = test.parent().and_then(Path::parent).map(|folder| folder.join("conclave"));
    match beside {
        Some(path) if path.exists() => Ok(path),
        _ => bail!("the conclave binary is not built: run `cargo xtask test`, or set CONCLAVE_BIN"),
    }
}
