//! Deletes a room: gone for everybody at once, its data in steps ([`super::purge`]).

use conclave_types::RoomUid;

use super::{RoomLabels, RoomState};
use crate::codec::{Record, damaged};
use crate::keys::Due;
use crate::state::{State, load};
use crate::{Effect, Outcome, Refusal, TableError, Tables};

pub(crate) fn delete(state: &mut State<'_>, room: RoomUid, expected_etag: Option<u64>) -> Result<Outcome, TableError> {
    let Some(mut header) = state.active_room(room)? else { return Ok(Outcome::Refused(Refusal::RoomNotFound)) };
    if expected_etag.is_some_and(|etag| etag != header.etag) {
        return Ok(Outcome::Refused(Refusal::EtagMismatch));
    }
    let labels: RoomLabels = load(&state.overlay, &state.keys.room_labels(room))?
        .ok_or_else(|| damaged(RoomLabels::NAME, "missing for a room that exists"))?;
    state.overlay.delete(state.keys.directory(room.slot, &labels.project, &labels.name));
    state.schedule(state.clock(), &Due::Purge(room));

    header.state = RoomState::Deleting;
    header.revision = header.revision.next();
    header.update_time = state.clock();
    state.set_room(room, Some(header));
    state.emit(Effect::RoomDeleted { room });
    Ok(Outcome::RoomDeleted { revision: header.revision })
}
