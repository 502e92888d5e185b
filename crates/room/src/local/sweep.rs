//! Removes what is left of documents that are gone: deleted, or of a room that is being deleted.
//!
//! A deleted document's updates and base are found by looking, not by a list: a replica that was away when the document
//! was deleted, or crashed between two steps, finds them in the same way.

use conclave_types::{DocumentNumber, GroupId, RoomUid};

use crate::keys::Keys;
use crate::{TableError, TableReads, Writes, read};

/// Where the next step goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepCursor {
    room: RoomUid,
    document: DocumentNumber,
}

/// One step over the documents of the shard, from `after` on, or from the first: what to delete, and where to go on;
/// none when all were seen. A step looks at no more than `limit` documents and deletes no more than `limit` keys.
pub fn sweep(
    reads: &dyn TableReads,
    group: GroupId,
    after: Option<SweepCursor>,
    limit: usize,
) -> Result<(Writes, Option<SweepCursor>), TableError> {
    let keys = Keys::new(group);
    let (all, limit) = (keys.local_all(), limit.max(1));
    let mut from = after.map_or(all.start, |cursor| keys.local_document(cursor.room, cursor.document));
    let (mut writes, mut looked_at) = (Writes::new(), 0);
    loop {
        let Some((key, _)) = reads.scan(&from, &all.end).next().transpose()? else { return Ok((writes, None)) };
        let (room, document) = keys.parse_local(&key)?;
        if looked_at >= limit || writes.len() >= limit {
            return Ok((writes, Some(SweepCursor { room, document })));
        }
        looked_at += 1;
        let end = keys.local_document_end(room, document);
        if is_gone(reads, group, room, document)? {
            for pair in reads.scan(&key, &end) {
                let (key, _) = pair?;
                if writes.len() >= limit {
                    return Ok((writes, Some(SweepCursor { room, document })));
                }
                writes.push((key.into(), None));
            }
        }
        from = end;
    }
}

fn is_gone(
    reads: &dyn TableReads,
    group: GroupId,
    room: RoomUid,
    document: DocumentNumber,
) -> Result<bool, TableError> {
    let header = reads.get(&Keys::new(group).document_header(room, document))?;
    Ok(header.is_none() || read::revision(reads, group, room)?.is_none())
}
