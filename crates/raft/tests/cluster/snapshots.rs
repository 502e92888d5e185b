//! Short logs, and followers that missed what is gone from them.

use conclave_raft::RaftOptions;

use crate::harness::{Cluster, propose};

const SNAPSHOT_PART: u32 = 5;

async fn propose_many(cluster: &Cluster, count: usize) -> u64 {
    let (leader, _) = cluster.leader().await;
    let group = cluster.group(leader);
    let mut last = 0;
    for _ in 0..count / 10 {
        let batch = (0..10).map(|_| propose(&group, "one of many"));
        for proposed in futures::future::join_all(batch).await {
            last = last.max(proposed.expect("the leader stays"));
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_short_by_entries() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let last = propose_many(&cluster, 1_000).await;
    for replica in cluster.running() {
        cluster.applied(replica, last).await;
        let options = &cluster.options;
        let most = options.compact_after_entries + options.keep_log_entries;
        cluster
            .until("a purge", || cluster.group(replica).status().purged.is_some_and(|purged| last - purged <= most))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_short_by_bytes() {
    let options = RaftOptions {
        compact_after_entries: u64::MAX,
        keep_log_entries: 1_000_000,
        compact_after_bytes: 4 << 20,
        keep_log_bytes: 2 << 20,
        ..RaftOptions::for_tests()
    };
    let cluster = Cluster::start(1, options).await;
    let large = "x".repeat(256 << 10);
    let (leader, _) = cluster.leader().await;
    let mut last = 0;
    for _ in 0..40 {
        last = propose(&cluster.group(leader), &large).await.expect("the leader stays");
    }
    // 40 entries are 10 MiB; 2 MiB are kept, and less than 4 MiB and a milestone gather until the next compaction.
    cluster.until("a purge", || cluster.group(1).status().purged.is_some_and(|purged| last - purged <= 28)).await;
}

/// No process of this replica lives long enough to fill the bound by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_short_by_bytes_across_restarts() {
    let options = RaftOptions {
        compact_after_entries: u64::MAX,
        keep_log_entries: 1_000_000,
        compact_after_bytes: 4 << 20,
        keep_log_bytes: 2 << 20,
        ..RaftOptions::for_tests()
    };
    let mut cluster = Cluster::start(1, options).await;
    let large = "x".repeat(256 << 10);
    for _ in 0..3 {
        let (leader, _) = cluster.leader().await;
        for _ in 0..12 {
            propose(&cluster.group(leader), &large).await.expect("the leader stays");
        }
        let engine = cluster.kill(1).await;
        cluster.open(1, engine).await;
    }
    // 36 entries are 9 MiB, which only the reading of the log at the start can tell.
    cluster.until("a purge", || cluster.group(1).status().purged.is_some_and(|purged| purged > 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    cluster.propose("first").await;
    let (leader, _) = cluster.leader().await;
    let away = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
    let engine = cluster.kill(away).await;
    propose_many(&cluster, 600).await;
    cluster.until("a purge", || cluster.group(leader).status().purged.is_some_and(|purged| purged > 300)).await;
    cluster.open(away, engine).await;
    let last = cluster.propose("last").await;
    cluster.applied(away, last).await;
    assert_eq!(cluster.ledger(away), cluster.ledger(leader));
    assert!(cluster.network.calls(SNAPSHOT_PART) > 0, "the log alone could not do it");

    // What it installed is durable: entries that follow build on it after a power cut.
    let engine = cluster.cut_power(away).await;
    cluster.open(away, engine).await;
    let last = cluster.propose("after the cut").await;
    cluster.applied(away, last).await;
    assert_eq!(cluster.ledger(away), cluster.ledger(leader));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_many_parts_arrives_whole() {
    let options = RaftOptions { compact_after_entries: 20, keep_log_entries: 1, ..RaftOptions::for_tests() };
    let mut cluster = Cluster::start(3, options).await;
    let (leader, _) = cluster.leader().await;
    let away = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
    let engine = cluster.kill(away).await;
    let large = "x".repeat(100 << 10);
    for _ in 0..40 {
        cluster.propose(&large).await;
    }
    cluster.until("a purge", || cluster.group(leader).status().purged.is_some_and(|purged| purged > 10)).await;
    cluster.open(away, engine).await;
    let last = cluster.propose("last").await;
    cluster.applied(away, last).await;
    assert_eq!(cluster.ledger(away), cluster.ledger(leader));
    assert!(cluster.network.calls(SNAPSHOT_PART) >= 10, "4 MiB in parts of 256 KiB");
}
