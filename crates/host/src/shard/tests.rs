//! A shard of one replica, on a real group over the memory engine.

use std::collections::BTreeMap;

use conclave_raft::{
    Lane, LogSyncer, LogWriter, PeerCall, PeerError, PeerTransport, RaftNode, RaftOptions, Step, peers::PeerFuture,
};
use conclave_room::{Advance, Command, Operation, Origin, Outcome};
use conclave_storage::MemoryEngine;
use conclave_types::{ReplicaId, Timestamp};
use tokio::time::{Instant, timeout};

use super::*;
use crate::workers::Blocking;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

struct Nobody;

impl PeerTransport for Nobody {
    fn call(&self, target: PeerAddress, _: Lane, _: PeerCall, _: Duration) -> PeerFuture {
        Box::pin(async move { Err(PeerError::Unreachable(target.address)) })
    }
}

struct Running(Instant);

impl Clock for Running {
    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.monotonic().as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Alone;

impl VoterClocks for Alone {
    fn others(&self) -> Vec<Timestamp> {
        Vec::new()
    }
}

fn step_log(mut writer: LogWriter, mut syncer: LogSyncer) {
    tokio::spawn(async move { while let Step::Done = writer.step().await {} });
    tokio::spawn(async move { while let Step::Done = syncer.step().await {} });
}

async fn led_alone() -> Arc<Shard> {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let options = RaftOptions { transfer_timeout: Duration::from_millis(300), ..RaftOptions::for_tests() };
    let (raft, writer, syncer) = RaftNode::new(options, engine.clone(), Arc::new(Nobody));
    step_log(writer, syncer);
    let seed = ShardSeed::new(engine, Arc::new(Workers::new(Blocking::Threads)), watch::channel(()).0);
    let (id, replica) = (ShardId(0), ReplicaId(1));
    let group = raft.open(id.group(), replica, seed.machine(id.group())).await.expect("opened");
    let voters: VoterClocksOf = Arc::new(|_| Box::new(Alone));
    let shard = seed.start(id, group.clone(), Arc::new(Running(Instant::now())), voters);
    let address = PeerAddress { node: None, address: "127.0.0.1:1".into() };
    group.initialize(BTreeMap::from([(replica, address)])).await.expect("initialized");
    shard
}

/// Proposes something harmless until the result is as wanted.
async fn propose_until(shard: &Shard, wanted: impl Fn(&Result<Outcome, Unproposed>) -> bool) {
    let proposing = async {
        loop {
            if let Ok(leading) = shard.leading() {
                let operation = Operation::Advance(Advance { limit: 1 });
                let outcome = leading.proposer.propose_in_turn(Command { origin: Origin::Host, operation }).await;
                if wanted(&outcome) {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, proposing).await.expect("within patience");
}

#[tokio::test]
async fn a_leadership_that_could_not_be_handed_over_is_served_again() {
    let shard = led_alone().await;
    propose_until(&shard, Result::is_ok).await;
    let refused = propose_until(&shard, |outcome| *outcome == Err(Unproposed::NotLeader));
    let (handed_over, ()) = tokio::join!(shard.transfer(), refused);
    assert!(handed_over.is_err(), "nobody is there to take it");
    propose_until(&shard, Result::is_ok).await;
    shard.stop().await;
}
