//! openraft's own suite for storage, run over this crate's.

use std::sync::Arc;

use bytes::Bytes;
use conclave_storage::{MemoryEngine, WriteBatch};
use conclave_types::GroupId;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::task::JoinHandle;

use crate::apply::Applier;
use crate::apply_lane::ApplyLane;
use crate::group_log::GroupLog;
use crate::log_cache::CacheBudget;
use crate::log_store::LogStore;
use crate::log_writer::{Step, log_writer};
use crate::types::Raft;
use crate::{Committed, RaftOptions, Reply, StateMachine, StateMachineError};

const GROUP: GroupId = GroupId(5);

struct Indifferent;

impl StateMachine for Indifferent {
    fn apply(&mut self, entries: &[Committed], _writes: &mut WriteBatch) -> Result<Vec<Reply>, StateMachineError> {
        Ok(entries.iter().map(|_| Box::new(Bytes::new()) as Reply).collect())
    }

    fn written(&mut self) {}

    fn replaced(&mut self) -> Result<(), StateMachineError> {
        Ok(())
    }
}

/// Builds stores whose entries stay cached, or are read back from the engine every time.
struct Builder {
    log_cache_bytes: usize,
}

/// Steps the writer and the syncer of one store for as long as it lives.
struct Stepping(Vec<JoinHandle<()>>);

impl Drop for Stepping {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl StoreBuilder<Raft, LogStore, Applier, Stepping> for Builder {
    async fn build(&self) -> Result<(Stepping, LogStore, Applier), StorageError<Raft>> {
        let engine = Arc::new(MemoryEngine::new());
        let (queue, mut writer, mut syncer) = log_writer(engine.clone());
        let stepping = Stepping(vec![
            tokio::spawn(async move { while let Step::Done = writer.step().await {} }),
            tokio::spawn(async move { while let Step::Done = syncer.step().await {} }),
        ]);
        let budget = Arc::new(CacheBudget::new(self.log_cache_bytes));
        let log = GroupLog::open(GROUP, engine.clone(), queue, &budget).expect("an empty engine");
        let unbound = GroupLog::open(GROUP, engine.clone(), log.queue.clone(), &budget).expect("an empty engine");
        unbound.count_all_as_written();
        let lane = ApplyLane::new(GROUP, engine.clone(), unbound.queue.clone());
        let opened = Applier::open(GROUP, &RaftOptions::for_tests(), engine, unbound, lane, Box::new(Indifferent));
        Ok((stepping, LogStore(log), opened.expect("an empty engine").applier))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_openrafts_contract_from_the_cache() {
    Suite::test_all(Builder { log_cache_bytes: 1 << 20 }).await.expect("the contract");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_openrafts_contract_from_the_engine() {
    Suite::test_all(Builder { log_cache_bytes: 0 }).await.expect("the contract");
}
