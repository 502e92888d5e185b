//! Runs a durable frame of a session: once, in order, with the outcome kept.
//!
//! Session-level refusals (superseded, foreign, not applied, room gone) leave no trace at all; a refusal by the command
//! itself is an outcome like any other, and the same frame sent again gets it again.

use super::{SessionRecord, kept};
use crate::apply::transact;
use crate::state::State;
use crate::{Operation, Outcome, Refusal, SessionFrame, TableError};

pub(crate) fn run(state: &mut State<'_>, frame: SessionFrame, operation: Operation) -> Result<Outcome, TableError> {
    if state.active_room(frame.room)?.is_none() {
        return Ok(Outcome::Refused(Refusal::RoomNotFound));
    }
    if operation.room().is_some_and(|room| room != frame.room) {
        return Ok(Outcome::Refused(Refusal::SessionForeign));
    }
    match state.session(frame.room, frame.session)? {
        Some(record) if record.owner != frame.owner => Ok(Outcome::Refused(Refusal::SessionForeign)),
        Some(record) if frame.attachment < record.attachment => Ok(Outcome::Refused(Refusal::Superseded)),
        Some(record) if frame.sequence <= record.last => repeat(state, frame, record),
        Some(_) => first_time(state, frame, operation),
        // Sequences are numbered from 1, and no reply can be held before its frame is sent.
        None if frame.sequence <= frame.acknowledged => Ok(Outcome::Refused(Refusal::NotApplied)),
        None => first_time(state, frame, operation),
    }
}

fn repeat(state: &mut State<'_>, frame: SessionFrame, mut record: SessionRecord) -> Result<Outcome, TableError> {
    let kept = if frame.sequence > record.acknowledged {
        kept::find(state, frame.room, frame.session, &record, frame.sequence)?
    } else {
        None
    };
    record.used = record.used.max(frame.attachment);
    record.active = state.clock();
    record.acknowledge(state, frame.room, frame.session, frame.acknowledged);
    state.set_session(frame.room, frame.session, Some(record));
    Ok(kept.unwrap_or(Outcome::Refused(Refusal::NotApplied)))
}

fn first_time(state: &mut State<'_>, frame: SessionFrame, operation: Operation) -> Result<Outcome, TableError> {
    let outcome = transact(state, operation)?;

    let (room, session) = (frame.room, frame.session);
    let mut record = match state.session(room, session)? {
        Some(record) => record,
        None => SessionRecord::begin(state, room, session, frame.owner.clone(), frame.attachment),
    };
    record.advance(state, &frame);
    state.open_outcomes(room, session).push(frame.sequence, kept::encode(&outcome)?);
    state.set_session(room, session, Some(record));
    Ok(outcome)
}
