//! The role `host`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use conclave_cluster::{ClusterOptions, ClusterToken, DataFolder, FoundingOptions, Origin};
use conclave_host::{Blocking, Host, HostOptions, HostParts};
use conclave_network::Network;
use conclave_raft::RaftOptions;
use tokio::net::TcpListener;
use tracing::info;

use super::{bind, start_logging, store, told_to_stop};
use crate::config::{Address, Bootstrap, ClusterConfig, HostConfig, LogBounds};
use crate::system_clock::SystemClock;
use crate::threads::LogThreads;

/// Runs a host until it is told to stop; then hands its leaderships over and ends.
pub async fn run(config: HostConfig) -> Result<()> {
    start_logging(&config.log)?;
    let listener = bind(&config.listen).await?;
    let advertise = match &config.advertise {
        Some(advertise) => advertise.to_string(),
        None => listener.local_addr()?.to_string(),
    };
    let folder = open_folder(&config.data, &config.cluster.token, &config.bootstrap, &advertise)?;
    let join = match &config.bootstrap {
        Bootstrap::Join { through } => through.iter().map(Address::to_string).collect(),
        Bootstrap::Found { .. } | Bootstrap::Known => Vec::new(),
    };
    let running = start(&config.cluster, config.log_bounds, config.zone, join, advertise, folder, listener).await?;
    let mut failure = running.host.failure();
    let failed = tokio::select! {
        stop = told_to_stop() => { stop?; None }
        failed = failure.wait_for(Option::is_some) => failed.ok().and_then(|failed| failed.clone()),
    };
    if let Some(failed) = failed {
        bail!("{failed}");
    }
    info!("stopping: leaderships are handed over");
    running.host.drain().await;
    running.stop().await
}

fn open_folder(path: &Path, token: &ClusterToken, bootstrap: &Bootstrap, advertise: &str) -> Result<DataFolder> {
    Ok(match bootstrap {
        Bootstrap::Found { hosts } => {
            let hosts = hosts.iter().map(Address::to_string).collect();
            DataFolder::open(path, token, Origin::founder(hosts, advertise)?)?
        }
        Bootstrap::Join { .. } => DataFolder::open(path, token, Origin::Joined)?,
        Bootstrap::Known => DataFolder::open_known(path, token)?,
    })
}

/// How long the log threads may take once the host has stopped.
const THREADS_END_WITHIN: Duration = Duration::from_secs(10);

/// A host and the threads that its log is written on.
pub(super) struct RunningHost {
    pub host: Host,
    threads: LogThreads,
}

impl RunningHost {
    /// Stops the host and waits until nothing uses its store any more.
    pub async fn stop(self) -> Result<()> {
        self.host.stop().await;
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.join());
        tokio::time::timeout(THREADS_END_WITHIN, joined).await.context("something still uses the store")??;
        Ok(())
    }
}

/// Starts one host on RocksDB; `dev` starts several.
pub(super) async fn start(
    cluster: &ClusterConfig,
    log_bounds: LogBounds,
    zone: String,
    join: Vec<String>,
    advertise: String,
    folder: DataFolder,
    listener: TcpListener,
) -> Result<RunningHost> {
    let engine = store::open(&folder)?;
    let options = HostOptions {
        cluster: ClusterOptions {
            advertise,
            zone,
            founding: FoundingOptions {
                shard_count: cluster.shards,
                project: cluster.project.clone(),
                ..FoundingOptions::default()
            },
            join,
            network: Network::System,
        },
        raft: RaftOptions {
            heartbeat_interval: cluster.timings.heartbeat,
            election_timeout_min: cluster.timings.election_min,
            election_timeout_max: cluster.timings.election_max,
            compact_after_entries: log_bounds.compact_after_entries,
            keep_log_entries: log_bounds.keep_entries,
            ..RaftOptions::default()
        },
        token: cluster.token.clone(),
    };
    let parts = HostParts {
        folder,
        engine: Arc::new(engine),
        clock: Arc::new(SystemClock::new()),
        incoming: listener.into(),
        blocking: Blocking::Threads,
    };
    let mut threads = LogThreads::default();
    let host = Host::start(options, parts, |writer, syncer| threads.drive(writer, syncer)).await?;
    Ok(RunningHost { host, threads })
}
