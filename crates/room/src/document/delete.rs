//! Deletes a document: its path is free at once, and a new document there has another number.
//!
//! A document may have a clock for each client that ever wrote in it. These go in steps, by `Advance`; a record beside
//! them says where the due entry of the next step stands, so that a purge of the room finds it. What the replica holds
//! in its own form it removes by itself ([`crate::local::sweep`]).

use conclave_types::{DocumentNumber, DocumentPath, RoomUid, Timestamp};

use super::Document;
use super::changes::{self, PathChange};
use crate::advance::Budget;
use crate::codec::{Reader, Record, Writer, damaged};
use crate::keys::Due;
use crate::state::{State, load};
use crate::{Effect, Outcome, TableError, TableReads, Tables};

/// Most clocks of one document removed by one `Advance`: a quarter of its usual limit is left to others.
const STEP_KEYS: usize = 384;

/// A deleted document whose clocks are not all removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DroppedDocument {
    /// Deadline of its due entry.
    pub due: Timestamp,
}

impl Record for DroppedDocument {
    const NAME: &'static str = "dropped document";

    fn write(&self, writer: &mut Writer) {
        writer.time(self.due);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(DroppedDocument { due: reader.time()? })
    }
}

pub(crate) fn delete(state: &mut State<'_>, room: RoomUid, path: DocumentPath) -> Result<Outcome, TableError> {
    let document = match Document::find(state, room, &path)? {
        Ok(document) => document.number,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let revision = state.next_revision(room)?;
    state.set_document_number(room, path.clone(), None);
    state.set_document(room, document, None);
    if let Some(mut header) = state.room(room)? {
        header.live_documents = header.live_documents.saturating_sub(1);
        state.set_room(room, Some(header));
    }
    set_due(state, room, document, state.clock());
    changes::record(state, room, revision, document, PathChange::Deleted { path })?;
    state.emit(Effect::DocumentDropped { room, document });
    Ok(Outcome::DocumentDeleted { revision })
}

fn set_due(state: &mut State<'_>, room: RoomUid, document: DocumentNumber, due: Timestamp) {
    state.schedule(due, &Due::Dropped(room, document));
    state.overlay.put(state.keys.dropped_document(room, document), DroppedDocument { due }.encode());
}

/// Removes clocks of a deleted document, as many as the budget allows.
pub(crate) fn forget_clocks(
    state: &mut State<'_>,
    deadline: Timestamp,
    room: RoomUid,
    document: DocumentNumber,
    budget: &mut Budget,
) -> Result<(), TableError> {
    let record = state.keys.dropped_document(room, document);
    match load::<DroppedDocument>(&state.overlay, &record)? {
        Some(dropped) if dropped.due == deadline => {}
        _ => return Err(damaged(DroppedDocument::NAME, "missing, or due at another time")),
    }
    state.unschedule(deadline, &Due::Dropped(room, document));

    let (range, most) = (state.keys.document_clocks(room, document), budget.left().min(STEP_KEYS));
    let mut doomed = Vec::new();
    for pair in state.overlay.scan(&range.start, &range.end).take(most + 1) {
        doomed.push(pair?.0);
    }
    let is_last = doomed.len() <= most;
    doomed.truncate(most);
    budget.spend(doomed.len().max(1));
    doomed.into_iter().for_each(|key| state.overlay.delete(key.into()));
    if is_last {
        state.overlay.delete(record);
    } else {
        set_due(state, room, document, state.clock());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let dropped = DroppedDocument { due: Timestamp(300) };
        assert_eq!(&dropped.encode()[..], [1, 0xac, 2]);
        assert_eq!(DroppedDocument::decode(dropped.encode()), Ok(dropped));
    }
}
