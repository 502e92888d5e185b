//! The entries that lay in a log when its replica was opened, read once from end to end.
//!
//! Nobody reads an old entry before a follower asks for it, and then it is too late to learn that it is damaged. So every
//! kept entry is read soon after the start, a little at a time and one group of a node after the other. What is read also
//! tells how many bytes the log holds, which a bound on them must know.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use conclave_storage::EngineError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::group_log::GroupLog;
use crate::limits::MAX_SCRUB_BYTES;
use crate::milestones::Milestones;
use crate::pace::time_for;

/// How long a log waits before it asks again whether another's turn is over.
const TURN_INTERVAL: Duration = Duration::from_millis(100);

/// Reads one log, in steps that its replica's keeper takes when they are due.
pub(crate) struct LogScrub {
    log: Arc<GroupLog>,
    bytes_per_second: u64,
    /// One permit for all logs of a node.
    turn: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    next_step: Instant,
    done: bool,
}

impl LogScrub {
    pub(crate) fn new(log: Arc<GroupLog>, turn: Arc<Semaphore>, bytes_per_second: u64) -> Self {
        LogScrub { log, bytes_per_second, turn, permit: None, next_step: Instant::now(), done: false }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Returns when the next step is due. May be dropped.
    pub(crate) async fn due(&self) {
        sleep_until(self.next_step).await;
    }

    /// Reads a little, or waits for its turn. Damage is reported; after an error nothing more is read.
    pub(crate) fn step(&mut self) -> Result<(), EngineError> {
        if self.permit.is_none() {
            self.permit = self.turn.clone().try_acquire_owned().ok();
        }
        if self.permit.is_none() {
            self.next_step = Instant::now() + TURN_INTERVAL;
            return Ok(());
        }
        let more = self.log.scrub(MAX_SCRUB_BYTES);
        if !matches!(more, Ok(true)) {
            self.done = true;
            self.permit = None;
        }
        self.next_step = Instant::now() + time_for(MAX_SCRUB_BYTES, self.bytes_per_second);
        more.map(|_| ())
    }
}

/// How far the reading of one log has come. The log may be cut at both ends meanwhile.
#[derive(Debug)]
pub(crate) struct Scrubbing {
    rest: Range<u64>,
    milestones: Milestones,
}

impl Scrubbing {
    pub(crate) fn of(entries: Range<u64>) -> Self {
        Scrubbing { rest: entries, milestones: Milestones::default() }
    }

    /// What is still to be read.
    pub(crate) fn rest(&self) -> Range<u64> {
        self.rest.clone()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes what was read from `from` on, which ended where it was full or found no further entry. Returns the index of
    /// an entry that is missing.
    pub(crate) fn add(&mut self, from: u64, sizes: &[u64], max_bytes: usize) -> Option<u64> {
        for (index, bytes) in (from..).zip(sizes) {
            if self.rest.contains(&index) {
                self.milestones.push(index, *bytes);
                self.rest.start = index + 1;
            }
        }
        let is_full = sizes.iter().sum::<u64>() >= max_bytes as u64;
        let came_to = from + sizes.len() as u64;
        (!is_full && self.rest.start == came_to && !self.is_done()).then_some(came_to)
    }

    /// The log ends before `from` now.
    pub(crate) fn truncate(&mut self, from: u64) {
        self.rest.end = self.rest.end.min(from);
        self.rest.start = self.rest.start.min(self.rest.end);
        self.milestones.truncate(from);
    }

    /// The log begins at `to` now.
    pub(crate) fn forget_to(&mut self, to: u64) {
        self.rest.start = self.rest.start.max(to);
        self.milestones.forget_to(to);
    }

    pub(crate) fn take_milestones(&mut self) -> Milestones {
        std::mem::take(&mut self.milestones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_holes_is_read_to_its_end() {
        let mut scrubbing = Scrubbing::of(5..10);
        assert_eq!(scrubbing.add(5, &[10, 10, 10], 30), None, "full");
        assert!(!scrubbing.is_done());
        assert_eq!(scrubbing.add(8, &[10, 10], 30), None, "at its end");
        assert!(scrubbing.is_done());
        assert_eq!(scrubbing.take_milestones().bytes(), 50);
    }

    #[test]
    fn a_hole_is_missed() {
        assert_eq!(Scrubbing::of(5..10).add(5, &[10, 10], 30), Some(7));
        assert_eq!(Scrubbing::of(5..10).add(5, &[], 30), Some(5));
    }

    #[test]
    fn what_was_cut_off_meanwhile_is_no_hole() {
        let mut purged = Scrubbing::of(5..10);
        purged.forget_to(8);
        assert_eq!(purged.add(5, &[], 30), None);
        assert_eq!(purged.rest(), 8..10);
        let mut truncated = Scrubbing::of(5..10);
        truncated.truncate(7);
        assert_eq!(truncated.add(5, &[10, 10], 30), None);
        assert!(truncated.is_done());
        let mut emptied = Scrubbing::of(5..10);
        emptied.forget_to(20);
        assert_eq!(emptied.add(5, &[], 30), None);
        assert!(emptied.is_done());
    }
}
