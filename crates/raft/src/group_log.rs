//! One group's log: what openraft writes through and reads from, and apply waits for.
//!
//! Positions are kept in memory and decide; the engine follows through the writer's queue, in order. An entry is
//! readable as soon as it is appended (from the cache), written some time later, durable later still. A call that only
//! one task at a time may make says so.

use std::sync::Arc;

use conclave_faults::{Point, reached};
use conclave_storage::{Engine, EngineError, Family, WriteBatch};
use conclave_types::GroupId;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::keys;
use crate::limits::{MAX_APPLY_BYTES, MAX_APPLY_ENTRIES, MAX_POINT_DELETES};
use crate::log_cache::{CacheBudget, LogCache, size};
use crate::log_scrub::Scrubbing;
use crate::log_writer::{Acknowledge, LogQueue, LogWrite, WriterGone};
use crate::milestones::Milestones;
use crate::stored_log::{StoredLog, end_of};
use crate::types::{Entry, LogId, Vote};

pub(crate) struct GroupLog {
    pub(crate) group: GroupId,
    engine: Arc<dyn Engine>,
    pub(crate) queue: LogQueue,
    /// Every entry before this index is written.
    written_end: Arc<watch::Sender<u64>>,
    state: Mutex<LogState>,
}

struct LogState {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// `committed` differs from what is queued for the engine.
    committed_changed: bool,
    purged: Option<LogId>,
    /// Index of the first entry, or where it will be: after the last purged one.
    start: u64,
    last: Option<LogId>,
    cache: LogCache,
    /// Where the bytes of the log lie: of what was appended since the replica was opened, and of what lies before that
    /// as soon as it is read.
    milestones: Milestones,
    /// What the log held when the replica was opened, until all of it is read.
    scrubbing: Option<Scrubbing>,
}

impl LogState {
    fn end(&self) -> u64 {
        end_of(self.last)
    }
}

impl GroupLog {
    pub(crate) fn open(
        group: GroupId,
        engine: Arc<dyn Engine>,
        queue: LogQueue,
        budget: &Arc<CacheBudget>,
    ) -> Result<Arc<GroupLog>, EngineError> {
        let StoredLog { vote, committed, purged, last } = StoredLog::read(&*engine, group)?;
        let state = LogState {
            vote,
            committed,
            committed_changed: false,
            purged,
            start: end_of(purged),
            last,
            cache: LogCache::new(budget.clone()),
            milestones: Milestones::default(),
            scrubbing: Some(Scrubbing::of(end_of(purged)..end_of(last))),
        };
        let written_end = Arc::new(watch::Sender::new(state.end()));
        Ok(Arc::new(GroupLog { group, engine, queue, written_end, state: Mutex::new(state) }))
    }

    pub(crate) fn store_is_damaged(&self) -> bool {
        self.engine.damage().reported().is_some()
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        self.state.lock().vote
    }

    pub(crate) fn committed(&self) -> Option<LogId> {
        self.state.lock().committed
    }

    /// Last purged and last position; the same where the log is empty.
    pub(crate) fn bounds(&self) -> (Option<LogId>, Option<LogId>) {
        let state = self.state.lock();
        (state.purged, state.last)
    }

    /// Returns once the vote is durable. One task at a time.
    pub(crate) async fn save_vote(&self, vote: Vote) -> Result<(), WriterGone> {
        let mut batch = WriteBatch::new();
        let key = keys::vote(self.group);
        let value = keys::encode_vote(&key, &vote);
        batch.put(Family::Log, key, value);
        self.queue.write_vote(batch).await?;
        self.state.lock().vote = Some(vote);
        Ok(())
    }

    /// Remembers how far the group has committed; saved with the next append.
    pub(crate) fn note_committed(&self, committed: Option<LogId>) {
        let mut state = self.state.lock();
        state.committed = committed;
        state.committed_changed = true;
    }

    /// Makes entries readable and queues them. `acknowledge` is called once they are durable. One task at a time.
    pub(crate) async fn append(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        acknowledge: Acknowledge,
    ) -> Result<(), WriterGone> {
        let (batch, end) = {
            let mut state = self.state.lock();
            let batch = self.take_in(&mut state, entries);
            let written_end = *self.written_end.borrow();
            state.cache.shrink(written_end);
            (batch, state.end())
        };
        let log_end = Some((self.written_end.clone(), end));
        self.queue.write(LogWrite { batch, log_end, acknowledge: Some(acknowledge), is_vote: false }).await
    }

    fn take_in(&self, state: &mut LogState, entries: impl IntoIterator<Item = Entry>) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for entry in entries {
            let index = entry.log_id.index;
            let key = keys::entry(self.group, index);
            let value = keys::encode_entry(&key, &entry);
            batch.put(Family::Log, key, value);
            state.milestones.push(index, size(&entry) as u64);
            if state.last.is_none() {
                state.start = index;
            }
            state.last = Some(entry.log_id);
            state.cache.push(entry);
        }
        if std::mem::take(&mut state.committed_changed)
            && let Some(committed) = &state.committed
        {
            let key = keys::committed(self.group);
            let value = keys::encode_log_id(&key, committed);
            batch.put(Family::Log, key, value);
        }
        batch
    }

    /// Drops the entries after `last` and returns once that is durable: a vote or an append that follows must not come
    /// back beside what was dropped. One task at a time.
    pub(crate) async fn truncate_after(&self, last: Option<LogId>) -> Result<(), WriterGone> {
        let (from, to) = {
            let mut state = self.state.lock();
            let from = end_of(last).max(state.start);
            let to = state.end();
            if from >= to {
                return Ok(());
            }
            state.last = last.max(state.purged);
            state.cache.truncate(from);
            state.milestones.truncate(from);
            if let Some(scrubbing) = &mut state.scrubbing {
                scrubbing.truncate(from);
            }
            (from, to)
        };
        let mut batch = WriteBatch::new();
        self.delete_entries(&mut batch, from, to);
        self.queue.write_durably(batch, Some((self.written_end.clone(), from))).await
    }

    /// Drops the entries up to `to`, inclusive. Not waited for: should it be lost, the log is only longer than needed,
    /// and what the entries did was written before. One task at a time.
    pub(crate) async fn purge(&self, to: LogId) -> Result<(), WriterGone> {
        let (from, old_end, end) = {
            let mut state = self.state.lock();
            if state.purged >= Some(to) {
                return Ok(());
            }
            let (from, old_end) = (state.start, state.end());
            state.purged = Some(to);
            state.start = state.start.max(to.index + 1);
            state.last = state.last.max(Some(to));
            state.cache.forget_to(to.index + 1);
            state.milestones.forget_to(to.index + 1);
            if let Some(scrubbing) = &mut state.scrubbing {
                scrubbing.forget_to(to.index + 1);
            }
            (from, old_end, state.end())
        };
        let mut batch = WriteBatch::new();
        let key = keys::purged(self.group);
        let value = keys::encode_log_id(&key, &to);
        batch.put(Family::Log, key, value);
        self.delete_entries(&mut batch, from, old_end.min(to.index + 1));
        // Past the end of the log the purge also moves the end.
        let log_end = (end > old_end).then(|| (self.written_end.clone(), end));
        self.queue.write(LogWrite { batch, log_end, acknowledge: None, is_vote: false }).await?;
        reached(Point::PurgeQueued);
        Ok(())
    }

    fn delete_entries(&self, batch: &mut WriteBatch, from: u64, to: u64) {
        if to.saturating_sub(from) > MAX_POINT_DELETES {
            batch.delete_range(Family::Log, keys::entries(self.group, from, to));
            return;
        }
        for index in from..to {
            batch.delete(Family::Log, keys::entry(self.group, index));
        }
    }

    /// Returns once the entry at `index` is written.
    pub(crate) async fn written(&self, index: u64) -> Result<(), WriterGone> {
        let mut end = self.written_end.subscribe();
        if *end.borrow_and_update() > index {
            return Ok(());
        }
        tokio::select! {
            reached = end.wait_for(|end| *end > index) => reached.map(|_| ()).map_err(|_| WriterGone),
            () = self.queue.closed() => Err(WriterGone),
        }
    }

    /// Lets entries be applied that were never appended, as openraft's suite does.
    #[cfg(test)]
    pub(crate) fn count_all_as_written(&self) {
        self.written_end.send_replace(u64::MAX);
    }

    /// The entries of a range, gapless; fewer where the log begins later or ends earlier. Stops after the entry that
    /// brings the size to `max_bytes`.
    pub(crate) fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, EngineError> {
        self.engine.damage().reporting(self.read_unreported(from, to, max_bytes))
    }

    fn read_unreported(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, EngineError> {
        let mut read = Reading { entries: Vec::new(), bytes: 0, max_bytes };
        let mut next = from;
        loop {
            let stored_to = {
                let state = self.state.lock();
                next = next.max(state.start);
                let to = to.min(state.end());
                if next >= to || read.is_full() {
                    return Ok(read.entries);
                }
                match state.cache.first() {
                    Some(first) if first <= next => {
                        state.cache.copy(next, to, |entry| read.take(entry.clone()));
                        return Ok(read.entries);
                    }
                    first => first.map_or(to, |first| first.min(to)),
                }
            };
            let found = self.read_stored(next, stored_to, &mut read)?;
            let state = self.state.lock();
            // The log may have been cut at either end while the lock was free; otherwise every entry must be there.
            if found < stored_to && !read.is_full() && state.start <= found && found < state.end() {
                return Err(EngineError::Damaged(format!(
                    "group {} lacks log entry {found} of its log {}..{}",
                    self.group.0,
                    state.start,
                    state.end()
                )));
            }
            if found < stored_to {
                return Ok(read.entries);
            }
            next = found;
        }
    }

    /// Reads from the engine; returns the index it came to.
    fn read_stored(&self, from: u64, to: u64, read: &mut Reading) -> Result<u64, EngineError> {
        let mut next = from;
        for pair in self.engine.scan(Family::Log, keys::entries(self.group, from, to)) {
            let (key, value) = pair?;
            let entry = keys::decode_entry(&key, value)?;
            if entry.log_id.index != next || !read.take(entry) {
                break;
            }
            next += 1;
        }
        Ok(next)
    }

    /// The oldest index that must stay so that about `keep_bytes` of log stay; none while what is known of the log is
    /// shorter.
    pub(crate) fn keep_from(&self, keep_bytes: u64) -> Option<u64> {
        self.state.lock().milestones.keep_from(keep_bytes)
    }

    /// Bytes of the log, as far as they are known.
    pub(crate) fn known_bytes(&self) -> u64 {
        self.state.lock().milestones.bytes()
    }

    /// Reads about `max_bytes` more of what the log held when the replica was opened, checking every entry and that none
    /// is missing. Says whether anything is left. Blocks in the engine. One task at a time.
    pub(crate) fn scrub(&self, max_bytes: usize) -> Result<bool, EngineError> {
        let Some(range) = self.state.lock().scrubbing.as_ref().map(Scrubbing::rest) else { return Ok(false) };
        let sizes = self.read_sizes(range.clone(), max_bytes);
        let sizes = self.engine.damage().reporting(sizes)?;
        let mut state = self.state.lock();
        let LogState { scrubbing: Some(scrubbing), milestones, .. } = &mut *state else { return Ok(false) };
        // The log may have been cut at either end meanwhile; otherwise every entry must be there.
        let missing = scrubbing.add(range.start, &sizes, max_bytes);
        if let Some(index) = missing {
            drop(state);
            let missing = EngineError::Damaged(format!("group {} lacks log entry {index}", self.group.0));
            return self.engine.damage().reporting(Err(missing));
        }
        if scrubbing.is_done() {
            milestones.prepend(scrubbing.take_milestones());
            state.scrubbing = None;
            return Ok(false);
        }
        Ok(true)
    }

    /// Sizes of the stored entries from the start of a range on, without a hole.
    fn read_sizes(&self, range: std::ops::Range<u64>, max_bytes: usize) -> Result<Vec<u64>, EngineError> {
        let mut sizes = Vec::new();
        let mut bytes = 0;
        for pair in self.engine.scan_once(Family::Log, keys::entries(self.group, range.start, range.end)) {
            let (key, value) = pair?;
            let entry = keys::decode_entry(&key, value)?;
            if entry.log_id.index != range.start + sizes.len() as u64 || bytes >= max_bytes {
                break;
            }
            bytes += size(&entry);
            sizes.push(size(&entry) as u64);
        }
        Ok(sizes)
    }

    /// What apply reads: entries from `from` on, as many as one batch holds. Never fewer because they were purged.
    pub(crate) fn read_for_apply(&self, from: u64, to: u64) -> Result<Vec<Entry>, EngineError> {
        let batch_to = to.min(from.saturating_add(MAX_APPLY_ENTRIES as u64));
        let entries = self.read(from, batch_to, MAX_APPLY_BYTES)?;
        match entries.first() {
            Some(first) if first.log_id.index != from => {
                Err(EngineError::Damaged(format!("log entry {from} is gone before it was applied")))
            }
            _ => Ok(entries),
        }
    }
}

/// What a read has gathered so far.
struct Reading {
    entries: Vec<Entry>,
    bytes: usize,
    max_bytes: usize,
}

impl Reading {
    fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes
    }

    /// Takes an entry unless it is one too many: the first always fits. Says whether it was taken.
    fn take(&mut self, entry: Entry) -> bool {
        let bytes = size(&entry);
        if !self.entries.is_empty() && self.bytes + bytes > self.max_bytes {
            self.bytes = self.max_bytes;
            return false;
        }
        self.bytes += bytes;
        self.entries.push(entry);
        true
    }
}
