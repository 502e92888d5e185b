//! A damaged store neither votes nor leads nor serves; state that only makes no sense stops its replica alone.

use std::sync::Arc;

use bytes::Bytes;
use conclave_raft::{BarrierError, Leadership, OpenError, PeerCall, PeerError, ProposeError, RaftOptions};
use conclave_storage::{Engine, EngineError, EngineView, Family, KeyRange, MemoryEngine, WriteBatch};
use conclave_types::{GroupId, ReplicaId};

use crate::harness::{Cluster, GROUP, PATIENCE, UNACCEPTABLE, propose};

const VOTE: u32 = 2;

/// Keys of the group by the layout on disk.
fn log_key(kind: u8) -> Vec<u8> {
    let [high, low] = GROUP.0.to_be_bytes();
    vec![high, low, kind]
}

fn entry_key(index: u64) -> Vec<u8> {
    [&log_key(b'e')[..], &index.to_be_bytes()].concat()
}

fn state_key(kind: u8) -> Vec<u8> {
    let [high, low] = GROUP.0.to_be_bytes();
    vec![high, low, 0, kind]
}

fn flip(engine: &MemoryEngine, family: Family, key: &[u8]) {
    let mut value = engine.get(family, key).expect("memory").expect("a stored value").to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    let mut batch = WriteBatch::new();
    batch.put(family, key, value);
    engine.write(batch).and_then(|()| engine.sync()).expect("memory");
}

fn remove(engine: &MemoryEngine, key: &[u8]) {
    let mut batch = WriteBatch::new();
    batch.delete(Family::Log, key);
    engine.write(batch).and_then(|()| engine.sync()).expect("memory");
}

fn copy(engine: &MemoryEngine) -> Arc<MemoryEngine> {
    let copy = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    for family in Family::ALL {
        for pair in engine.scan(family, KeyRange { from: Vec::new(), to: vec![0xff] }) {
            let (key, value) = pair.expect("memory");
            batch.put(family, key, value);
        }
    }
    copy.write(batch).and_then(|()| copy.sync()).expect("memory");
    Arc::new(copy)
}

/// Indexes of the entries that an engine holds.
fn stored(engine: &MemoryEngine) -> Vec<u64> {
    let entries = engine.scan(Family::Log, KeyRange { from: log_key(b'e'), to: log_key(b'f') });
    entries.map(|pair| u64::from_be_bytes(pair.expect("memory").0[3..].try_into().expect("eight bytes"))).collect()
}

/// A cluster of three with a log that was purged, and the engine of a killed follower.
async fn with_a_follower_down() -> (Cluster, u64, Arc<MemoryEngine>) {
    let mut cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let mut last = 0;
    for round in 0..260 {
        last = cluster.propose(&format!("round {round}")).await;
    }
    let (leader, _) = cluster.leader().await;
    let follower = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
    cluster.applied(follower, last).await;
    cluster.until("a purge", || cluster.group(follower).status().purged.is_some()).await;
    let engine = cluster.kill(follower).await;
    (cluster, follower, engine)
}

async fn assert_silent(cluster: &Cluster, replica: u64) {
    let handler = cluster.network.handler(replica);
    let vote = PeerCall { group: GROUP, to: ReplicaId(replica), from: ReplicaId(9), kind: VOTE, body: Bytes::new() };
    let answer = handler.handle(vote).await;
    assert!(matches!(answer, Err(PeerError::Refused(_))), "{answer:?}");
    let group = cluster.group(replica);
    assert_eq!(*group.leadership().borrow(), Leadership::Stopped);
    assert_eq!(propose(&group, "never").await, Err(ProposeError::Stopped));
    assert_eq!(group.read_barrier().await, Err(BarrierError::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_at_the_ends_of_a_log_refuses_to_open() {
    let (mut cluster, follower, sound) = with_a_follower_down().await;
    let indexes = stored(&sound);
    let (first, last) = (indexes[0], indexes[indexes.len() - 1]);
    assert!(first > 0 && sound.get(Family::Log, &log_key(b'p')).expect("memory").is_some());
    type Inflict = Box<dyn Fn(&MemoryEngine)>;
    let flipped = |family, key: Vec<u8>| -> Inflict { Box::new(move |engine| flip(engine, family, &key)) };
    let damages: [(&str, Inflict); 9] = [
        ("the vote is flipped", flipped(Family::Log, log_key(b'v'))),
        ("the purged position is flipped", flipped(Family::Log, log_key(b'p'))),
        ("the committed position is flipped", flipped(Family::Log, log_key(b'c'))),
        ("the first entry is flipped", flipped(Family::Log, entry_key(first))),
        ("the last entry is flipped", flipped(Family::Log, entry_key(last))),
        ("the applied position is flipped", flipped(Family::State, state_key(b'a'))),
        ("the membership is flipped", flipped(Family::State, state_key(b'm'))),
        ("the first entry is gone", Box::new(move |engine| remove(engine, &entry_key(first)))),
        ("the purged position is gone", Box::new(|engine| remove(engine, &log_key(b'p')))),
    ];
    for (what, inflict) in damages {
        let engine = copy(&sound);
        inflict(&engine);
        let refused = cluster.try_open(follower, engine.clone()).await;
        assert!(matches!(refused, Err(OpenError::Engine(EngineError::Damaged(_)))), "{what}: {refused:?}");
        assert!(engine.damage().reported().is_some(), "{what}");
    }
    cluster.propose("the others go on").await;
    cluster.open(follower, sound).await;
    let last = cluster.propose("all of them").await;
    cluster.applied(follower, last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_a_log_is_found_soon_and_stops_the_replica() {
    let (mut cluster, follower, sound) = with_a_follower_down().await;
    let indexes = stored(&sound);
    let middle = indexes[indexes.len() / 2];
    let damages: [fn(&MemoryEngine, u64); 2] = [
        |engine, middle| flip(engine, Family::Log, &entry_key(middle)),
        |engine, middle| remove(engine, &entry_key(middle)),
    ];
    for inflict in damages {
        let engine = copy(&sound);
        inflict(&engine, middle);
        match cluster.try_open(follower, engine.clone()).await {
            Ok(()) => {
                let mut leadership = cluster.group(follower).leadership();
                leadership.wait_for(|now| *now == Leadership::Stopped).await.expect("it says so before it ends");
                assert_silent(&cluster, follower).await;
                cluster.kill(follower).await;
            }
            // Had it been read already while the replica opened.
            Err(refused) => assert!(matches!(refused, OpenError::Start(_) | OpenError::Engine(_)), "{refused:?}"),
        }
        assert!(engine.damage().reported().is_some());
        cluster.propose("the others go on").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_stops_every_replica_of_the_store() {
    let groups = vec![GROUP, GroupId(4), GroupId(5)];
    let cluster = Cluster::start_groups(1, groups.clone(), RaftOptions::for_tests()).await;
    cluster.leader().await;
    cluster.hosts[&1].engine.damage().report("a block of another group");
    for group in groups {
        let mut leadership = cluster.group_of(1, group).leadership();
        leadership.wait_for(|now| *now == Leadership::Stopped).await.expect("it says so before it ends");
    }
    assert_silent(&cluster, 1).await;
}

/// Nothing happens to a follower by itself; that its leader falls silent must be enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_on_a_damaged_store_stops_and_is_never_elected() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let (leader, _) = cluster.leader().await;
    let follower = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
    cluster.hosts[&follower].engine.damage().report("a block of another group");
    let mut leadership = cluster.group(follower).leadership();
    let stopped = leadership.wait_for(|now| {
        assert!(!matches!(now, Leadership::Leader { .. }), "it was elected");
        *now == Leadership::Stopped
    });
    tokio::time::timeout(PATIENCE, stopped).await.expect("it stops").expect("it says so before it ends");
    assert_silent(&cluster, follower).await;
    cluster.propose("the others go on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_makes_no_sense_stops_its_replicas_and_condemns_no_store() {
    let other = GroupId(4);
    let mut cluster = Cluster::start_groups(3, vec![GROUP, other], RaftOptions::for_tests()).await;
    let (leader, _) = cluster.leader().await;
    assert_eq!(propose(&cluster.group(leader), UNACCEPTABLE).await, Err(ProposeError::Unknown));
    // The entry commits again under the next leader. Then no majority is left to tell the third of it.
    let stopped = || {
        let is_stopped = |replica: &u64| *cluster.group(*replica).leadership().borrow() == Leadership::Stopped;
        cluster.running().into_iter().filter(is_stopped).collect::<Vec<_>>()
    };
    cluster.until("a majority has stopped", || stopped().len() >= 2).await;
    for replica in stopped() {
        assert_silent(&cluster, replica).await;
        assert!(cluster.group(replica).status().fatal.is_some());
    }
    for host in cluster.hosts.values() {
        assert_eq!(host.engine.damage().reported(), None);
    }
    let goes_on = || cluster.running().into_iter().any(|replica| leads(&cluster, replica, other));
    cluster.until("the other group has a leader", goes_on).await;

    // It is still there after a restart, and still understood by nobody.
    let engine = cluster.kill(leader).await;
    match cluster.try_open(leader, engine.clone()).await {
        Ok(()) => {
            let mut leadership = cluster.group(leader).leadership();
            leadership.wait_for(|now| *now == Leadership::Stopped).await.expect("it says so before it ends");
        }
        Err(refused) => assert!(matches!(refused, OpenError::Start(_)), "{refused:?}"),
    }
    assert_eq!(engine.damage().reported(), None);
}

fn leads(cluster: &Cluster, replica: u64, group: GroupId) -> bool {
    matches!(*cluster.group_of(replica, group).leadership().borrow(), Leadership::Leader { .. })
}
