//! Followers that were away catch up while writes go on, by log or by snapshot, whatever happens to the transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use conclave_proto::internal::v1 as proto;
use conclave_raft::{Group, Leadership, PeerCall, RaftOptions};
use conclave_storage::MemoryEngine;
use conclave_types::GroupId;
use prost::Message;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, GROUP, propose};

const SNAPSHOT_PART: u32 = 5;

/// Proposals of one size, one after the other, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Load {
    fn start(group: Group, bytes: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let task = tokio::spawn(async move {
            let payload = "x".repeat(bytes);
            let mut last = 0;
            while !told.load(Ordering::Relaxed) {
                if let Ok(index) = propose(&group, &payload).await {
                    last = index;
                }
            }
            last
        });
        Load { stop, task }
    }

    /// Index of the last entry that was acknowledged.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic")
    }
}

/// Snapshots after a few entries.
fn short_logs() -> RaftOptions {
    RaftOptions { compact_after_entries: 20, keep_log_entries: 1, ..RaftOptions::for_tests() }
}

/// Three hosts, one of them away and behind what the others keep.
async fn with_one_behind(payload: usize, entries: u64, options: RaftOptions) -> (Cluster, u64, Arc<MemoryEngine>) {
    let mut cluster = Cluster::start(3, options).await;
    let (leader, _) = cluster.leader().await;
    let away = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
    let engine = cluster.kill(away).await;
    let payload = "x".repeat(payload);
    let mut last = 0;
    for _ in 0..entries {
        last = cluster.propose(&payload).await;
    }
    let most = cluster.options.compact_after_entries + cluster.options.keep_log_entries;
    let is_purged = |replica: u64| cluster.group(replica).status().purged.is_some_and(|purged| purged + most >= last);
    cluster.until("a purge", || cluster.running().into_iter().all(is_purged)).await;
    (cluster, away, engine)
}

async fn assert_catches_up(cluster: &Cluster, away: u64) {
    let last = cluster.propose("last").await;
    for replica in cluster.running() {
        cluster.applied(replica, last).await;
    }
    for replica in cluster.running() {
        assert!(cluster.ledger(replica) == cluster.ledger(away), "replica {replica} differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_catches_up_by_log_while_writes_go_on() {
    let options = RaftOptions { keep_log_entries: 1_000_000, keep_log_bytes: 1 << 30, ..RaftOptions::for_tests() };
    for bytes in [10, 20 << 10] {
        let mut cluster = Cluster::start(3, options.clone()).await;
        let (leader, _) = cluster.leader().await;
        let away = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
        let engine = cluster.kill(away).await;
        let load = Load::start(cluster.group(leader), bytes);
        cluster.until("it is behind", || cluster.group(leader).status().applied > Some(300)).await;
        cluster.open(away, engine).await;
        let behind = |least: u64| cluster.group(away).status().applied >= Some(least);
        cluster.until("it has caught up", || behind(300)).await;
        let last = load.stop().await;
        cluster.applied(away, last).await;
        assert_catches_up(&cluster, away).await;
        assert_eq!(cluster.network.calls(SNAPSHOT_PART), 0, "the log is enough");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_catches_up_by_snapshot_while_writes_go_on() {
    for (bytes, entries) in [(10, 400), (30 << 10, 60), (300 << 10, 30)] {
        let options = RaftOptions { keep_log_entries: 100, ..short_logs() };
        let (mut cluster, away, engine) = with_one_behind(bytes, entries + 200, options).await;
        let (leader, _) = cluster.leader().await;
        let load = Load::start(cluster.group(leader), bytes.min(1_000));
        cluster.open(away, engine).await;
        cluster.applied(away, entries).await;
        let last = load.stop().await;
        cluster.applied(away, last).await;
        assert!(cluster.network.calls(SNAPSHOT_PART) > 0);
        assert_catches_up(&cluster, away).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_several_groups_catch_up_together() {
    let groups: Vec<GroupId> = (0..6).map(|number| GroupId(GROUP.0 + number)).collect();
    let mut cluster = Cluster::start_groups(3, groups.clone(), short_logs()).await;
    let leader_of = |cluster: &Cluster, group: GroupId| {
        let leads = |replica: &u64| {
            matches!(*cluster.group_of(*replica, group).leadership().borrow(), Leadership::Leader { .. })
        };
        cluster.running().into_iter().find(leads)
    };
    let engine = cluster.kill(3).await;
    for (number, group) in groups.iter().enumerate() {
        cluster.until("a leader", || leader_of(&cluster, *group).is_some()).await;
        let leader = cluster.group_of(leader_of(&cluster, *group).expect("just seen"), *group);
        // Groups of very different sizes share one place to receive in.
        let payload = "x".repeat(1 << (2 * number + 6));
        for _ in 0..60 {
            propose(&leader, &payload).await.expect("the leader stays");
        }
        cluster.until("a purge", || leader.status().purged > Some(30)).await;
    }
    cluster.open(3, engine).await;
    for group in groups {
        let ledgers_agree = || cluster.ledger_of(3, group).len() == 60;
        cluster.until("a whole ledger", ledgers_agree).await;
        assert!(cluster.ledger_of(3, group) == cluster.ledger_of(1, group), "the ledgers differ");
    }
}

/// Lets some parts of a snapshot pass and loses the rest; counts what came.
fn lose_parts_after(cluster: &Cluster, passing: u64) -> Arc<AtomicU64> {
    let parts = Arc::new(AtomicU64::new(0));
    let seen = parts.clone();
    cluster.network.meddle(Some(Box::new(move |call| {
        let lost = call.kind == SNAPSHOT_PART && seen.fetch_add(1, Ordering::SeqCst) >= passing;
        (!lost).then_some(call)
    })));
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_restarts_half_way_begins_anew() {
    let (mut cluster, away, engine) = with_one_behind(100 << 10, 40, short_logs()).await;
    let parts = lose_parts_after(&cluster, 6);
    cluster.open(away, engine).await;
    cluster.until("half a snapshot", || parts.load(Ordering::SeqCst) > 6).await;
    let engine = cluster.cut_power(away).await;
    cluster.network.meddle(None);
    cluster.open(away, engine).await;
    assert_catches_up(&cluster, away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_dies_half_way_is_replaced_by_another() {
    let (mut cluster, away, engine) = with_one_behind(100 << 10, 40, short_logs()).await;
    let parts = lose_parts_after(&cluster, 6);
    cluster.open(away, engine).await;
    cluster.until("half a snapshot", || parts.load(Ordering::SeqCst) > 6).await;
    let (leader, _) = cluster.leader().await;
    let engine = cluster.kill(leader).await;
    cluster.network.meddle(None);
    assert_catches_up(&cluster, away).await;
    cluster.open(leader, engine).await;
    assert_catches_up(&cluster, away).await;
}

/// What is done to one part; the sender's checksum of the part may be made to fit again.
fn damaged(call: PeerCall, mends_part: bool) -> PeerCall {
    let mut part = proto::RaftSnapshotPart::decode(call.body).expect("a part");
    let mut pairs = part.pairs.to_vec();
    *pairs.last_mut().expect("a part with pairs") ^= 1;
    if mends_part {
        part.checksum = crc32c::crc32c(&pairs);
    }
    part.pairs = pairs.into();
    PeerCall { body: part.encode_to_vec().into(), ..call }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused_and_sent_anew() {
    for mends_part in [false, true] {
        let (mut cluster, away, engine) = with_one_behind(100 << 10, 40, short_logs()).await;
        let parts = Arc::new(AtomicU64::new(0));
        let seen = parts.clone();
        cluster.network.meddle(Some(Box::new(move |call| {
            if call.kind != SNAPSHOT_PART {
                return Some(call);
            }
            // Only the first transfer is damaged, in its fourth part.
            let damages = seen.fetch_add(1, Ordering::SeqCst) == 3;
            Some(if damages { damaged(call, mends_part) } else { call })
        })));
        cluster.open(away, engine).await;
        assert_catches_up(&cluster, away).await;
        let parts_of_one = 16;
        assert!(parts.load(Ordering::SeqCst) > parts_of_one + 3, "it was sent twice");
        let wrong = cluster.ledger(away).into_iter().filter(|(_, payload)| payload.len() == 100 << 10);
        assert!(wrong.into_iter().all(|(_, payload)| payload.iter().all(|byte| *byte == b'x')), "damage was installed");
    }
}
