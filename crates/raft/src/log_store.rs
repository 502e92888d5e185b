//! openraft's log storage on top of a [`GroupLog`].

use std::fmt::Debug;
use std::io;
use std::iter;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::{Stream, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::group_log::GroupLog;
use crate::limits::MAX_APPEND_BYTES;
use crate::log_writer::Acknowledge;
use crate::types::{Entry, LogId, Raft, Vote};

#[derive(Clone)]
pub(crate) struct LogStore(pub(crate) Arc<GroupLog>);

impl RaftLogStorage<Raft> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Raft>, io::Error> {
        let (last_purged_log_id, last_log_id) = self.0.bounds();
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.save_vote(*vote).await.map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.note_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.0.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Raft>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.append(entries, Acknowledge::Append(callback)).await.map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.0.truncate_after(last_log_id).await.map_err(io::Error::other)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.0.purge(log_id).await.map_err(io::Error::other)
    }
}

impl RaftLogReader<Raft> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.0.read(from, to, usize::MAX).map_err(io::Error::other)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.vote())
    }

    /// One append's worth: openraft bounds its entries, this bounds its bytes. What was purged meanwhile gives none, never
    /// later ones: they would not follow what the peer has.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.0.read(start, end, MAX_APPEND_BYTES).map_err(io::Error::other)?;
        let follows = entries.first().is_some_and(|first| first.log_id.index == start);
        Ok(if follows { entries } else { Vec::new() })
    }

    /// What apply reads. Piece by piece: a replica that restarts may have a whole log to apply.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let log = self.0.clone();
        let mut next = from;
        let mut piece = Vec::new().into_iter();
        stream::iter(iter::from_fn(move || {
            loop {
                if let Some(entry) = piece.next() {
                    return Some(Ok(entry));
                }
                if next >= to {
                    return None;
                }
                match log.read_for_apply(next, to) {
                    Ok(entries) => {
                        // The log ends before the range does.
                        next = entries.last().map_or(to, |last| last.log_id.index + 1);
                        piece = entries.into_iter();
                    }
                    Err(error) => {
                        next = to;
                        return Some(Err(io::Error::other(error)));
                    }
                }
            }
        }))
    }
}

/// A range as first index and the index after the last.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(index) => index + 1,
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}
