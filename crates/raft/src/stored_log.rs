//! What the engine holds of a group's log when a replica opens, and what must be true of it.
//!
//! Everything is written in one order, and a crash keeps a beginning of it. So the ends of the log already show whether
//! something is missing that cannot have been lost in a crash; what lies between them is read later, by the scrub.

use std::ops::Range;

use bytes::Bytes;
use conclave_faults::{Bug, planted};
use conclave_storage::{Engine, EngineError, Family};
use conclave_types::GroupId;

use crate::types::{LogId, Vote};
use crate::{keys, snapshot};

#[derive(Debug)]
pub(crate) struct StoredLog {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// Last entry, or the last one purged where there is none.
    pub(crate) last: Option<LogId>,
}

impl StoredLog {
    /// Reads and checks the ends of the log. Reports damage.
    pub(crate) fn read(engine: &dyn Engine, group: GroupId) -> Result<StoredLog, EngineError> {
        engine.damage().reporting(Self::read_unreported(engine, group))
    }

    fn read_unreported(engine: &dyn Engine, group: GroupId) -> Result<StoredLog, EngineError> {
        let position = |key: Vec<u8>| -> Result<Option<LogId>, EngineError> {
            let value = engine.get(Family::Log, &key)?;
            value.map(|value| keys::decode_log_id(&key, value)).transpose()
        };
        let purged = position(keys::purged(group))?;
        let committed = position(keys::committed(group))?;
        let key = keys::vote(group);
        let vote = engine.get(Family::Log, &key)?.map(|value| keys::decode_vote(&key, value)).transpose()?;
        let forgotten = usize::from(planted(Bug::DropLastEntry));
        let newest = engine.scan_back(Family::Log, keys::all_entries(group)).nth(forgotten).transpose()?;
        let newest = newest.map(|(key, value)| keys::decode_entry(&key, value)).transpose()?;
        let oldest = engine.scan(Family::Log, keys::all_entries(group)).next().transpose()?;
        let oldest = oldest.map(|(key, value)| keys::decode_entry(&key, value)).transpose()?;
        let stored = StoredLog { vote, committed, purged, last: newest.map(|entry| entry.log_id).or(purged) };
        let applied = snapshot::meta_of(engine, group)?.last_log_id;
        match stored.missing(oldest.map(|entry| entry.log_id.index), applied) {
            Some(missing) => Err(EngineError::Damaged(format!("group {}: {missing}", group.0))),
            None => Ok(stored),
        }
    }

    /// What is gone that no crash can have taken.
    fn missing(&self, oldest: Option<u64>, applied: Option<LogId>) -> Option<String> {
        let (start, end) = (end_of(self.purged), end_of(self.last));
        if let Some(oldest) = oldest
            && oldest != start
        {
            return Some(format!("the log begins at {oldest}, and was purged up to {start}"));
        }
        // A purge is queued after the state that makes it safe is written.
        if end_of(applied) < start {
            return Some(format!("the state ends at {}, and the log before {start} is purged", end_of(applied)));
        }
        // A commit is noted after the entries it covers, or with them. An installed snapshot stands for its entries.
        let committed_end = end_of(self.committed);
        if committed_end > end.max(end_of(applied)) {
            return Some(format!("the log ends at {end}, and was committed up to {committed_end}"));
        }
        None
    }
}

/// The entries that a store holds of a group's log, as they lie there, by index: for those who compare replicas.
pub fn stored_entries(
    engine: &dyn Engine,
    group: GroupId,
    indexes: Range<u64>,
) -> Result<Vec<(u64, Bytes)>, EngineError> {
    let pairs = engine.scan(Family::Log, keys::entries(group, indexes.start, indexes.end));
    let foreign = || EngineError::Foreign("a key of the log has another form".into());
    let entry = |(key, value): (Bytes, Bytes)| Ok((keys::index_of(&key).ok_or_else(foreign)?, value));
    pairs.map(|pair| pair.and_then(entry)).collect()
}

/// The index after a position.
pub(crate) fn end_of(position: Option<LogId>) -> u64 {
    position.map_or(0, |position| position.index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaderId;

    /// A log whose last purged, last and last committed entries have these indexes.
    fn stored(purged: Option<u64>, last: Option<u64>, committed: Option<u64>) -> StoredLog {
        StoredLog { vote: None, committed: committed.map(at), purged: purged.map(at), last: last.map(at) }
    }

    fn at(index: u64) -> LogId {
        LogId::new(LeaderId { term: 1, node_id: 1 }, index)
    }

    #[test]
    fn what_a_crash_can_leave_is_whole() {
        let whole = [
            (stored(None, None, None), None, None),
            (stored(None, Some(9), None), Some(0), None),
            (stored(None, Some(9), Some(9)), Some(0), Some(3)),
            (stored(Some(4), Some(9), Some(7)), Some(5), Some(4)),
            (stored(Some(4), Some(4), Some(4)), None, Some(4)),
            // A snapshot was installed, and the log not purged yet.
            (stored(Some(4), Some(9), Some(7)), Some(5), Some(20)),
            (stored(None, None, Some(20)), None, Some(20)),
        ];
        for (stored, oldest, applied) in whole {
            assert_eq!(stored.missing(oldest, applied.map(at)), None, "{stored:?}");
        }
    }

    #[test]
    fn what_no_crash_can_leave_is_missed() {
        let missing = [
            // The oldest entries are gone, or the purge.
            (stored(None, Some(9), None), Some(1), Some(9)),
            (stored(Some(4), Some(9), None), Some(6), Some(9)),
            (stored(Some(4), Some(9), None), Some(3), Some(9)),
            // The state that a purge relied on.
            (stored(Some(4), Some(9), None), Some(5), Some(3)),
            (stored(Some(4), Some(4), None), None, None),
            // Committed entries.
            (stored(None, Some(9), Some(10)), Some(0), Some(9)),
            (stored(None, None, Some(0)), None, None),
        ];
        for (stored, oldest, applied) in missing {
            assert!(stored.missing(oldest, applied.map(at)).is_some(), "{stored:?}");
        }
    }
}
