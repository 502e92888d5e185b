//! A host whose store is gone comes back by itself: its replicas are rebuilt from their peers under new ids.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use conclave_cluster::ClusterTable;
use conclave_proto::internal::v1::{GetHostStatusResponse, ShardStatus};
use conclave_proto::v1::SendItemsRequest;
use conclave_types::{Epoch, GroupId};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::calls::{Caller, items};
use crate::cluster::{Cluster, Founding, PATIENCE, eventually};

const JOBS: &str = "rooms/lab/queues/jobs";
const FOUR_SHARDS: Founding = Founding { hosts: 3, shards: 4, replication: 3, ahead: Vec::new() };
/// Before a write that was not taken is sent to another host, and between two looks at the hosts.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends items one after the other to whichever host takes them, each until it is acknowledged.
struct Writer {
    acknowledged: Arc<AtomicU64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Writer {
    async fn start(cluster: &Cluster) -> Writer {
        cluster.with_room("lab", "ada").await;
        let mut callers = Vec::new();
        for host in 0..3 {
            callers.push(cluster.caller(host, "ada").await);
        }
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let task = tokio::spawn(write(callers, acknowledged.clone(), stop.clone()));
        Writer { acknowledged, stop, task }
    }

    /// Waits until this many more are acknowledged.
    async fn goes_on(&self, more: u64) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + more;
        eventually("writes go on", || self.acknowledged.load(Ordering::SeqCst) >= wanted).await;
    }

    /// Ends after the write under way; returns how many there are.
    async fn end(self) -> u64 {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("the last write is acknowledged").expect("no panic");
        self.acknowledged.load(Ordering::SeqCst)
    }
}

async fn write(callers: Vec<Caller>, acknowledged: Arc<AtomicU64>, stop: CancellationToken) {
    let mut turn = 0;
    while !stop.is_cancelled() {
        let number = acknowledged.load(Ordering::SeqCst);
        let request = SendItemsRequest { request_id: format!("write-{number}"), ..items(JOBS, &["work"]) };
        // A new channel finds a host that came back; an old one may still be on its way to giving up.
        match timeout(Duration::from_secs(2), callers[turn % callers.len()].send(request)).await {
            Ok(Ok(_)) => {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Err(_)) | Err(_) => {
                turn += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until every group's leader has the voters that the table lists, and the host runs on this store; returns the
/// table.
async fn rebuilt(cluster: &Cluster, host: usize, store: u32) -> Arc<ClusterTable> {
    let looks = async {
        loop {
            let mut statuses = Vec::new();
            for host in 0..3 {
                statuses.push(cluster.status(host).await);
            }
            if let Some(table) = cluster.table_of(host)
                && is_rebuilt(&table, &statuses, host, store)
            {
                return table;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, looks).await.expect("the replicas are never rebuilt")
}

fn is_rebuilt(table: &ClusterTable, statuses: &[GetHostStatusResponse], host: usize, store: u32) -> bool {
    let groups = std::iter::once(GroupId::META).chain(table.shards().map(|(id, _)| id.group()));
    let mut groups = groups.map(|group| {
        let listed: BTreeSet<u64> = table.members(group).map(|(member, _)| member.replica.0).collect();
        let replicas: Vec<&ShardStatus> = statuses.iter().filter_map(|status| replica(status, group)).collect();
        let leader = replicas.iter().find(|replica| replica.leading);
        leader.is_some_and(|leader| {
            leader.voters.iter().copied().eq(listed.iter().copied()) && leader.learners.is_empty()
        }) && replicas.iter().map(|replica| replica.replica_id).collect::<BTreeSet<_>>() == listed
    });
    let node = table.nodes.values().find(|node| node.node.0 == *statuses[host].node_uuid).expect("registered");
    node.store == store && statuses[host].store == store && groups.all(|rebuilt| rebuilt)
}

fn replica(status: &GetHostStatusResponse, group: GroupId) -> Option<&ShardStatus> {
    match group.shard() {
        None => status.metadata.as_ref(),
        Some(shard) => status.shards.iter().find(|status| status.shard == u32::from(shard.0)),
    }
}

/// Everything acknowledged is there, once.
async fn holds(cluster: &Cluster, written: u64) {
    let (_, queue) = cluster.at_any_leader("lab", "ada", async |ada| ada.queue(JOBS).await).await;
    assert_eq!(queue.expect("the queue is there").size, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replicas_are_rebuilt_under_new_ids_while_the_others_serve() {
    let mut cluster = Cluster::start(FOUR_SHARDS).await;
    let before = cluster.active(0).await;
    let writer = Writer::start(&cluster).await;
    writer.goes_on(20).await;
    let (leader, _) = cluster.leader("lab").await;
    let lost = (leader + 1) % 3;

    cluster.lose_store(lost).await;
    writer.goes_on(20).await;
    cluster.start_host(lost).await;
    let after = rebuilt(&cluster, lost, 2).await;
    let node = after.nodes.values().find(|node| node.store == 2).expect("the lost node").node;
    for (id, shard) in after.shards() {
        let old = before.shard(id).expect("the same shards").replica_on(node).expect("on every node");
        let new = shard.replica_on(node).expect("on every node");
        assert!(new.replica > old.replica && new.replica >= before.next_replica, "{old:?} {new:?}");
        assert_eq!((new.store, shard.epoch), (2, Epoch(2)));
    }
    writer.goes_on(20).await;

    // Nothing is committed now without what was rebuilt.
    cluster.kill((lost + 1) % 3).await;
    writer.goes_on(20).await;
    let written = writer.end().await;
    holds(&cluster, written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_that_led_the_metadata_group_is_rebuilt_like_any_other() {
    let mut cluster = Cluster::start(FOUR_SHARDS).await;
    let writer = Writer::start(&cluster).await;
    writer.goes_on(10).await;
    let lost = meta_leader(&cluster, &[0, 1, 2]).await;
    cluster.lose_store(lost).await;
    cluster.start_host(lost).await;
    rebuilt(&cluster, lost, 2).await;
    writer.goes_on(10).await;

    // What was rebuilt is opened from its own record, and counts: another is gone.
    cluster.kill(lost).await;
    cluster.start_host(lost).await;
    let table = rebuilt(&cluster, lost, 2).await;
    assert!(table.shards.iter().all(|shard| shard.epoch == Epoch(2)), "a restart replaces nothing");
    cluster.kill((lost + 1) % 3).await;
    writer.goes_on(10).await;
    meta_leader(&cluster, &[lost, (lost + 2) % 3]).await;
    let written = writer.end().await;
    holds(&cluster, written).await;
}

async fn meta_leader(cluster: &Cluster, hosts: &[usize]) -> usize {
    let looks = async {
        loop {
            for host in hosts {
                if cluster.status(*host).await.metadata.is_some_and(|metadata| metadata.leading) {
                    return *host;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, looks).await.expect("the metadata group has a leader")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_store_after_the_other_may_be_lost() {
    let mut cluster = Cluster::start(FOUR_SHARDS).await;
    let writer = Writer::start(&cluster).await;
    for (lost, store, epoch) in [(0, 2, 2), (0, 3, 3), (1, 2, 4), (2, 2, 5)] {
        writer.goes_on(10).await;
        cluster.lose_store(lost).await;
        cluster.start_host(lost).await;
        let table = rebuilt(&cluster, lost, store).await;
        assert!(table.shards.iter().all(|shard| shard.epoch == Epoch(epoch)));
    }
    writer.goes_on(10).await;
    let written = writer.end().await;
    holds(&cluster, written).await;
}
