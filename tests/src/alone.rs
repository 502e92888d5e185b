//! One cluster at a time, and the loss of the host that leads.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use crate::cluster::Cluster;
use crate::progress::Progress;

/// Far above what either test takes; a test that hangs ends with its logs.
const WITHIN: Duration = Duration::from_secs(600);
const SHARDS: u16 = 4;

/// Held by the test that runs: two clusters at once on two cores would measure each other.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Runs a test against a cluster; its logs are shown when it fails.
pub async fn with_cluster<F>(test: impl FnOnce(Arc<Mutex<Cluster>>) -> F)
where
    F: Future<Output = Result<()>>,
{
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(3, SHARDS).await.expect("a cluster starts");
    let cluster = Arc::new(Mutex::new(cluster));
    let result = tokio::time::timeout(WITHIN, test(cluster.clone())).await;
    let result = result.context("the test took too long").and_then(|result| result);
    if let Err(error) = result {
        let logs = cluster.lock().await.last_lines(40);
        panic!("{error:?}\n{logs}");
    }
}

/// Kills the host that leads `room` once `progress` has come this far, and starts it again once work goes on without it.
pub async fn lose_leader(cluster: Arc<Mutex<Cluster>>, room: &str, progress: &Progress, at: u64) -> Result<()> {
    reach(progress, at).await;
    let leader = {
        let mut cluster = cluster.lock().await;
        let leader = cluster.leader_of(room).await?;
        cluster.kill_host(leader)?;
        leader
    };
    let killed_at = progress.events();
    eprintln!("host {leader} killed after {killed_at} events");
    reach(progress, killed_at + at / 10).await;
    cluster.lock().await.start_host(leader)
}

/// Waits until so many events have happened.
pub async fn reach(progress: &Progress, events: u64) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while progress.events() < events {
        look.tick().await;
    }
}
