//! Who may write a replica's state: one at a time.
//!
//! Apply, the installation of a snapshot and local writes exclude each other. Apply and local writes hold a lock from
//! their first read to their write. An installation waits for the disk, so it holds no lock; it closes the lane to local
//! writes instead, and what a local write read is never older than the state that it writes into.
//!
//! ```text
//! Open -- an installation begins --> Replacing -- it is done --> Open
//! any -- the replica stops, or an installation breaks off --> Closed
//! ```

use std::sync::Arc;

use conclave_storage::{Engine, EngineError, EngineView, Family, Operation, WriteBatch};
use conclave_types::GroupId;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::group::LocalWriteError;
use crate::keys;
use crate::log_writer::LogQueue;

pub(crate) struct ApplyLane {
    group: GroupId,
    engine: Arc<dyn Engine>,
    queue: LogQueue,
    phase: Mutex<Phase>,
    reopened: Notify,
}

/// What local writes find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Replacing,
    Closed,
}

/// Why a local write did not run.
enum Turn<F> {
    /// The lane is closed for a moment; the write is given back.
    Later(F),
    Never,
}

/// The turn of apply, until dropped.
pub(crate) struct Applying<'a> {
    _phase: MutexGuard<'a, Phase>,
}

/// The turn of an installation. Dropped before it is done, nobody knows what the state is: the lane stays closed.
pub(crate) struct Replacing<'a> {
    lane: &'a ApplyLane,
    done: bool,
}

impl ApplyLane {
    pub(crate) fn new(group: GroupId, engine: Arc<dyn Engine>, queue: LogQueue) -> Arc<Self> {
        Arc::new(ApplyLane { group, engine, queue, phase: Mutex::new(Phase::Open), reopened: Notify::new() })
    }

    /// Waits for a local write that is under way. Apply is never refused: whoever applies has not stopped.
    pub(crate) fn apply(&self) -> Applying<'_> {
        Applying { _phase: self.phase.lock() }
    }

    pub(crate) fn replace(&self) -> Replacing<'_> {
        let mut phase = self.phase.lock();
        if *phase == Phase::Open {
            *phase = Phase::Replacing;
        }
        Replacing { lane: self, done: false }
    }

    /// Refuses local writes from now on. One that is under way has ended when this returns.
    pub(crate) fn close(&self) {
        *self.phase.lock() = Phase::Closed;
        self.reopened.notify_waiters();
    }

    /// See [`Group::write_local`](crate::Group::write_local).
    pub(crate) async fn write_local<R>(
        &self,
        build: impl FnOnce(&dyn EngineView, &mut WriteBatch) -> Result<R, EngineError>,
    ) -> Result<R, LocalWriteError> {
        let mut build = build;
        let written = loop {
            // Made before the phase is looked at, so that no opening is missed.
            let reopened = self.reopened.notified();
            match self.try_write(build) {
                Ok(written) => break written,
                Err(Turn::Later(again)) => build = again,
                Err(Turn::Never) => return Err(LocalWriteError::Stopped),
            }
            reopened.await;
        };
        if let Err(LocalWriteError::Write(error)) = &written {
            self.queue.fail(error.clone()).await;
        }
        written
    }

    fn try_write<R, F>(&self, build: F) -> Result<Result<R, LocalWriteError>, Turn<F>>
    where
        F: FnOnce(&dyn EngineView, &mut WriteBatch) -> Result<R, EngineError>,
    {
        let phase = self.phase.lock();
        match *phase {
            Phase::Open => Ok(self.write(build)),
            Phase::Replacing => Err(Turn::Later(build)),
            Phase::Closed => Err(Turn::Never),
        }
    }

    fn write<R, F>(&self, build: F) -> Result<R, LocalWriteError>
    where
        F: FnOnce(&dyn EngineView, &mut WriteBatch) -> Result<R, EngineError>,
    {
        let mut writes = WriteBatch::new();
        let built = build(&*self.engine, &mut writes).map_err(LocalWriteError::Build)?;
        assert!(
            writes.operations().all(|write| self.is_local(&write)),
            "a local write stays in the group's local keys"
        );
        if !writes.is_empty() {
            self.engine.write(writes).map_err(LocalWriteError::Write)?;
        }
        Ok(built)
    }

    fn is_local(&self, write: &Operation<'_>) -> bool {
        let local = keys::local_state(self.group);
        let holds = |key: &[u8]| *local.from <= *key && *key < *local.to;
        write.family() == Family::State
            && match *write {
                Operation::Put { key, .. } | Operation::Delete { key, .. } => holds(key),
                Operation::DeleteRange { from, to, .. } => holds(from) && *to <= *local.to,
            }
    }
}

impl Replacing<'_> {
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Replacing<'_> {
    fn drop(&mut self) {
        let mut phase = self.lane.phase.lock();
        match (*phase, self.done) {
            (Phase::Replacing, true) => *phase = Phase::Open,
            (_, false) => *phase = Phase::Closed,
            (_, true) => {}
        }
        drop(phase);
        self.lane.reopened.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
