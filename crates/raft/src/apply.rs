//! openraft's state machine on top of a caller's [`StateMachine`].
//!
//! Committed entries are applied in batches; what a batch writes, how far it came and the membership it leaves are one
//! atomic write, so a crash never shows one without the other. That write is not synced: what is lost of it is applied
//! again from the log. A batch waits until its entries are written, so that the engine's write-ahead log always holds
//! an entry before its effects.

use std::io;
use std::sync::Arc;

use conclave_faults::{Point, reached};
use conclave_storage::{Engine, EngineError, Family, WriteBatch};
use conclave_types::GroupId;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::apply_lane::ApplyLane;
use crate::group_log::GroupLog;
use crate::keys;
use crate::limits::{MAX_APPLY_BYTES, MAX_APPLY_ENTRIES};
use crate::log_cache::size;
use crate::snapshot::{self, SnapshotState};
use crate::types::{Entry, EntryPayload, LogId, Raft, Response, Snapshot, SnapshotMeta, StoredMembership};
use crate::{Committed, LeaderTerm, RaftOptions, StateMachine, StateMachineError};

pub(crate) struct Applier {
    group: GroupId,
    engine: Arc<dyn Engine>,
    log: Arc<GroupLog>,
    lane: Arc<ApplyLane>,
    /// Only ever used exclusively: openraft asks for `Sync`, and a state machine is only `Send`.
    machine: Mutex<Box<dyn StateMachine>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    progress: watch::Sender<ApplyProgress>,
    compaction: Compaction,
    /// Tells by being dropped that nothing more is applied.
    _gone: oneshot::Sender<()>,
}

/// When the next compaction is due.
#[derive(Debug, Clone, Copy)]
struct Compaction {
    after_entries: u64,
    after_bytes: u64,
    /// Index after the last entry, and bytes applied since, as of the last one.
    end: u64,
    bytes: u64,
}

/// What others may watch of the applier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ApplyProgress {
    /// Whose entry was applied last.
    pub(crate) leadership: Option<LeaderTerm>,
    /// How often enough log had gathered for a compaction.
    pub(crate) compactions_due: u64,
}

/// A new applier, and how to watch it.
pub(crate) struct Opened {
    pub(crate) applier: Applier,
    pub(crate) progress: watch::Receiver<ApplyProgress>,
    pub(crate) gone: oneshot::Receiver<()>,
}

type Work = (Entry, Option<ApplyResponder<Raft>>);

#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Machine(#[from] StateMachineError),
    #[error("writing state failed: {0}")]
    Write(EngineError),
    #[error("{replies} replies for {entries} entries")]
    Replies { replies: usize, entries: usize },
}

impl Applier {
    pub(crate) fn open(
        group: GroupId,
        options: &RaftOptions,
        engine: Arc<dyn Engine>,
        log: Arc<GroupLog>,
        lane: Arc<ApplyLane>,
        machine: Box<dyn StateMachine>,
    ) -> Result<Opened, EngineError> {
        let meta = engine.damage().reporting(snapshot::meta_of(&*engine, group))?;
        let SnapshotMeta { last_log_id: applied, last_membership: membership } = meta;
        let (log_start, _) = log.bounds();
        let compaction = Compaction {
            after_entries: options.compact_after_entries,
            after_bytes: options.compact_after_bytes,
            end: log_start.map_or(0, |purged| purged.index + 1),
            bytes: 0,
        };
        let progress = ApplyProgress { leadership: applied.map(|at| at.leader_id.into()), compactions_due: 0 };
        let (progress, watched) = watch::channel(progress);
        let (gone_tx, gone) = oneshot::channel();
        let machine = Mutex::new(machine);
        let applier =
            Applier { group, engine, log, lane, machine, applied, membership, progress, compaction, _gone: gone_tx };
        Ok(Opened { applier, progress: watched, gone })
    }

    async fn apply_batch(&mut self, work: Vec<Work>) -> Result<(), io::Error> {
        let Some((last, _)) = work.last() else { return Ok(()) };
        self.log.written(last.log_id.index).await.map_err(io::Error::other)?;
        match self.apply_written(work) {
            Ok(()) => Ok(()),
            Err(error) => {
                if let ApplyError::Write(engine) = &error {
                    self.log.queue.fail(engine.clone()).await;
                }
                Err(io::Error::other(error))
            }
        }
    }

    fn apply_written(&mut self, work: Vec<Work>) -> Result<(), ApplyError> {
        let mut writes = WriteBatch::new();
        let membership_before = *self.membership.log_id();
        let committed = self.note_positions(&work);
        let lane = self.lane.apply();
        let replies = match committed.is_empty() {
            true => Vec::new(),
            false => self.machine.get_mut().apply(&committed, &mut writes)?,
        };
        if replies.len() != committed.len() {
            return Err(ApplyError::Replies { replies: replies.len(), entries: committed.len() });
        }
        self.put_applied(&mut writes);
        if *self.membership.log_id() != membership_before {
            self.put_membership(&mut writes);
        }
        self.engine.write(writes).map_err(ApplyError::Write)?;
        reached(Point::Applied);
        drop(lane);
        if !committed.is_empty() {
            self.machine.get_mut().written();
        }
        self.report(work.iter().map(|(entry, _)| size(entry) as u64).sum());
        let mut replies = replies.into_iter();
        for (entry, responder) in work {
            let reply = match entry.payload {
                EntryPayload::Normal(_) => replies.next(),
                EntryPayload::Blank | EntryPayload::Membership(_) => None,
            };
            if let Some(responder) = responder {
                responder.send(Response::new(reply));
            }
        }
        Ok(())
    }

    /// Moves on over the entries; returns those that mean something to the state machine.
    fn note_positions(&mut self, work: &[Work]) -> Vec<Committed> {
        let mut committed = Vec::with_capacity(work.len());
        for (entry, responder) in work {
            self.applied = Some(entry.log_id);
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                }
                EntryPayload::Normal(payload) => committed.push(Committed {
                    index: entry.log_id.index,
                    payload: payload.0.clone(),
                    awaited: responder.is_some(),
                }),
            }
        }
        committed
    }

    fn put_applied(&self, writes: &mut WriteBatch) {
        if let Some(applied) = &self.applied {
            let key = keys::applied(self.group);
            let value = keys::encode_log_id(&key, applied);
            writes.put(Family::State, key, value);
        }
    }

    fn put_membership(&self, writes: &mut WriteBatch) {
        let key = keys::membership(self.group);
        let value = keys::encode_stored_membership(&key, &self.membership);
        writes.put(Family::State, key, value);
    }

    /// Wakes watchers only when something changed that they act on.
    fn report(&mut self, bytes: u64) {
        let leadership = self.applied.map(|applied| applied.leader_id.into());
        let end = self.applied.map_or(0, |applied| applied.index + 1);
        self.compaction.bytes += bytes;
        let due = self.compaction.bytes >= self.compaction.after_bytes
            || end.saturating_sub(self.compaction.end) >= self.compaction.after_entries;
        if due {
            self.compaction.bytes = 0;
            self.compaction.end = end;
        }
        self.progress.send_if_modified(|progress| {
            let changed = due || progress.leadership != leadership;
            progress.leadership = leadership;
            progress.compactions_due += u64::from(due);
            changed
        });
    }

    /// Nothing that the new state relies on is in the log: it holds its own position and membership. What this group
    /// queued before is durable first all the same, as the order of the queue says everywhere else.
    async fn install(&mut self, meta: &SnapshotMeta, state: SnapshotState) -> Result<(), io::Error> {
        let replacing = self.lane.replace();
        self.log.queue.write_durably(WriteBatch::new(), None).await.map_err(io::Error::other)?;
        reached(Point::SnapshotInstalling);
        if let Err(error) = self.replace_state(meta, state) {
            self.log.queue.fail(error.clone()).await;
            return Err(io::Error::other(error));
        }
        reached(Point::SnapshotInstalled);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.machine.get_mut().replaced().map_err(io::Error::other)?;
        replacing.done();
        self.report(0);
        Ok(())
    }

    fn replace_state(&self, meta: &SnapshotMeta, state: SnapshotState) -> Result<(), EngineError> {
        state.staged(&self.engine, self.group, meta)?.install()
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.lane.close();
    }
}

impl RaftStateMachine<Raft> for Applier {
    type SnapshotData = SnapshotState;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Raft>, io::Error>> + Unpin + OptionalSend,
    {
        let mut work: Vec<Work> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = entries.next().await {
            let next = next?;
            let next_bytes = size(&next.0);
            let full = work.len() == MAX_APPLY_ENTRIES || bytes + next_bytes > MAX_APPLY_BYTES;
            if full && !work.is_empty() {
                self.apply_batch(std::mem::take(&mut work)).await?;
                bytes = 0;
            }
            bytes += next_bytes;
            work.push(next);
        }
        self.apply_batch(work).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { group: self.group, engine: self.engine.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotState) -> Result<(), io::Error> {
        tracing::info!(group = self.group.0, last = ?meta.last_log_id, "installing a snapshot");
        self.install(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if self.applied.is_none() {
            return Ok(None);
        }
        present(&self.engine, self.group).map(Some).map_err(io::Error::other)
    }
}

/// The state as it is now, and how far it reaches.
fn present(engine: &Arc<dyn Engine>, group: GroupId) -> Result<Snapshot, EngineError> {
    let view = engine.clone().snapshot();
    let meta = engine.damage().reporting(snapshot::meta_of(&*view, group))?;
    Ok(Snapshot { meta, snapshot: SnapshotState::Pinned { group, view } })
}

/// "Builds" what is on disk already; only how far it reaches matters.
pub(crate) struct Builder {
    group: GroupId,
    engine: Arc<dyn Engine>,
}

impl RaftSnapshotBuilder<Raft> for Builder {
    type SnapshotData = SnapshotState;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        present(&self.engine, self.group).map_err(io::Error::other)
    }
}
