//! A replica that breaks an invariant stops serving its shard and says so; the others go on.

use conclave_storage::{Engine, Family, WriteBatch};
use conclave_types::GroupId;
use tonic::Code;

use crate::calls::items;
use crate::cluster::{Cluster, PATIENCE, THREE_HOSTS};

const JOBS: &str = "rooms/lab/queues/jobs";

/// Puts something into a shard's state that no entry has written there: the shard's own header makes no sense any more.
fn break_state(cluster: &Cluster, host: usize, group: GroupId) {
    let [high, low] = group.0.to_be_bytes();
    let mut batch = WriteBatch::new();
    batch.put(Family::State, vec![high, low, 0x04], *b"not a header");
    cluster.engine(host).write(batch).expect("a memory engine");
}

/// Waits until the host says why its replica of the only shard has stopped.
async fn stopped_reason(cluster: &Cluster, host: usize) -> String {
    let looks = async {
        loop {
            let status = cluster.status(host).await;
            if let Some(reason) = status.shards.into_iter().next().and_then(|shard| shard.stopped_reason) {
                return reason;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.expect("the replica never stops")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_follower_stops_alone_and_says_why() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, _, ada) = cluster.with_room("lab", "ada").await;
    let broken = (leader + 1) % 3;
    break_state(&cluster, broken, cluster.shard_of("lab").group());
    ada.send(items(JOBS, &["one"])).await.expect("two of three are enough");
    let reason = stopped_reason(&cluster, broken).await;
    assert!(!reason.is_empty());
    let status = cluster.status(broken).await;
    assert!(!status.shards[0].leading && status.metadata.is_some_and(|metadata| metadata.stopped_reason.is_none()));

    let refused = cluster.caller(broken, "ada").await.send(items(JOBS, &["two"])).await.expect_err("it is stopped");
    assert_eq!(refused.code(), Code::Unavailable);
    ada.send(items(JOBS, &["three"])).await.expect("the others go on");
    assert_eq!(ada.queue(JOBS).await.expect("a read").size, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_leader_is_succeeded() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, _, ada) = cluster.with_room("lab", "ada").await;
    ada.send(items(JOBS, &["before"])).await.expect("served");
    break_state(&cluster, leader, cluster.shard_of("lab").group());
    let unanswered = ada.send(items(JOBS, &["in between"])).await;
    assert!(unanswered.is_err(), "answered by what it could not apply: {unanswered:?}");
    stopped_reason(&cluster, leader).await;
    let (_, sent) = cluster.at_any_leader("lab", "ada", async |ada| ada.send(items(JOBS, &["after"])).await).await;
    sent.expect("another leads");
    let (caller, queue) = cluster.at_any_leader("lab", "ada", async |ada| ada.queue(JOBS).await).await;
    // Whether what was not answered took effect is unknown to its sender; nothing else may differ.
    assert!((2..=3).contains(&queue.expect("a read").size));
    drop(caller);
}
