//! Forgets a session that sent no durable frame for 10 minutes, with the outcomes kept for it.

use conclave_types::limits::SESSION_EXPIRY_MS;
use conclave_types::{RoomUid, SessionId, Timestamp};

use super::SessionRecord;
use crate::advance::Budget;
use crate::codec::{Record, damaged};
use crate::keys::Due;
use crate::state::State;
use crate::{TableError, Tables};

pub(crate) fn expire(
    state: &mut State<'_>,
    deadline: Timestamp,
    room: RoomUid,
    session: SessionId,
    budget: &mut Budget,
) -> Result<(), TableError> {
    let due = Due::Session(room, session);
    let mut record = match state.session(room, session)? {
        Some(record) if record.due == deadline => record,
        _ => return Err(damaged(SessionRecord::NAME, "missing, or due at another time")),
    };
    state.unschedule(deadline, &due);
    let expiry = record.active.plus_ms(SESSION_EXPIRY_MS);
    if expiry > state.clock() {
        record.due = expiry;
        state.schedule(expiry, &due);
        state.set_session(room, session, Some(record));
        return Ok(());
    }
    budget.spend(record.kept.len());
    for range in &record.kept {
        state.overlay.delete(state.keys.kept_outcomes(room, session, range.first.0));
    }
    state.set_session(room, session, None);
    Ok(())
}
