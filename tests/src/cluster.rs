//! A cluster of real processes on loopback: hosts, a gateway, and the means to kill and restart one of them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use conclave_client::Client;
use conclave_cluster::{ClusterTable, TableClient};
use conclave_proto::v1::{CreateRoomRequest, ErrorReason};
use conclave_workload::patience::{POLL, READY_WITHIN, eventually};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Launch, Process};

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

/// Where a node of a cluster runs.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Where others reach it.
    pub address: String,
    /// Where it listens, when that is somewhere else.
    pub listen: Option<String>,
    /// Another build than the product, if any.
    pub binary: Option<PathBuf>,
    /// Its data folder, if it is a host.
    pub data: PathBuf,
    /// A command that runs another one elsewhere, such as in a network namespace; usually none.
    pub inside: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Cluster {
    /// Starts hosts and a gateway on loopback, with their data in a folder of the cluster.
    pub async fn start(hosts: usize, shards: u16) -> Result<Cluster> {
        let folder = tempfile::tempdir()?;
        let host = |index: usize| {
            let data = folder.path().join(format!("host-{index}"));
            Ok(Place { address: free_address()?, data, ..Place::default() })
        };
        let hosts = (0..hosts).map(host).collect::<Result<Vec<Place>>>()?;
        let gateway = Place { address: free_address()?, ..Place::default() };
        Cluster::start_at(folder, hosts, gateway, shards)
    }

    /// Starts hosts and a gateway where they are told to be. The folder gets their logs, and lives as long as they.
    pub fn start_at(folder: TempDir, hosts: Vec<Place>, gateway: Place, shards: u16) -> Result<Cluster> {
        let binary = binary()?;
        let host_addresses: Vec<String> = hosts.iter().map(|place| place.address.clone()).collect();
        let everyone = host_addresses.join(",");
        let process = |name: String, place: Place, role: &str, flags: &[(&str, String)]| {
            let mut command = place.inside;
            let binary = place.binary.as_ref().unwrap_or(&binary);
            command.extend([binary.display().to_string(), role.to_owned()]);
            let told = place.listen.is_some().then(|| ("--advertise", place.address.clone()));
            let listen = ("--listen", place.listen.unwrap_or(place.address));
            let common = [listen, ("--cluster-token", CLUSTER_TOKEN.to_owned())];
            for (flag, value) in common.iter().chain(&told).chain(flags) {
                command.extend([(*flag).to_owned(), value.clone()]);
            }
            let log = folder.path().join(format!("{name}.log"));
            Process::new(name, Launch { command, environment: place.environment }, log)
        };
        let gateway_address = gateway.address.clone();
        let gateway = process("gateway".to_owned(), gateway, "gateway", &[("--hosts", everyone.clone())]);
        let host = |(index, place): (usize, Place)| {
            let data = ("--data", place.data.display().to_string());
            let founding = [data, ("--initial-hosts", everyone.clone()), ("--shards", shards.to_string())];
            process(format!("host-{index}"), place, "host", &founding)
        };
        let hosts = hosts.into_iter().enumerate().map(host).collect();
        let mut cluster = Cluster { binary, folder, hosts, gateway, host_addresses, gateway_address };
        for host in &mut cluster.hosts {
            host.start()?;
        }
        cluster.gateway.start()?;
        Ok(cluster)
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.gateway_address)
    }

    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub fn host_pid(&self, index: usize) -> Option<u32> {
        self.hosts[index].pid()
    }

    pub fn gateway_pid(&self) -> Option<u32> {
        self.gateway.pid()
    }

    pub fn start_host(&mut self, index: usize) -> Result<()> {
        self.hosts[index].start()
    }

    /// SIGKILL: the process gets no chance to do anything.
    pub fn kill_host(&mut self, index: usize) -> Result<()> {
        self.kill_hosts(&[index])
    }

    /// SIGKILL to all of these before the first is waited for.
    pub fn kill_hosts(&mut self, indexes: &[usize]) -> Result<()> {
        for &index in indexes {
            self.hosts[index].kill()?;
        }
        for &index in indexes {
            self.hosts[index].reap()?;
        }
        Ok(())
    }

    /// SIGSTOP: it stands still with all its connections open.
    pub fn pause_host(&self, index: usize) -> Result<()> {
        self.hosts[index].signal(Signal::STOP)
    }

    pub fn resume_host(&self, index: usize) -> Result<()> {
        self.hosts[index].signal(Signal::CONT)
    }

    /// SIGTERM, and waits for the process to end by itself.
    pub async fn stop_host(&mut self, index: usize) -> Result<()> {
        self.hosts[index].terminate().await
    }

    /// Ends the gateway as a crash would, and starts it again.
    pub fn restart_gateway(&mut self) -> Result<()> {
        self.gateway.kill()?;
        self.gateway.reap()?;
        self.gateway.start()
    }

    /// What a host finds in its environment from its next start on.
    pub fn set_host_environment(&mut self, index: usize, key: &str, value: Option<&str>) {
        self.hosts[index].set_environment(key, value);
    }

    pub fn is_host_running(&self, index: usize) -> bool {
        self.hosts[index].pid().is_some()
    }

    /// How a host ended, if it has since it was started or last asked about.
    pub fn host_ended(&mut self, index: usize) -> Result<Option<ExitStatus>> {
        self.hosts[index].ended()
    }

    /// All that a host has logged.
    pub fn host_log(&self, index: usize) -> String {
        self.hosts[index].log()
    }

    /// Where logs are, and whatever else lives as long as the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
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

    /// Where a host of a cluster on loopback keeps its data.
    pub fn data_folder(&self, index: usize) -> PathBuf {
        self.folder.path().join(self.hosts[index].name())
    }

    /// Waits for a host that must end by itself; returns what it has logged so far.
    pub async fn refused(&mut self, index: usize) -> Result<String> {
        let until = Instant::now() + READY_WITHIN;
        let status = loop {
            match self.host_ended(index)? {
                Some(status) => break status,
                None if Instant::now() > until => bail!("the host was not refused\n{}", self.last_lines(20)),
                None => tokio::time::sleep(POLL).await,
            }
        };
        ensure!(!status.success(), "the host ended with {status}");
        Ok(self.host_log(index))
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
        let is_alarming = |line: &str| line.contains("ERROR") || line.contains("WARN");
        let is_expected = |line: &str| expected.iter().any(|words| line.contains(words));
        Ok(self.lines(|line| is_alarming(line) && !is_expected(line)))
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
            if let Some(status) = process.ended()? {
                ended.push(format!("{}: {status}", process.name()));
            }
        }
        Ok(ended)
    }

    /// Lines of all logs that tell of a panic.
    pub fn panics(&self) -> Vec<String> {
        self.lines(|line| line.contains("panicked"))
    }

    fn lines(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for process in self.processes() {
            let log = process.log();
            found.extend(log.lines().filter(|line| wanted(line)).map(|line| format!("{}: {line}", process.name())));
        }
        found
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.hosts.iter().chain([&self.gateway])
    }

    /// The end of every log, for a failed test's message.
    pub fn last_lines(&self, count: usize) -> String {
        let tail = |process: &Process| {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(count);
            format!("--- {}\n{}\n", process.name(), lines[from..].join("\n"))
        };
        self.processes().map(tail).collect()
    }
}

/// Ports that tests listen on: below those that the system gives to connections, which could take one between here and
/// the process that is to listen on it.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

pub fn free_address() -> Result<String> {
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
    built("CONCLAVE_BIN", "conclave")
}

/// The binary with crash points and planted bugs: named by `CONCLAVE_FAULTS_BIN`, else beside this test's own.
pub fn faults_binary() -> Result<PathBuf> {
    built("CONCLAVE_FAULTS_BIN", "conclave-faults")
}

fn built(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let beside = test.parent().and_then(Path::parent).map(|folder| folder.join(name));
    match beside {
        Some(path) if path.exists() => Ok(path),
        _ => bail!("the binary {name} is not built: run `cargo xtask test`, or set {variable}"),
    }
}
