//! Makes one base of a document's base and tail.
//!
//! What was deleted is collected, as Yjs does by default: only its clocks stay. Replicas may do it at different times,
//! because a collected element still takes part in ordering what is beside it, and what is inserted into a collected type
//! is collected in turn, as it would have been deleted there. State vector and deleted clocks stay the same, and those are
//! compared; the bytes may differ. A result is only given once it was read back and found equal.

use bytes::Bytes;
use conclave_types::{AddedClocks, Clocks, YjsClient};
use yrs::block::ClientID;
use yrs::{IdSet, ReadTxn, StateVector};

use crate::admission::UpdateError;
use crate::guard::Panicked;
use crate::load::{DocumentError, Loaded, Pieces};

/// Why the old base and tail must stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompactionError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the document's clocks are not those of its updates")]
    Clocks,
    #[error("a deletion of client {} is lost", client.0)]
    Deletion { client: YjsClient },
    #[error("the compacted document reads differently")]
    Different,
    #[error("the compacted document is not valid: {0}")]
    Invalid(UpdateError),
}

impl From<Panicked> for CompactionError {
    fn from(panic: Panicked) -> Self {
        Self::Document(panic.into())
    }
}

/// One update that holds what base and tail hold; `clocks` are the document's, as its updates were counted.
pub fn compact(base: Option<&[u8]>, tail: &[Bytes], clocks: &Clocks) -> Result<Bytes, CompactionError> {
    let pieces = Pieces::read(base, tail)?;
    let before = pieces.load(|txn| txn.gc(None))?;
    let deleted = deletions(&before)?;
    let known = clocks.iter().filter(|(_, clock)| **clock > 0).map(|(client, clock)| (*client, *clock));
    if !known.eq(before.clocks()?) {
        return Err(CompactionError::Clocks);
    }
    for range in pieces.surveys.iter().flat_map(|survey| &survey.deleted) {
        if !contains(&deleted, range) {
            return Err(CompactionError::Deletion { client: range.client });
        }
    }
    let compacted = before.read(|txn| txn.encode_state_as_update_v1(&StateVector::default()))?;
    drop(before);
    verify(&compacted, clocks, &deleted)?;
    Ok(Bytes::from(compacted))
}

/// Reads the result as whoever loads it next will.
fn verify(compacted: &[u8], clocks: &Clocks, deleted: &IdSet) -> Result<(), CompactionError> {
    let pieces = Pieces::read(Some(compacted), &[]).map_err(|error| match error {
        DocumentError::Invalid(error) => CompactionError::Invalid(error),
        other => CompactionError::Document(other),
    })?;
    let after = pieces.load(|_| ())?;
    let known = clocks.iter().filter(|(_, clock)| **clock > 0).map(|(client, clock)| (*client, *clock));
    if !known.eq(after.clocks()?) || deletions(&after)? != *deleted {
        return Err(CompactionError::Different);
    }
    Ok(())
}

fn deletions(loaded: &Loaded) -> Result<IdSet, Panicked> {
    loaded.read(|txn| txn.snapshot().delete_set)
}

fn contains(deleted: &IdSet, range: &AddedClocks) -> bool {
    let Some(ranges) = deleted.get(&ClientID::new(range.client.0)) else { return false };
    let ranges = ranges.as_slice();
    let after = ranges.partition_point(|(held, ())| u64::from(held.start) <= range.from);
    after.checked_sub(1).is_some_and(|at| u64::from(ranges[at].0.end) >= range.to)
}
