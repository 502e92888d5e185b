//! Compacts documents and sweeps what is left of those that are gone, on this replica alone.
//!
//! Every replica does this for itself, whether it leads or not; nothing of it is proposed. A document's base and the
//! updates behind it are read from one view of the store, merged on the workers, and put in the place of the old base in
//! one write between two entries ([`conclave_raft::Group::write_local`]), guarded by the header that they were read
//! with. What the document means does not change by that, so nobody is told.
//!
//! Crash between any two lines: before the write nothing has happened; the write is one batch; after it only marks are
//! lost, which the next updates make again. A sweep finds what it removes by looking, so one that broke off is done
//! again at the start of the shard.
//!
//! Bounds: one document of a shard at a time, one a core of the host; each at most every [`REST`]. A document that cannot
//! be compacted is left as it is, which is only longer to send.

mod compaction;
mod marks;
mod sweep;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use conclave_types::Clock;
use tracing::{error, warn};

use crate::shard::Shard;

use compaction::{Compacted, compact};
use marks::Work;
pub use marks::{DocumentKey, Marks};

/// Between two compactions of a document, and two sweeps: what comes meanwhile is done together.
const REST: Duration = Duration::from_secs(5);
/// Documents of which it is remembered that they could not be compacted.
const MAX_FAILED: usize = 1_024;

/// Compacts and sweeps until it is dropped.
pub async fn run(shard: Arc<Shard>, clock: Arc<dyn Clock>) {
    let mut compactor = Compactor { shard, clock, resting: BTreeMap::new(), failed: HashMap::new() };
    compactor.sweep().await;
    loop {
        let work = compactor.next_work().await;
        for key in work.ripe {
            compactor.look_at(key).await;
        }
        if work.dropped && compactor.begins(Task::Sweep) {
            compactor.sweep().await;
        }
    }
}

/// What rests between two times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Compact(DocumentKey),
    Sweep,
}

/// Until when, on the monotonic clock, and whether it is wanted again then.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Duration,
    wanted: bool,
}

struct Compactor {
    shard: Arc<Shard>,
    clock: Arc<dyn Clock>,
    /// What was done within the last [`REST`].
    resting: BTreeMap<Task, Rest>,
    /// Documents that could not be compacted, and the updates that they had then.
    failed: HashMap<DocumentKey, u64>,
}

impl Compactor {
    /// Waits for marks, or for the end of a rest of something that was wanted meanwhile.
    async fn next_work(&mut self) -> Work {
        loop {
            let now = self.clock.monotonic();
            let work = self.rested(now);
            if !work.is_empty() {
                return work;
            }
            let next = self.resting.values().filter(|rest| rest.wanted).map(|rest| rest.until).min();
            let rested = async {
                match next {
                    Some(until) => tokio::time::sleep(until.saturating_sub(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                work = self.shard.marks().work() => return work,
                () = rested => {}
            }
        }
    }

    /// What has rested long enough and is wanted again; what is not wanted is forgotten.
    fn rested(&mut self, now: Duration) -> Work {
        let mut work = Work::default();
        self.resting.retain(|task, rest| {
            if rest.until > now {
                return true;
            }
            match task {
                Task::Compact(key) if rest.wanted => drop(work.ripe.insert(*key)),
                Task::Sweep if rest.wanted => work.dropped = true,
                Task::Compact(_) | Task::Sweep => {}
            }
            false
        });
        work
    }

    /// Whether a task may be done now; it rests from now on, or is wanted at the end of its rest.
    fn begins(&mut self, task: Task) -> bool {
        let now = self.clock.monotonic();
        match self.resting.get_mut(&task) {
            Some(rest) if rest.until > now => {
                rest.wanted = true;
                false
            }
            _ => {
                self.resting.insert(task, Rest { until: now + REST, wanted: false });
                true
            }
        }
    }

    async fn look_at(&mut self, key: DocumentKey) {
        let updates = match compaction::due(&self.shard, key) {
            Ok(Some(updates)) => updates,
            Ok(None) => return,
            Err(reason) => return error!(shard = self.shard.id().0, %reason, "a document's tail cannot be looked at"),
        };
        // Whatever it was that could not be merged is still there: tried again when the document has doubled.
        if self.failed.get(&key).is_some_and(|failed| updates < 2 * failed) || !self.begins(Task::Compact(key)) {
            return;
        }
        match compact(&self.shard, key).await {
            Ok(Compacted::Swapped) => drop(self.failed.remove(&key)),
            Ok(Compacted::Overtaken) => {}
            Err(reason) => self.note_failure(key, updates, &reason),
        }
    }

    fn note_failure(&mut self, key: DocumentKey, updates: u64, reason: &compaction::CompactError) {
        let (room, document) = key;
        if let compaction::CompactError::Stopped = reason {
            return;
        }
        if self.failed.len() >= MAX_FAILED {
            self.failed.clear();
        }
        if self.failed.insert(key, updates).is_none() {
            let (shard, document) = (self.shard.id().0, document.0);
            warn!(shard, %room, document, %reason, "a document cannot be compacted; its updates are kept as they are");
        }
    }

    async fn sweep(&mut self) {
        if let Err(reason) = sweep::sweep(&self.shard).await {
            error!(shard = self.shard.id().0, %reason, "what is left of deleted documents cannot be removed");
        }
    }
}
