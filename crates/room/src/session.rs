//! Sessions: a client's durable frames take effect once and in order, over any number of streams and hosts.
//!
//! ```text
//!        first durable frame            10 min without one
//! (none) ───────────────────→ recorded ───────────────────→ (none)
//!        resumed before it        │ ▲
//!                                 └─┘ frame · repetition · attach (attachment + 1)
//! ```
//!
//! A frame counts only if its sequence is above the last one, so order never inverts. A repetition gets the outcome
//! that was kept for it; one without a kept outcome had been refused before the log. Outcomes are kept until the client
//! says it holds them: one key for all outcomes of a session in one entry.
//!
//! The record lives until `Advance` removes it, so a session that comes back a moment too late still finds it.

pub(crate) mod attach;
pub(crate) mod expire;
pub(crate) mod frame;
pub(crate) mod kept;
pub(crate) mod sends;

use conclave_types::limits::{MAX_UNACKNOWLEDGED_FRAMES, SESSION_EXPIRY_MS};
use conclave_types::{AttachmentNumber, ParticipantName, RoomUid, Sequence, SessionId, Timestamp};

use crate::codec::{Reader, Record, Writer};
use crate::keys::Due;
use crate::state::State;
use crate::{SessionFrame, TableError, Tables};

pub(crate) use kept::{KeptRange, OpenOutcomes};

/// Kept outcomes after which the oldest are dropped as if they had been acknowledged. The host admits half as many; the
/// rest is slack for those that stand in one key with the oldest.
const MAX_KEPT_OUTCOMES: u64 = 2 * MAX_UNACKNOWLEDGED_FRAMES as u64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub owner: ParticipantName,
    /// Frames of lower attachments are fenced off.
    pub attachment: AttachmentNumber,
    /// The highest attachment that a durable frame came with. An attach may present this one or a later one: while a
    /// newer attachment has done nothing, its Welcome may have been lost, and then its token is in nobody's hands.
    pub used: AttachmentNumber,
    /// The highest sequence of a durable frame.
    pub last: Sequence,
    /// The client holds every durable reply up to here.
    pub acknowledged: Sequence,
    /// When a durable frame or an attach last came.
    pub active: Timestamp,
    /// Deadline of the session's due entry. It is left where it is while frames come, and set anew when it fires early.
    pub due: Timestamp,
    /// The keys that hold kept outcomes, oldest first.
    pub kept: Vec<KeptRange>,
}

impl SessionRecord {
    /// A session that begins now, with its due entry.
    pub fn begin(
        state: &mut State<'_>,
        room: RoomUid,
        session: SessionId,
        owner: ParticipantName,
        attachment: AttachmentNumber,
    ) -> Self {
        let active = state.clock();
        let due = active.plus_ms(SESSION_EXPIRY_MS);
        state.schedule(due, &Due::Session(room, session));
        let (last, acknowledged) = (Sequence(0), Sequence(0));
        SessionRecord { owner, attachment, used: attachment, last, acknowledged, active, due, kept: Vec::new() }
    }

    /// Notes that a durable frame ran.
    pub fn advance(&mut self, state: &mut State<'_>, frame: &SessionFrame) {
        let SessionFrame { room, session, attachment, sequence, acknowledged, .. } = *frame;
        self.attachment = self.attachment.max(attachment);
        self.used = self.used.max(attachment);
        self.last = sequence;
        self.active = state.clock();
        // A client cannot hold the reply of the frame it is sending.
        self.acknowledge(state, room, session, acknowledged.min(Sequence(sequence.0 - 1)));
        self.bound(state, room, session);
    }

    /// Forgets the outcomes that the client holds.
    pub fn acknowledge(&mut self, state: &mut State<'_>, room: RoomUid, session: SessionId, upto: Sequence) {
        self.acknowledged = self.acknowledged.max(upto.min(self.last));
        let held = self.kept.iter().take_while(|range| range.last <= self.acknowledged).count();
        self.drop_oldest(state, room, session, held);
    }

    /// Keeps the record bounded even if the client never acknowledges.
    fn bound(&mut self, state: &mut State<'_>, room: RoomUid, session: SessionId) {
        while self.kept.iter().map(|range| u64::from(range.count)).sum::<u64>() > MAX_KEPT_OUTCOMES {
            self.acknowledged = self.acknowledged.max(self.kept[0].last);
            self.drop_oldest(state, room, session, 1);
        }
    }

    fn drop_oldest(&mut self, state: &mut State<'_>, room: RoomUid, session: SessionId, count: usize) {
        for range in self.kept.drain(..count) {
            state.overlay.delete(state.keys.kept_outcomes(room, session, range.first.0));
        }
    }
}

impl Record for SessionRecord {
    const NAME: &'static str = "session";

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.owner.as_bytes());
        writer.varint(self.attachment.0);
        writer.varint(self.used.0);
        writer.varint(self.last.0);
        writer.varint(self.acknowledged.0);
        writer.time(self.active);
        writer.time(self.due);
        for range in &self.kept {
            writer.varint(range.first.0);
            writer.varint(range.last.0);
            writer.varint(range.count.into());
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let mut record = SessionRecord {
            owner: reader.participant()?,
            attachment: AttachmentNumber(reader.varint()?),
            used: AttachmentNumber(reader.varint()?),
            last: reader.sequence()?,
            acknowledged: reader.sequence()?,
            active: reader.time()?,
            due: reader.time()?,
            kept: Vec::new(),
        };
        while !reader.is_at_end() {
            let (first, last, count) = (reader.sequence()?, reader.sequence()?, reader.u32()?);
            record.kept.push(KeptRange { first, last, count });
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let record = SessionRecord {
            owner: "ann".parse().unwrap(),
            attachment: AttachmentNumber(2),
            used: AttachmentNumber(1),
            last: Sequence(2),
            acknowledged: Sequence(3),
            active: Timestamp(4),
            due: Timestamp(5),
            kept: vec![KeptRange { first: Sequence(6), last: Sequence(8), count: 2 }],
        };
        assert_eq!(&record.encode()[..], b"\x01\x03ann\x02\x01\x02\x03\x04\x05\x06\x08\x02");
        assert_eq!(SessionRecord::decode(record.encode()), Ok(record));
    }
}
