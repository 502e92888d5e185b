//! The role `dev`: a whole cluster with a gateway in one process, on loopback, with what a newcomer needs printed.
//!
//! Its hosts are the real ones on real sockets; only the process is shared. Their addresses and their cluster token are
//! chosen at the first start and kept in the folder, because a cluster knows its hosts by them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conclave_auth::{OpenRooms, Rights, Role, TokenSpec};
use conclave_cluster::{ClusterToken, DataFolder, Origin};
use conclave_host::Host;
use conclave_types::ParticipantName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::host::RunningHost;
use super::{bind, gateway, host, start_logging, told_to_stop};
use crate::config::{ClusterConfig, DevConfig, DevData, LogBounds, RaftTimings};
use crate::verbs::operator::mint_for;

const PLAN: &str = "dev.json";
/// How long the first election and the first table may take.
const BORN_WITHIN: Duration = Duration::from_secs(30);
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a development cluster keeps about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    /// Internal addresses, one a host.
    hosts: Vec<String>,
    cluster_token: String,
}

/// Runs a development cluster until it is told to stop.
pub async fn run(config: DevConfig) -> Result<()> {
    start_logging(&config.log)?;
    let (folder, _removed_at_end) = folder(&config.data)?;
    let (plan, listeners) = plan(&folder, config.hosts).await?;
    let token: ClusterToken = plan.cluster_token.parse()?;
    let edge = bind(&config.listen).await?;
    let address = edge.local_addr()?;

    let cluster = ClusterConfig {
        token: token.clone(),
        shards: config.shards,
        project: config.project.clone(),
        timings: RaftTimings::DEFAULT,
    };
    let mut hosts = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let advertise = plan.hosts[index].clone();
        let origin = Origin::founder(plan.hosts.clone(), &advertise)?;
        let data = DataFolder::open(folder.join(format!("host-{index}")), &token, origin)?;
        hosts.push(
            host::start(&cluster, LogBounds::DEFAULT, String::new(), Vec::new(), advertise, data, listener).await?,
        );
    }
    let stop = CancellationToken::new();
    let serving = tokio::spawn(gateway::serve(plan.hosts.clone(), token, true, edge, stop.clone()));

    let participant_token = participant_token(&hosts[0].host, &config).await?;
    greet(&folder, &format!("http://{address}"), &config, &participant_token);
    told_to_stop().await?;
    stop.cancel();
    serving.await??;
    // Together: one by one, those that are left would hold elections for the others' shards.
    futures::future::try_join_all(hosts.into_iter().map(RunningHost::stop)).await?;
    Ok(())
}

/// The data folder, and what removes it when it is ephemeral.
fn folder(data: &DevData) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    match data {
        DevData::Folder(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("data folder {}", folder.display()))?;
            Ok((folder.clone(), None))
        }
        DevData::Ephemeral => {
            let folder = tempfile::Builder::new().prefix("conclave-dev-").tempdir()?;
            Ok((folder.path().to_owned(), Some(folder)))
        }
    }
}

/// The cluster's plan: the one its folder has, or a new one; with the listeners of its hosts.
async fn plan(folder: &Path, hosts: u16) -> Result<(Plan, Vec<TcpListener>)> {
    let path = folder.join(PLAN);
    if path.exists() {
        let plan: Plan = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("{} cannot be read: restore it, or choose another --data", path.display()))?;
        ensure!(
            plan.hosts.len() == usize::from(hosts),
            "{folder} holds a cluster of {kept} hosts, and --hosts is {hosts}: a cluster keeps its founding hosts. \
             Start it with --hosts {kept}, or choose another --data",
            folder = folder.display(),
            kept = plan.hosts.len(),
        );
        let mut listeners = Vec::new();
        for address in &plan.hosts {
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.with_context(|| {
                format!("host address {address} is in use: does this cluster run already, in {}?", folder.display())
            })?);
        }
        return Ok((plan, listeners));
    }
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..hosts {
        let listener = bind_lasting().await?;
        addresses.push(listener.local_addr()?.to_string());
        listeners.push(listener);
    }
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)?;
    let cluster_token = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let plan = Plan { hosts: addresses, cluster_token };
    fs::write(&path, serde_json::to_string_pretty(&plan)?)?;
    Ok((plan, listeners))
}

async fn participant_token(host: &Host, config: &DevConfig) -> Result<String> {
    let mut table = host.table();
    let born = tokio::time::timeout(BORN_WITHIN, table.wait_for(Option::is_some)).await;
    let table = born.context("the cluster was not born in time: look at the log with --log info")??.clone();
    let table = table.context("the table went away")?;
    let participant: ParticipantName = "dev".parse()?;
    let spec = TokenSpec {
        participant,
        role: Role::default(),
        rooms: OpenRooms::All,
        rights: Rights::admin(),
        lifetime: TOKEN_LIFETIME,
    };
    mint_for(&table, &config.project, &spec)
}

#[expect(clippy::print_stdout, reason = "the address, the token and the commands are what this command is for")]
fn greet(folder: &Path, address: &str, config: &DevConfig, token: &str) {
    println!("Conclave: {} hosts and a gateway, data in {}", config.hosts, folder.display());
    println!();
    println!("  address  {address}");
    println!("  project  {}", config.project);
    println!("  token    {token}");
    println!();
    println!("In other terminals, each after the first line: watch a room, write into its log, and be there.");
    println!();
    println!("  export {}CONCLAVE_ADDRESS={address} CONCLAVE_TOKEN={token}", path_to_self());
    println!("  conclave rooms create my-room && conclave rooms watch my-room");
    println!("  conclave room messaging post my-room --text 'hello, room'");
    println!("  conclave room participants attach my-room");
    println!();
    println!("Ctrl-C ends the cluster; the data stays unless --ephemeral was given.");
}

/// What makes `conclave` a command where it is not one yet.
fn path_to_self() -> String {
    let own = std::env::current_exe().ok();
    let Some(folder) = own.as_deref().and_then(Path::parent) else { return String::new() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).any(|known| known == folder) {
        true => String::new(),
        false => format!("PATH=\"$PATH:{}\" ", folder.display()),
    }
}

/// A listener whose port the system does not give to connections, so that it is free again at the next start.
async fn bind_lasting() -> Result<TcpListener> {
    const PORTS: std::ops::Range<u16> = 17_000..32_000;
    const ATTEMPTS: usize = 100;
    for _ in 0..ATTEMPTS {
        let mut random = [0; 2];
        getrandom::fill(&mut random)?;
        let port = PORTS.start + u16::from_le_bytes(random) % (PORTS.end - PORTS.start);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return Ok(listener);
        }
    }
    bail!("no free port was found between {} and {}", PORTS.start, PORTS.end)
}
