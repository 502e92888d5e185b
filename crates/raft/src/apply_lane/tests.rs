//! Turns are taken, whatever the threads do; and what a stopped or broken replica refuses.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use conclave_storage::{Damage, EngineStats, KeyRange, MemoryEngine, Pairs, Staging};
use futures::{FutureExt, stream};
use openraft::entry::RaftEntry as _;
use openraft::storage::RaftStateMachine;

use super::*;
use crate::apply::Applier;
use crate::group_log::GroupLog;
use crate::log_cache::CacheBudget;
use crate::log_writer::{LogSyncer, LogWriter, Step, log_writer};
use crate::snapshot::SnapshotState;
use crate::types::{Entry, EntryPayload, LeaderId, LogId, Payload, SnapshotMeta};
use crate::{Committed, LOCAL_CLASS, RaftOptions, Reply, StateMachine, StateMachineError};

const GROUP: GroupId = GroupId(5);

/// Counts entries in a local key, reading and writing it as no state machine should: so that a turn that is not kept
/// loses a count.
struct Tally(Arc<dyn Engine>);

impl StateMachine for Tally {
    fn apply(&mut self, entries: &[Committed], writes: &mut WriteBatch) -> Result<Vec<Reply>, StateMachineError> {
        count(&*self.0, writes, entries.len() as u64)?;
        Ok(entries.iter().map(|_| Box::new(()) as Reply).collect())
    }

    fn written(&mut self) {}

    fn replaced(&mut self) -> Result<(), StateMachineError> {
        Ok(())
    }
}

fn tally_key() -> Vec<u8> {
    vec![0, 5, LOCAL_CLASS, b't']
}

fn tally(view: &dyn EngineView) -> Result<u64, EngineError> {
    let value = view.get(Family::State, &tally_key())?;
    Ok(value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().expect("eight bytes"))))
}

/// Adds to the tally, and invites another thread in between.
fn count(view: &dyn EngineView, writes: &mut WriteBatch, more: u64) -> Result<u64, EngineError> {
    let tally = tally(view)? + more;
    std::thread::yield_now();
    writes.put(Family::State, tally_key(), tally.to_be_bytes());
    Ok(tally)
}

struct Replica {
    engine: Arc<dyn Engine>,
    lane: Arc<ApplyLane>,
    applier: Applier,
    writer: LogWriter,
    syncer: LogSyncer,
}

fn replica_on(engine: Arc<dyn Engine>) -> Replica {
    let (queue, writer, syncer) = log_writer(engine.clone());
    let budget = Arc::new(CacheBudget::new(0));
    let log = GroupLog::open(GROUP, engine.clone(), queue.clone(), &budget).expect("an empty engine");
    log.count_all_as_written();
    let lane = ApplyLane::new(GROUP, engine.clone(), queue);
    let machine = Box::new(Tally(engine.clone()));
    let opened = Applier::open(GROUP, &RaftOptions::for_tests(), engine.clone(), log, lane.clone(), machine);
    Replica { engine, lane, applier: opened.expect("an empty engine").applier, writer, syncer }
}

fn replica() -> Replica {
    replica_on(Arc::new(MemoryEngine::new()))
}

fn entry(index: u64) -> Entry {
    let payload = EntryPayload::Normal(Payload(Bytes::from_static(b"one")));
    Entry::new(LogId::new(LeaderId { term: 1, node_id: 1 }, index), payload)
}

async fn apply_one(applier: &mut Applier, index: u64) {
    applier.apply(stream::iter([Ok((entry(index), None))])).await.expect("it applies");
}

/// Another replica's state: two entries and one local write.
async fn snapshot_of_three() -> (SnapshotMeta, SnapshotState) {
    let mut other = replica();
    for index in 0..2 {
        apply_one(&mut other.applier, index).await;
    }
    other.lane.write_local(|view, writes| count(view, writes, 1)).await.expect("it is open");
    let snapshot = other.applier.get_current_snapshot().await.expect("it is readable").expect("entries were applied");
    (snapshot.meta, snapshot.snapshot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn apply_and_local_writes_never_interleave() {
    const EACH: u64 = 2_000;
    let Replica { engine, lane, mut applier, .. } = replica();
    let local = |lane: Arc<ApplyLane>| async move {
        for _ in 0..EACH {
            lane.write_local(|view, writes| count(view, writes, 1)).await.expect("it is open");
        }
    };
    let writers = [tokio::spawn(local(lane.clone())), tokio::spawn(local(lane))];
    let applying = tokio::spawn(async move {
        for index in 0..EACH {
            apply_one(&mut applier, index).await;
        }
        applier
    });
    for writer in writers {
        writer.await.expect("no panic");
    }
    applying.await.expect("no panic");
    assert_eq!(tally(&*engine).expect("memory"), 3 * EACH);
}

#[tokio::test]
async fn a_local_write_waits_for_an_installation_and_builds_on_it() {
    let Replica { engine, lane, mut applier, mut writer, mut syncer } = replica();
    lane.write_local(|view, writes| count(view, writes, 100)).await.expect("it is open");
    let (meta, state) = snapshot_of_three().await;
    let mut install = pin!(applier.install_snapshot(&meta, state));
    assert!((&mut install).now_or_never().is_none(), "it waits for the disk");
    let mut local = pin!(lane.write_local(|view, writes| count(view, writes, 1)));
    assert!((&mut local).now_or_never().is_none());
    assert!(matches!(writer.step().await, Step::Done));
    assert!((&mut local).now_or_never().is_none(), "what was queued before may still be lost");
    assert!(matches!(syncer.step().await, Step::Done));
    install.await.expect("it installs");
    assert_eq!(local.await.expect("it is open again"), 4);
    assert_eq!(tally(&*engine).expect("memory"), 4);
}

#[tokio::test]
async fn a_snapshot_carries_local_writes() {
    let (meta, state) = snapshot_of_three().await;
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    state.staged(&engine, GROUP, &meta).and_then(|staging| staging.install()).expect("memory");
    assert_eq!(tally(&*engine).expect("memory"), 3);
}

#[tokio::test]
async fn an_installation_that_breaks_off_ends_local_writes() {
    let Replica { lane, mut applier, writer: _writer, syncer: _syncer, .. } = replica();
    let (meta, state) = snapshot_of_three().await;
    let mut local = pin!(lane.write_local(|view, writes| count(view, writes, 1)));
    {
        let mut install = pin!(applier.install_snapshot(&meta, state));
        assert!((&mut install).now_or_never().is_none());
        assert!((&mut local).now_or_never().is_none());
    }
    assert!(matches!(local.await, Err(LocalWriteError::Stopped)));
}

#[tokio::test]
async fn a_stopped_replica_refuses_local_writes() {
    let Replica { engine, lane, applier, .. } = replica();
    drop(applier);
    let refused = lane.write_local(|view, writes| count(view, writes, 1)).await;
    assert!(matches!(refused, Err(LocalWriteError::Stopped)));
    assert_eq!(tally(&*engine).expect("memory"), 0);
}

#[tokio::test]
async fn nothing_is_written_by_a_build_that_fails() {
    let Replica { engine, lane, applier: _applier, .. } = replica();
    let failed = lane.write_local(|view, writes| {
        count(view, writes, 1)?;
        Err::<(), _>(EngineError::Damaged("something else".into()))
    });
    assert!(matches!(failed.await, Err(LocalWriteError::Build(_))));
    assert_eq!(tally(&*engine).expect("memory"), 0);
    lane.write_local(|view, writes| count(view, writes, 1)).await.expect("the lane stays open");
}

#[tokio::test]
async fn keys_that_are_not_local_are_refused() {
    let range = |from: &[u8], to: &[u8]| KeyRange { from: from.to_vec(), to: to.to_vec() };
    let foreign: [fn(&mut WriteBatch); 4] = [
        |writes| writes.put(Family::State, [0, 5, 5, 1], b""),
        |writes| writes.put(Family::State, [0, 4, LOCAL_CLASS, 1], b""),
        |writes| writes.delete(Family::Log, [0, 5, LOCAL_CLASS, 1]),
        |writes| writes.delete(Family::State, [0, 5]),
    ];
    let lane = replica().lane;
    for fill in foreign {
        let mut writes = WriteBatch::new();
        fill(&mut writes);
        assert!(writes.operations().all(|write| !lane.is_local(&write)), "{writes:?}");
    }
    let mut writes = WriteBatch::new();
    writes.delete_range(Family::State, range(&[0, 5, LOCAL_CLASS], &[0, 5, LOCAL_CLASS + 1, 0]));
    assert!(writes.operations().all(|write| !lane.is_local(&write)));
    let mut writes = WriteBatch::new();
    writes.delete_range(Family::State, range(&[0, 5, LOCAL_CLASS], &[0, 5, LOCAL_CLASS + 1]));
    writes.put(Family::State, [0, 5, LOCAL_CLASS, 255, 255], b"");
    assert!(writes.operations().all(|write| lane.is_local(&write)));
}

/// Fails writes once told to.
struct Failing {
    engine: Arc<MemoryEngine>,
    fails: AtomicBool,
}

impl EngineView for Failing {
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

impl Engine for Failing {
    fn write(&self, batch: WriteBatch) -> Result<(), EngineError> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(EngineError::Io("the disk is gone".into())),
            false => self.engine.write(batch),
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
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

#[tokio::test]
async fn a_write_that_fails_stops_the_node() {
    let engine = Arc::new(Failing { engine: Arc::new(MemoryEngine::new()), fails: AtomicBool::new(false) });
    let Replica { lane, applier: _applier, mut writer, syncer: _syncer, .. } = replica_on(engine.clone());
    engine.fails.store(true, Ordering::Relaxed);
    let failed = lane.write_local(|view, writes| count(view, writes, 1)).await;
    assert!(matches!(failed, Err(LocalWriteError::Write(_))));
    assert!(matches!(writer.step().await, Step::Fatal(EngineError::Io(_))));
}
