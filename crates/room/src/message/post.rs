//! Posts a message to the room's log.

use bytes::Bytes;
use conclave_types::{ParticipantName, RoomUid};

use super::MessageRecord;
use crate::codec::Record;
use crate::state::State;
use crate::{ChangeKind, Outcome, Refusal, TableError};

pub(crate) fn post(
    state: &mut State<'_>,
    room: RoomUid,
    sender: ParticipantName,
    message: Bytes,
) -> Result<Outcome, TableError> {
    state.act_as(&sender);
    if state.active_room(room)?.is_none() {
        return Ok(Outcome::Refused(Refusal::RoomNotFound));
    }
    let (revision, time) = (state.next_revision(room)?, state.clock());
    let mut log = state.message_log(room)?;
    if log.count == 0 {
        log.oldest = time;
    }
    log.count += 1;
    log.bytes += message.len() as u64;
    log.last = revision;
    log.watch(state, room);
    state.set_message_log(room, log);

    let record = MessageRecord { time, sender, session: state.actor().session, message };
    state.overlay.put(state.keys.message(room, revision), record.encode());
    state.emit_change(room, revision, ChangeKind::MessagePosted { message: record.message });
    Ok(Outcome::Posted { revision })
}
