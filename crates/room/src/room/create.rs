//! Creates a room. Numbers count up and are never reused, so a room made again under an old name is another room.

use conclave_types::{ProjectId, Revision, RoomName, RoomNumber, RoomUid, Slot};

use super::{Labels, RoomHeader, RoomLabels, RoomState};
use crate::codec::Record;
use crate::state::State;
use crate::{Outcome, Refusal, TableError, TableReads};

pub(crate) fn create(
    state: &mut State<'_>,
    slot: Slot,
    project: ProjectId,
    name: RoomName,
    metadata: Labels,
    annotations: Labels,
) -> Result<Outcome, TableError> {
    let entry = state.keys.directory(slot, &project, &name);
    if state.overlay.get(&entry)?.is_some() {
        return Ok(Outcome::Refused(Refusal::RoomExists));
    }
    let room = RoomUid { slot, number: RoomNumber(state.next_room_number()) };
    let (revision, now) = (Revision(1), state.clock());
    let header = RoomHeader {
        state: RoomState::Active,
        revision,
        etag: revision.0,
        create_time: now,
        update_time: now,
        queues: 0,
        documents: 0,
        live_documents: 0,
    };
    let labels = RoomLabels { project, name, metadata, annotations };
    state.overlay.put(entry, room.number.encode());
    state.overlay.put(state.keys.room_labels(room), labels.encode());
    state.set_room(room, Some(header));
    Ok(Outcome::RoomCreated { room, revision })
}
