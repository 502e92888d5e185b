//! Reads of a shard's state, for requests that change nothing.
//!
//! All reads of one answer go to one `TableReads`, which is one consistent state.

mod documents;
mod messages;
mod queues;
mod rooms;

use conclave_types::{GroupId, RoomUid, Timestamp};

use crate::codec::{Record, damaged};
use crate::keys::Keys;
use crate::room::{RoomHeader, RoomState};
use crate::state::{ShardHeader, load};
use crate::{TableError, TableReads};

pub use documents::{
    DocumentView, StoredDocumentChange, StoredUpdate, document, document_base, document_by_number, document_changes,
    document_changes_trimmed_to, document_clock, document_clocks, document_updates, documents_changed, list_documents,
    local_header,
};
pub use messages::{MessageLogView, StoredMessage, message_log, messages};
pub use queues::{
    ConsumerView, ItemPlace, ItemView, ItemsPage, QueueStats, QueueView, attempt_in_flight, consumers, held, held_by,
    items, list_queues, queue, queue_stats, queues_changed,
};
pub use rooms::{RoomRecord, find_room, list_rooms, revision, room};

/// The applied clock of the shard; 0 before its first entry.
pub fn clock(reads: &(impl TableReads + ?Sized), group: GroupId) -> Result<Timestamp, TableError> {
    Ok(ShardHeader::load(reads, &Keys::new(group))?.clock)
}

/// A record that a name leads to. It may be missing only while the room's data is being removed, where headers go before
/// the names.
fn named<T: Record>(
    reads: &(impl TableReads + ?Sized),
    keys: &Keys,
    room: RoomUid,
    key: &[u8],
) -> Result<Option<T>, TableError> {
    if let Some(record) = load(reads, key)? {
        return Ok(Some(record));
    }
    match load::<RoomHeader>(reads, &keys.room_header(room))? {
        Some(header) if header.state == RoomState::Active => Err(damaged(T::NAME, "missing for a name")),
        _ => Ok(None),
    }
}
