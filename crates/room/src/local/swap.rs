//! Puts a new base in the place of the old one.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_types::{DocumentNumber, GroupId, Revision, RoomUid};

use super::{CHUNK_BYTES, LocalHeader, UpdateRecord};
use crate::codec::{Record, damaged};
use crate::document::DocumentHeader;
use crate::keys::Keys;
use crate::state::load;
use crate::{TableError, TableReads, Writes};

/// What makes `base` the document's base: everything up to `upto` in one piece. The updates that the old base had
/// replaced go; those that this one replaces stay until the next.
///
/// `expected` is the local header that the base was made from. None when that no longer holds: the document is gone,
/// another base came first, or `upto` is not between the old base and the document's revision.
pub fn swap_base(
    reads: &dyn TableReads,
    group: GroupId,
    room: RoomUid,
    number: DocumentNumber,
    expected: Option<&LocalHeader>,
    base: &[u8],
    upto: Revision,
) -> Result<Option<Writes>, TableError> {
    let keys = Keys::new(group);
    let Some(document) = load::<DocumentHeader>(reads, &keys.document_header(room, number))? else { return Ok(None) };
    let present: Option<LocalHeader> = load(reads, &keys.local_header(room, number))?;
    let replaced = present.map_or(Revision(0), |header| header.base_revision);
    if present.as_ref() != expected || upto > document.revision || upto < replaced {
        return Ok(None);
    }

    let mut writes = BTreeMap::new();
    let old_chunks = present.map_or(0, |header| header.base_bytes.div_ceil(CHUNK_BYTES as u64));
    for index in 0..u32::try_from(old_chunks).map_err(|_| damaged(LocalHeader::NAME, "base is too large"))? {
        writes.insert(keys.base_chunk(room, number, index), None);
    }
    for (index, chunk) in (0..).zip(base.chunks(CHUNK_BYTES)) {
        writes.insert(keys.base_chunk(room, number, index), Some(Bytes::copy_from_slice(chunk)));
    }
    let stored = keys.updates_after(room, number, Revision(0));
    let end = keys.updates_after(room, number, replaced).start;
    for pair in reads.scan(&stored.start, &end) {
        writes.insert(pair?.0.into(), None);
    }
    let (updates, bytes) = pushed_after(reads, &keys, room, number, upto, &document)?;
    let header = LocalHeader {
        base_revision: upto,
        kept_from: replaced,
        base_bytes: base.len() as u64,
        updates: document.updates.saturating_sub(updates),
        bytes: document.bytes.saturating_sub(bytes),
    };
    writes.insert(keys.local_header(room, number), Some(header.encode()));
    Ok(Some(writes.into_iter().collect()))
}

/// Updates after a revision, and their bytes.
fn pushed_after(
    reads: &dyn TableReads,
    keys: &Keys,
    room: RoomUid,
    number: DocumentNumber,
    after: Revision,
    document: &DocumentHeader,
) -> Result<(u64, u64), TableError> {
    if after == document.revision {
        return Ok((0, 0));
    }
    let range = keys.updates_after(room, number, after);
    let (mut updates, mut bytes) = (0, 0);
    for pair in reads.scan(&range.start, &range.end) {
        updates += 1;
        bytes += UpdateRecord::decode(pair?.1)?.update.len() as u64;
    }
    Ok((updates, bytes))
}
