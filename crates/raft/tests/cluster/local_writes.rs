//! What one replica writes for itself.

use conclave_raft::{Group, LOCAL_CLASS, LocalWriteError, RaftOptions};
use conclave_storage::{EngineView, Family};

use crate::harness::{Cluster, GROUP, propose};

fn note_key() -> Vec<u8> {
    let [high, low] = GROUP.0.to_be_bytes();
    vec![high, low, LOCAL_CLASS, b'n']
}

fn note(cluster: &Cluster, replica: u64) -> Option<Vec<u8>> {
    let note = cluster.hosts[&replica].engine.get(Family::State, &note_key()).expect("memory");
    note.map(|note| note.to_vec())
}

async fn write_note(group: &Group, note: &'static [u8]) -> Result<(), LocalWriteError> {
    let write = group.write_local(|_, writes| {
        writes.put(Family::State, note_key(), note);
        Ok(())
    });
    write.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_write_stays_here_and_travels_in_snapshots_only() {
    let mut cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    cluster.propose("first").await;
    let (leader, _) = cluster.leader().await;
    let followers: Vec<u64> = cluster.running().into_iter().filter(|replica| *replica != leader).collect();
    let [away, near] = followers[..] else { panic!("two followers") };
    let engine = cluster.kill(away).await;
    write_note(&cluster.group(leader), b"noted").await.expect("the replica runs");
    let group = cluster.group(leader);
    for _ in 0..600 {
        propose(&group, "one of many").await.expect("the leader stays");
    }
    cluster.until("a purge", || cluster.group(leader).status().purged.is_some_and(|purged| purged > 300)).await;
    cluster.open(away, engine).await;
    let last = cluster.propose("last").await;
    cluster.applied(away, last).await;
    cluster.applied(near, last).await;
    assert_eq!(note(&cluster, leader).as_deref(), Some(&b"noted"[..]));
    assert_eq!(note(&cluster, away).as_deref(), Some(&b"noted"[..]));
    assert_eq!(note(&cluster, near), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_write_survives_once_something_after_it_is_durable() {
    let mut cluster = Cluster::start(1, RaftOptions::for_tests()).await;
    cluster.propose("first").await;
    write_note(&cluster.group(1), b"noted").await.expect("the replica runs");
    cluster.propose("second").await;
    let engine = cluster.cut_power(1).await;
    cluster.open(1, engine).await;
    assert_eq!(note(&cluster, 1).as_deref(), Some(&b"noted"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_shut_down_refuses_local_writes() {
    let cluster = Cluster::start(1, RaftOptions::for_tests()).await;
    cluster.propose("first").await;
    let group = cluster.group(1);
    group.clone().shutdown().await;
    assert!(matches!(write_note(&group, b"late").await, Err(LocalWriteError::Stopped)));
    assert_eq!(note(&cluster, 1), None);
}
