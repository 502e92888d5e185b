//! One document's compaction.

use std::sync::Arc;

use bytes::Bytes;
use conclave_faults::{Point, reached};
use conclave_raft::LocalWriteError;
use conclave_room::{LocalHeader, local, read};
use conclave_storage::{EngineError, Family};
use conclave_types::Revision;

use super::DocumentKey;
use crate::documents::Whole;
use crate::faults::Fault;
use crate::shard::Shard;
use crate::tables::EngineTables;

/// Bytes of updates behind the base that are worth a compaction, or half the base if that is more: so a document is
/// rewritten only when a third of it is new.
const TAIL_BYTES: u64 = 64 << 10;
/// Updates behind the base that are worth one however small they are: each costs a reader a merge.
const TAIL_UPDATES: u64 = 4_096;

/// How a compaction ended.
pub enum Compacted {
    Swapped,
    /// The document is gone, or what it was read from has changed.
    Overtaken,
}

/// Why a document was not compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    #[error("the replica stops")]
    Stopped,
    #[error("{}", .0.message)]
    Read(Fault),
    #[error(transparent)]
    Merge(#[from] conclave_document::CompactionError),
    #[error(transparent)]
    Write(LocalWriteError),
}

/// The updates of a document whose tail is worth a compaction.
pub fn due(shard: &Shard, (room, document): DocumentKey) -> Result<Option<u64>, conclave_room::TableError> {
    let (tables, group) = (shard.tables(), shard.group_id());
    let Some(view) = read::document_by_number(&tables, group, room, document)? else { return Ok(None) };
    let local = read::local_header(&tables, group, room, document)?;
    let (base, updates, bytes) = local.map_or((0, 0, 0), |local| (local.base_bytes, local.updates, local.bytes));
    let is_due = view.bytes.saturating_sub(bytes) > TAIL_BYTES.max(base / 2)
        || view.updates.saturating_sub(updates) > TAIL_UPDATES;
    Ok(is_due.then_some(view.updates))
}

/// Merges a document's base and the updates behind it into a new base.
pub async fn compact(shard: &Arc<Shard>, (room, document): DocumentKey) -> Result<Compacted, CompactError> {
    let whole = Whole { view: shard.snapshot(), group: shard.group_id(), room, document };
    let bytes = match whole.header() {
        Ok(header) => header.bytes(),
        Err(_) => return Ok(Compacted::Overtaken),
    };
    let merged = shard.workers().load(bytes, move || merge(&whole)).await.map_err(CompactError::Read)??;
    let Some(Merged { from, base, upto }) = merged else { return Ok(Compacted::Overtaken) };
    let group = shard.group_id();
    reached(Point::CompactionSwap);
    let swapped = shard.group().write_local(|view, writes| {
        let swap = local::swap_base(&EngineTables(view), group, room, document, from.as_ref(), &base, upto);
        let Some(changes) = swap.map_err(|reason| EngineError::Foreign(reason.0))? else { return Ok(false) };
        for (key, value) in changes {
            match value {
                Some(value) => writes.put(Family::State, key, value),
                None => writes.delete(Family::State, key),
            }
        }
        Ok(true)
    });
    match swapped.await {
        Ok(true) => {
            reached(Point::CompactionSwapped);
            Ok(Compacted::Swapped)
        }
        Ok(false) => Ok(Compacted::Overtaken),
        Err(LocalWriteError::Stopped) => Err(CompactError::Stopped),
        Err(reason) => Err(CompactError::Write(reason)),
    }
}

struct Merged {
    /// What it was made from.
    from: Option<LocalHeader>,
    base: Bytes,
    /// The last update in it.
    upto: Revision,
}

fn merge(whole: &Whole) -> Result<Option<Merged>, CompactError> {
    let header = whole.header().map_err(CompactError::Read)?;
    let (base, behind) = whole.content(&header).map_err(CompactError::Read)?;
    let Some(upto) = behind.last().map(|update| update.revision) else { return Ok(None) };
    let updates: Vec<_> = behind.into_iter().map(|stored| stored.update).collect();
    let clocks = whole.clocks().map_err(CompactError::Read)?;
    let base = conclave_document::compact(base.as_deref(), &updates, &clocks)?;
    Ok(Some(Merged { from: header.local, base, upto }))
}
