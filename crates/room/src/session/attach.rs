//! Attaches a client to a session that it resumes, and fences off its older streams.
//!
//! The token that the client presents says when it was issued. `issued` must not be later than the clock of the entry
//! that attached (for a new session: than its first durable frame's). An attach counts as activity, so a record that
//! existed when the token was issued is still there 10 minutes later. Hence, with no record and a younger token, the
//! session never had one: nothing can have been forgotten, and a record is made now, to fence frames of the old stream
//! that may still be under way.
//!
//! An attach whose Welcome is lost is tried again with the same token. So a token is refused only once a newer
//! attachment has sent a durable frame; until then the latest to attach takes over, and older streams end. A host that stamps a little late is forgiven [`ISSUED_SLACK_MS`].

use conclave_types::limits::SESSION_EXPIRY_MS;
use conclave_types::{AttachmentNumber, ParticipantName, RoomUid, SessionId, Timestamp};

use super::SessionRecord;
use crate::state::State;
use crate::{Effect, Outcome, Refusal, TableError};

/// How much later than the attaching entry a token may claim to be issued.
const ISSUED_SLACK_MS: u64 = 5_000;

pub(crate) struct Attach {
    pub room: RoomUid,
    pub session: SessionId,
    pub owner: ParticipantName,
    pub presented: AttachmentNumber,
    pub issued: Timestamp,
    pub unacknowledged: bool,
}

impl Attach {
    pub fn apply(self, state: &mut State<'_>) -> Result<Outcome, TableError> {
        if state.active_room(self.room)?.is_none() {
            return Ok(Outcome::Refused(Refusal::RoomNotFound));
        }
        let is_young = state.clock().since_ms(self.issued) + ISSUED_SLACK_MS < SESSION_EXPIRY_MS;
        match state.session(self.room, self.session)? {
            Some(record) if record.owner != self.owner => Ok(Outcome::Refused(Refusal::SessionForeign)),
            Some(record) if self.presented < record.used => Ok(Outcome::Refused(Refusal::Superseded)),
            Some(record) => Ok(self.take_over(state, record)),
            None if is_young => {
                let record = SessionRecord::begin(state, self.room, self.session, self.owner.clone(), self.presented);
                Ok(self.take_over(state, record))
            }
            None if self.unacknowledged => Ok(Outcome::Refused(Refusal::SessionExpired)),
            None => Ok(Outcome::SessionUnknown),
        }
    }

    fn take_over(self, state: &mut State<'_>, mut record: SessionRecord) -> Outcome {
        let newest = record.attachment.max(self.presented);
        let attachment = AttachmentNumber(newest.0.saturating_add(1));
        record.attachment = attachment;
        record.active = state.clock();
        state.set_session(self.room, self.session, Some(record));
        state.emit(Effect::SessionAttached { room: self.room, session: self.session, attachment });
        Outcome::Attached { attachment }
    }
}
