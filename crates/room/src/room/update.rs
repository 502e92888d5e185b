//! Changes what users wrote about a room, and what it keeps of its log.

use conclave_types::RoomUid;

use super::{Labels, RoomLabels};
use crate::codec::{Record, damaged};
use crate::message;
use crate::state::{State, load};
use crate::{MessageRetention, Outcome, Refusal, TableError};

pub(crate) fn update(
    state: &mut State<'_>,
    room: RoomUid,
    metadata: Option<Labels>,
    annotations: Option<Labels>,
    retention: Option<MessageRetention>,
    expected_etag: Option<u64>,
) -> Result<Outcome, TableError> {
    let Some(mut header) = state.active_room(room)? else { return Ok(Outcome::Refused(Refusal::RoomNotFound)) };
    if expected_etag.is_some_and(|etag| etag != header.etag) {
        return Ok(Outcome::Refused(Refusal::EtagMismatch));
    }
    let key = state.keys.room_labels(room);
    let mut labels: RoomLabels =
        load(&state.overlay, &key)?.ok_or_else(|| damaged(RoomLabels::NAME, "missing for a room that exists"))?;
    labels.metadata = metadata.unwrap_or(labels.metadata);
    labels.annotations = annotations.unwrap_or(labels.annotations);
    state.overlay.put(key, labels.encode());
    if let Some(retention) = retention {
        message::set_retention(state, room, retention)?;
    }

    header.revision = header.revision.next();
    header.etag = header.revision.0;
    header.update_time = state.clock();
    state.set_room(room, Some(header));
    Ok(Outcome::RoomUpdated { revision: header.revision })
}
