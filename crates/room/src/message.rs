//! The room's log: messages that are kept, each at the revision that posted it.
//!
//! ```text
//! post → kept → (more, larger or older than the room keeps) → trimmed, oldest first, in steps
//! ```
//!
//! What exceeds the room's retention goes by `Advance`. A log has at most one due entry: a little after it became too
//! long, or when its oldest message becomes too old. Invariant: every message after `trimmed_to` is there.

pub(crate) mod post;
pub(crate) mod trim;

use bytes::Bytes;
use conclave_types::{ParticipantName, Revision, RoomUid, SessionId, Timestamp};

use crate::codec::{Reader, Record, Writer};
use crate::keys::Due;
use crate::state::State;
use crate::{MessageRetention, TableError};

/// How long a log may exceed what is kept before it is trimmed: a log that is full would otherwise be trimmed after each
/// message, and nobody is promised the second.
const SPACING_MS: u64 = 1_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MessageLog {
    /// Messages that are kept, and their bytes.
    pub count: u64,
    pub bytes: u64,
    /// When the oldest message that is kept was posted; of no meaning while none is.
    pub oldest: Timestamp,
    /// The revision of the newest message that was removed; 0 when none was.
    pub trimmed_to: Revision,
    /// The revision of the newest message; 0 before the first.
    pub last: Revision,
    pub retention: MessageRetention,
    /// Deadline of the log's due entry.
    pub due: Option<Timestamp>,
}

impl MessageLog {
    /// There is more than is kept.
    fn is_too_long(&self) -> bool {
        self.count > self.retention.max_messages || self.bytes > self.retention.max_bytes
    }

    /// The oldest message may not be kept longer than this.
    fn oldest_ends(&self) -> Option<Timestamp> {
        self.retention.max_age_ms.filter(|_| self.count > 0).map(|age| self.oldest.plus_ms(age))
    }

    /// The oldest message has to go.
    fn exceeds(&self, clock: Timestamp) -> bool {
        self.is_too_long() || self.oldest_ends().is_some_and(|ends| ends <= clock)
    }

    /// When to look, so that what exceeds is removed; `spacing_ms` after now at the earliest.
    fn look_at(&self, clock: Timestamp, spacing_ms: u64) -> Option<Timestamp> {
        let soon = clock.plus_ms(spacing_ms);
        if self.is_too_long() { Some(soon) } else { self.oldest_ends().map(|ends| ends.max(soon)) }
    }

    /// Sees to it that what exceeds the retention is removed. An earlier due entry is left: it looks again.
    fn watch(&mut self, state: &mut State<'_>, room: RoomUid) {
        if let Some(look_at) = self.look_at(state.clock(), SPACING_MS)
            && self.due.is_none_or(|due| look_at < due)
        {
            self.set_due(state, room, Some(look_at));
        }
    }

    fn set_due(&mut self, state: &mut State<'_>, room: RoomUid, due: Option<Timestamp>) {
        if let Some(due) = self.due {
            state.unschedule(due, &Due::Trim(room));
        }
        if let Some(due) = due {
            state.schedule(due, &Due::Trim(room));
        }
        self.due = due;
    }
}

/// Sets what a room keeps of its log.
pub(crate) fn set_retention(
    state: &mut State<'_>,
    room: RoomUid,
    retention: MessageRetention,
) -> Result<(), TableError> {
    let mut log = state.message_log(room)?;
    log.retention = retention;
    let look_at = log.look_at(state.clock(), SPACING_MS);
    log.set_due(state, room, look_at);
    state.set_message_log(room, log);
    Ok(())
}

impl Record for MessageLog {
    const NAME: &'static str = "message log";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.count);
        writer.varint(self.bytes);
        writer.time(self.oldest);
        writer.revision(self.trimmed_to);
        writer.revision(self.last);
        writer.varint(self.retention.max_messages);
        writer.varint(self.retention.max_bytes);
        writer.optional_time(self.retention.max_age_ms.map(Timestamp));
        writer.optional_time(self.due);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(MessageLog {
            count: reader.varint()?,
            bytes: reader.varint()?,
            oldest: reader.time()?,
            trimmed_to: reader.revision()?,
            last: reader.revision()?,
            retention: MessageRetention {
                max_messages: reader.varint()?,
                max_bytes: reader.varint()?,
                max_age_ms: reader.optional_time()?.map(|age| age.0),
            },
            due: reader.optional_time()?,
        })
    }
}

/// A message as it was posted; its revision stands in the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MessageRecord {
    pub time: Timestamp,
    pub sender: ParticipantName,
    pub session: Option<SessionId>,
    pub message: Bytes,
}

impl Record for MessageRecord {
    const NAME: &'static str = "message";

    fn write(&self, writer: &mut Writer) {
        writer.time(self.time);
        writer.bytes(self.sender.as_bytes());
        writer.optional_session(self.session);
        writer.rest(&self.message);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(MessageRecord {
            time: reader.time()?,
            sender: reader.participant()?,
            session: reader.optional_session()?,
            message: reader.rest(),
        })
    }

    fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(self.message.len() + self.sender.as_bytes().len() + 32);
        writer.u8(Self::VERSION);
        self.write(&mut writer);
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let log = MessageLog {
            count: 1,
            bytes: 2,
            oldest: Timestamp(3),
            trimmed_to: Revision(4),
            last: Revision(5),
            retention: MessageRetention { max_messages: 6, max_bytes: 7, max_age_ms: Some(8) },
            due: None,
        };
        assert_eq!(&log.encode()[..], [1, 1, 2, 3, 4, 5, 6, 7, 9, 0]);
        assert_eq!(MessageLog::decode(log.encode()), Ok(log));

        let with = |session| MessageRecord {
            time: Timestamp(1),
            sender: "ann".parse().unwrap(),
            session,
            message: Bytes::from_static(b"hello"),
        };
        assert_eq!(&with(None).encode()[..], b"\x01\x01\x03ann\x00hello");
        let session = with(Some(SessionId([7; 16])));
        assert_eq!(&session.encode()[..], [b"\x01\x01\x03ann\x10", &[7; 16][..], b"hello"].concat());
        for record in [with(None), session] {
            assert_eq!(MessageRecord::decode(record.encode()), Ok(record));
        }
    }
}
