//! The newest entries of each group's log, in memory, so that replication and apply rarely read the engine.
//!
//! Entries that are not written yet are always held: until then they are nowhere else. Beyond those, all groups of a
//! node share one budget. A group gives up its oldest entries when the node is over half of it and the group over its
//! even share; so one busy group may use most of the budget, and a quiet one can never crowd it out for good.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::types::{Entry, EntryPayload};

/// Bytes an entry takes beside its payload, about.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// What all caches of a node share.
#[derive(Debug)]
pub(crate) struct CacheBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    caches: AtomicUsize,
}

impl CacheBudget {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        CacheBudget { limit_bytes, used_bytes: AtomicUsize::new(0), caches: AtomicUsize::new(0) }
    }

    fn even_share(&self) -> usize {
        self.limit_bytes / 2 / self.caches.load(Ordering::Relaxed).max(1)
    }

    fn is_scarce(&self) -> bool {
        self.used_bytes.load(Ordering::Relaxed) > self.limit_bytes / 2
    }
}

/// A gapless run of one group's newest entries.
#[derive(Debug)]
pub(crate) struct LogCache {
    entries: VecDeque<Entry>,
    bytes: usize,
    budget: Arc<CacheBudget>,
}

impl LogCache {
    pub(crate) fn new(budget: Arc<CacheBudget>) -> Self {
        budget.caches.fetch_add(1, Ordering::Relaxed);
        LogCache { entries: VecDeque::new(), bytes: 0, budget }
    }

    /// Index of the oldest entry held.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    /// Adds the next entry. One that does not follow the newest begins a new run.
    pub(crate) fn push(&mut self, entry: Entry) {
        let follows = self.entries.back().is_none_or(|last| last.log_id.index + 1 == entry.log_id.index);
        if !follows {
            self.forget_to(u64::MAX);
        }
        let bytes = size(&entry);
        self.bytes += bytes;
        self.budget.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.entries.push_back(entry);
    }

    /// Copies entries from `from` up to `to` (exclusive) while `take` agrees, if the first of them is held.
    pub(crate) fn copy(&self, from: u64, to: u64, mut take: impl FnMut(&Entry) -> bool) {
        let Some(offset) = self.first().and_then(|first| from.checked_sub(first)) else { return };
        let Ok(offset) = usize::try_from(offset) else { return };
        for entry in self.entries.iter().skip(offset) {
            if entry.log_id.index >= to || !take(entry) {
                return;
            }
        }
    }

    /// Drops entries from `from` on.
    pub(crate) fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= from) {
            let entry = self.entries.pop_back();
            self.release(entry);
        }
    }

    /// Drops entries before `to`.
    pub(crate) fn forget_to(&mut self, to: u64) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index < to) {
            let entry = self.entries.pop_front();
            self.release(entry);
        }
    }

    /// Drops the oldest entries that are written already, if memory is scarce.
    pub(crate) fn shrink(&mut self, written_to: u64) {
        let share = self.budget.even_share();
        while self.bytes > share
            && self.budget.is_scarce()
            && self.entries.front().is_some_and(|entry| entry.log_id.index < written_to)
        {
            let entry = self.entries.pop_front();
            self.release(entry);
        }
    }

    fn release(&mut self, entry: Option<Entry>) {
        let bytes = entry.as_ref().map_or(0, size);
        self.bytes -= bytes;
        self.budget.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for LogCache {
    fn drop(&mut self) {
        self.forget_to(u64::MAX);
        self.budget.caches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes an entry counts for, in memory and against the bounds of an append.
pub(crate) fn size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => ENTRY_OVERHEAD_BYTES + payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => ENTRY_OVERHEAD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::entry::RaftEntry as _;

    use super::*;
    use crate::types::{LeaderId, LogId, Payload};

    fn entry(index: u64) -> Entry {
        let log_id = LogId::new(LeaderId { term: 1, node_id: 1 }, index);
        Entry::new(log_id, EntryPayload::Normal(Payload(Bytes::from(vec![0; 1_000]))))
    }

    fn indexes(cache: &LogCache, from: u64, to: u64) -> Vec<u64> {
        let mut found = Vec::new();
        cache.copy(from, to, |entry| {
            found.push(entry.log_id.index);
            true
        });
        found
    }

    fn filled(budget: &Arc<CacheBudget>, entries: std::ops::Range<u64>) -> LogCache {
        let mut cache = LogCache::new(budget.clone());
        entries.for_each(|index| cache.push(entry(index)));
        cache
    }

    #[test]
    fn copies_only_what_it_holds_from_the_start() {
        let cache = filled(&Arc::new(CacheBudget::new(1 << 20)), 5..10);
        assert_eq!(indexes(&cache, 6, 9), [6, 7, 8]);
        assert_eq!(indexes(&cache, 8, 100), [8, 9]);
        assert!(indexes(&cache, 4, 9).is_empty());
        assert!(indexes(&cache, 10, 20).is_empty());
    }

    #[test]
    fn unwritten_entries_are_never_given_up() {
        let budget = Arc::new(CacheBudget::new(4_000));
        let mut cache = filled(&budget, 0..20);
        cache.shrink(0);
        assert_eq!(cache.first(), Some(0));
        cache.shrink(7);
        assert_eq!(cache.first(), Some(7));
        cache.shrink(20);
        assert!(cache.bytes <= budget.even_share());
    }

    #[test]
    fn a_gap_begins_a_new_run() {
        let mut cache = filled(&Arc::new(CacheBudget::new(1 << 20)), 0..3);
        cache.push(entry(9));
        assert_eq!(cache.first(), Some(9));
        assert_eq!(indexes(&cache, 9, 10), [9]);
    }

    #[test]
    fn every_byte_is_given_back() {
        let budget = Arc::new(CacheBudget::new(1 << 20));
        let mut cache = filled(&budget, 0..10);
        cache.truncate(6);
        cache.forget_to(2);
        assert_eq!(indexes(&cache, 2, 100), [2, 3, 4, 5]);
        drop(cache);
        assert_eq!(budget.used_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(budget.caches.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_busy_group_takes_what_quiet_ones_leave() {
        let budget = Arc::new(CacheBudget::new(100_000));
        let quiet = filled(&budget, 0..3);
        let mut busy = filled(&budget, 0..200);
        busy.shrink(200);
        assert!(busy.bytes > budget.even_share(), "uses more than its share");
        assert!(busy.bytes + quiet.bytes <= budget.limit_bytes / 2, "all together stay in the budget");
        assert_eq!(quiet.first(), Some(0));
    }
}
