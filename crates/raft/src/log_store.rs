//! openraft's log storage on top of a [`GroupLog`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, alias};

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

    /// One append's worth: openraft bounds its entries, this bounds its bytes.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.0.read(start, end, MAX_APPEND_BYTES).map_err(io::Error::other)
    }

    /// What apply reads. Piece by piece: a replica that restarts may have a whole log to apply.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<alias::EntryOf<Raft>, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let log = self.0.clone();
        let pieces = std::iter::successors(Some(Piece { next: from, entries: Ok(Vec::new()) }), move |piece| {
            let Ok(_) = &piece.entries else { return None };
            if piece.next >= to {
                return None;
            }
            let entries = log.read_piece(piece.next, to).map_err(|error| error.to_string());
            let next = entries.as_ref().ok().and_then(|entries| entries.last()).map(|last| last.log_id.index + 1);
            // Without progress the range ended early; openraft notices what is missing.
            Some(Piece { next: next.unwrap_or(to), entries })
        });
        stream::iter(pieces.flat_map(|piece| match piece.entries {
            Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(io::Error::other(error))],
        }))
    }
}

struct Piece {
    next: u64,
    entries: Result<Vec<Entry>, String>,
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
