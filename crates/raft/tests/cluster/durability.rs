//! What was acknowledged outlives hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conclave_raft::{Group, ProposeError, RaftNode, RaftOptions, Step};
use conclave_storage::{
    Damage, Engine, EngineError, EngineStats, EngineView, Family, KeyRange, MemoryEngine, Pairs, Staging, WriteBatch,
};
use tokio::task::JoinHandle;

use crate::harness::{Cluster, GROUP, PATIENCE, propose};

/// Proposes one after the other at one replica until it refuses; returns what was acknowledged.
fn keep_proposing(group: Group, name: &'static str) -> JoinHandle<Vec<(u64, String)>> {
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for round in 0.. {
            let payload = format!("{name} {round}");
            match propose(&group, &payload).await {
                Ok(index) => acknowledged.push((index, payload)),
                Err(_) => break,
            }
        }
        acknowledged
    })
}

fn assert_holds(cluster: &Cluster, replica: u64, acknowledged: &[(u64, String)]) {
    let ledger = cluster.ledger(replica);
    for (index, payload) in acknowledged {
        let held = ledger.iter().find(|(at, _)| at == index).map(|(_, payload)| payload.clone());
        assert_eq!(held, Some(Bytes::from(payload.clone())), "replica {replica}, index {index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_the_leader_s_power_cut() {
    let mut cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let mut acknowledged = Vec::new();
    for round in ["first", "second", "third"] {
        let (leader, _) = cluster.leader().await;
        let proposing = keep_proposing(cluster.group(leader), round);
        let before = cluster.ledger(leader).len();
        cluster.until("proposals in work", || cluster.ledger(leader).len() > before + 100).await;
        let engine = cluster.cut_power(leader).await;
        acknowledged.extend(proposing.await.expect("no panic"));
        let (successor, _) = cluster.leader().await;
        cluster.group(successor).read_barrier().await.expect("a majority is left");
        assert_holds(&cluster, successor, &acknowledged);
        cluster.open(leader, engine).await;
    }
    let last = cluster.propose("last").await;
    for replica in cluster.running() {
        cluster.applied(replica, last).await;
        assert_holds(&cluster, replica, &acknowledged);
        assert_eq!(cluster.ledger(replica), cluster.ledger(1), "all replicas agree");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_a_power_cut_of_all() {
    let mut cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let (leader, _) = cluster.leader().await;
    let proposing = keep_proposing(cluster.group(leader), "first");
    cluster.until("proposals in work", || cluster.ledger(leader).len() > 200).await;
    let mut engines = Vec::new();
    for replica in cluster.running() {
        engines.push((replica, cluster.cut_power(replica).await));
    }
    let acknowledged = proposing.await.expect("no panic");
    assert!(acknowledged.len() >= 200);
    for (replica, engine) in engines {
        cluster.open(replica, engine).await;
    }
    let last = cluster.propose("last").await;
    for replica in cluster.running() {
        cluster.applied(replica, last).await;
        assert_holds(&cluster, replica, &acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_returns_at_once_serves_no_old_reads() {
    let mut cluster = Cluster::start(1, RaftOptions::for_tests()).await;
    for round in 0..5 {
        let index = cluster.propose(&format!("round {round}")).await;
        let engine = cluster.cut_power(1).await;
        cluster.open(1, engine).await;
        cluster.leader().await;
        cluster.group(1).read_barrier().await.expect("its own majority");
        assert!(cluster.ledger(1).iter().any(|(at, _)| *at == index), "round {round}");
    }
}

/// Passes everything on until its syncs begin to fail.
struct FailingSync {
    engine: Arc<MemoryEngine>,
    failing: AtomicBool,
}

impl EngineView for FailingSync {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(family, key)
    }

    fn scan(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.engine.scan(family, range)
    }

    fn scan_back(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.engine.scan_back(family, range)
    }
}

impl Engine for FailingSync {
    fn write(&self, batch: WriteBatch) -> Result<(), EngineError> {
        self.engine.write(batch)
    }

    fn sync(&self) -> Result<(), EngineError> {
        match self.failing.load(Ordering::SeqCst) {
            true => Err(EngineError::Io("no space left".into())),
            false => self.engine.sync(),
        }
    }

    fn stage(self: Arc<Self>, family: Family, range: KeyRange) -> Result<Box<dyn Staging>, EngineError> {
        self.engine.clone().stage(family, range)
    }

    fn snapshot(self: Arc<Self>) -> Arc<dyn EngineView> {
        self.engine.clone().snapshot()
    }

    fn damage(&self) -> &Damage {
        self.engine.damage()
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_fatal_and_acknowledges_nothing() {
    struct Nobody;
    impl conclave_raft::PeerTransport for Nobody {
        fn call(
            &self,
            target: conclave_raft::PeerAddress,
            _lane: conclave_raft::Lane,
            _call: conclave_raft::PeerCall,
            _deadline: Duration,
        ) -> conclave_raft::peers::PeerFuture {
            Box::pin(async move { Err(conclave_raft::PeerError::Unreachable(target.address)) })
        }
    }
    let engine = Arc::new(FailingSync { engine: Arc::new(MemoryEngine::new()), failing: AtomicBool::new(false) });
    let (node, mut writer, mut syncer) = RaftNode::new(RaftOptions::for_tests(), engine.clone(), Arc::new(Nobody));
    tokio::spawn(async move { while let Step::Done = writer.step().await {} });
    let syncing = tokio::spawn(async move {
        loop {
            match syncer.step().await {
                Step::Done => {}
                end => return (end, syncer),
            }
        }
    });
    let machine = Box::new(crate::harness::Ledger::new(GROUP));
    let group = node.open(GROUP, conclave_types::ReplicaId(1), machine).await.expect("an empty engine");
    group.initialize([(conclave_types::ReplicaId(1), crate::harness::peer(1))].into()).await.expect("a new group");
    let mut leadership = group.leadership();
    let leads = leadership.wait_for(|now| matches!(now, conclave_raft::Leadership::Leader { .. }));
    tokio::time::timeout(PATIENCE, leads).await.expect("alone").expect("running");
    propose(&group, "durable").await.expect("syncs work");

    engine.failing.store(true, Ordering::SeqCst);
    let mut waiting = tokio::spawn(async move { propose(&group, "lost").await });
    let (end, mut syncer) = tokio::time::timeout(PATIENCE, syncing).await.expect("it ends").expect("no panic");
    assert!(matches!(end, Step::Fatal(EngineError::Io(_))), "{end:?}");
    engine.failing.store(false, Ordering::SeqCst);
    assert!(matches!(syncer.step().await, Step::Fatal(_)), "no sync is tried again");
    let answered = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(
        matches!(answered, Err(_) | Ok(Ok(Err(ProposeError::Unknown | ProposeError::Stopped)))),
        "never acknowledged: {answered:?}"
    );
}
