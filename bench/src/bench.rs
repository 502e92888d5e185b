//! The cluster that is measured, and the rounds of a measurement.

use std::time::Duration;

use anyhow::{Context, Result};
use conclave_client::{Client, Session};
use conclave_tests::cluster::Cluster;
use conclave_workload::patience::eventually;
use tokio::time::Instant;

use crate::availability::is_level;
use crate::host_status::{Counters, HostStatus};
use crate::load::Tally;
use crate::probe::{Probe, Used};

pub const HOSTS: usize = 3;
/// As many as the targets for idle hosts name; every other figure is taken beside them.
pub const SHARDS: u16 = 64;
/// Load before a round counts: connections, caches and the first memtables are warm then.
const WARM_UP: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_secs(10);
/// The figure reported is the median's.
pub const ROUNDS: usize = 3;
/// What the participant of every session is called.
const PARTICIPANT: &str = "bench";

/// When a round counts what is done.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Instant,
    pub until: Instant,
}

impl Span {
    /// A round that begins once the warm-up is over.
    pub fn after_warm_up() -> Result<Span> {
        let from = Instant::now() + WARM_UP;
        Ok(Span { from, until: from + round()? })
    }

    pub fn holds(&self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }
}

fn round() -> Result<Duration> {
    match std::env::var("CONCLAVE_BENCH_SECONDS") {
        Ok(seconds) => Ok(Duration::from_secs(seconds.parse().context("CONCLAVE_BENCH_SECONDS is not whole seconds")?)),
        Err(_) => Ok(ROUND),
    }
}

/// A running cluster.
pub struct Bench {
    pub cluster: Cluster,
    hosts: Vec<HostStatus>,
    token: String,
}

impl Bench {
    pub async fn start() -> Result<Bench> {
        let cluster = Cluster::start(HOSTS, SHARDS).await?;
        let token = cluster.token(PARTICIPANT).await?;
        let hosts = (0..HOSTS).map(|host| HostStatus::of(cluster.host_address(host))).collect::<Result<_>>()?;
        let bench = Bench { cluster, hosts, token };
        bench.all_shards_led().await?;
        Ok(bench)
    }

    async fn all_shards_led(&self) -> Result<()> {
        eventually("a leader of every shard", || async {
            let mut led = 0;
            for host in &self.hosts {
                led += host.read().await?.leading;
            }
            anyhow::ensure!(led == usize::from(SHARDS), "{led} of {SHARDS} shards have a leader");
            Ok(())
        })
        .await
    }

    /// What every host counts now.
    pub async fn hosts_read(&self) -> Result<Vec<Counters>> {
        let mut read = Vec::with_capacity(HOSTS);
        for host in &self.hosts {
            read.push(host.read().await?);
        }
        Ok(read)
    }

    /// Waits until each shard is led and all hosts have applied the same of it; nothing may be written meanwhile.
    pub async fn all_caught_up(&self) -> Result<()> {
        eventually("hosts that are level", || async {
            let read = self.hosts_read().await?;
            let led = read.iter().map(|host| host.leading).sum();
            let positions: Vec<_> = read.into_iter().map(|host| host.applied).collect();
            anyhow::ensure!(is_level(&positions, led), "{led} of {SHARDS} shards are led, or a host is behind");
            Ok(())
        })
        .await
    }

    /// Makes the room and opens sessions in it, each over a connection of its own, as independent clients would.
    pub async fn sessions(&self, room: &str, count: usize) -> Result<Vec<Session>> {
        self.cluster.client_with_room(PARTICIPANT, room).await?;
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            let client = Client::connect(&self.cluster.address(), &self.token).await?;
            sessions.push(Session::open(&client, &format!("rooms/{room}")).await?);
        }
        Ok(sessions)
    }

    /// Waits for the round to pass and returns what it used.
    pub async fn watch(&self, tally: &Tally, leader: usize) -> Result<Used> {
        Probe::over_round(&self.hosts, self.processes(Some(leader))?, leader, tally).await
    }

    /// Reads what everything has used and done so far; processes are named by what they are to the room that `leader`
    /// leads.
    pub async fn probe<'a>(&'a self, tally: &'a Tally, leader: usize) -> Result<Probe<'a>> {
        Probe::begin(&self.hosts, self.processes(Some(leader))?, leader, tally).await
    }

    /// Names and process ids; `leader` first among the hosts.
    pub fn processes(&self, leader: Option<usize>) -> Result<Vec<(String, u32)>> {
        let mut named = vec![
            ("generator".to_owned(), std::process::id()),
            ("gateway".to_owned(), self.cluster.gateway_pid().context("the gateway does not run")?),
        ];
        let mut hosts: Vec<usize> = (0..HOSTS).collect();
        hosts.sort_by_key(|host| Some(*host) != leader);
        for (place, host) in hosts.into_iter().enumerate() {
            let name = match leader {
                Some(_) if place == 0 => "leader".to_owned(),
                Some(_) => format!("follower {place}"),
                None => format!("host {}", place + 1),
            };
            named.push((name, self.cluster.host_pid(host).context("a host does not run")?));
        }
        Ok(named)
    }
}
