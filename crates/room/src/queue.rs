//! Queues: durable, first in first out, at least once.
//!
//! ```text
//!            ┌──────── lease ended ────────┐
//!            ▼                             │
//! send → ready → lease (attempt + 1) → in flight → ack → acked (remembered for a while) → forgotten
//! ```
//!
//! An item's record is written once, by its send, and holds the body; ready, in flight and acked are small keys beside
//! it. So the attempt stands in the ready and in-flight values rather than in the item: a delivery never rewrites a body.
//! Invariant: an item that exists is either ready or in flight, never both.
//!
//! Every step that changes the sizes participants can read is a revision: send, a lease that delivers, an ack that
//! counts, leases that ended. Receiving again what one holds, or nothing, is none.
//!
//! Waiting for time: a queue has at most one due entry for its leases and one for its remembered acks, not one for each
//! item. The entry stands at the earliest deadline known when it was made; when it fires, the (bounded) in-flight
//! records are looked through and it is set anew. That saves a put and a delete an item, and it keeps the due index free
//! of the deletion marks of all the leases that were acknowledged in time.

pub(crate) mod ack;
pub(crate) mod expire;
pub(crate) mod lease;
pub(crate) mod send;

use bytes::Bytes;
use conclave_types::{ParticipantName, QueueName, Revision, RoomUid, Sequence, SessionId, Timestamp};

use crate::codec::{Reader, Record, Writer, damaged};
use crate::keys::{Due, QueueNumber};
use crate::state::State;
use crate::{Receiver, Refusal, TableError};

/// Most queues of a room: a room's queues are listed in pages, and each costs a header.
pub const MAX_QUEUES_PER_ROOM: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueHeader {
    pub name: QueueName,
    pub create_time: Timestamp,
    /// The revision that made the queue.
    pub revision: Revision,
    /// The revision of the last change that participants can see.
    pub changed: Revision,
    /// The highest item number issued; 0 before the first send.
    pub last_item: u64,
    pub ready: u64,
    pub leased: u64,
    /// No item with a lower number is ready, in flight, or remembered as acked. Scans begin there, instead of passing
    /// over everything that was deleted before.
    pub ready_from: u64,
    pub leased_from: u64,
    pub acked_from: u64,
    /// Deadline of the queue's due entry for leases, and of the one for remembered acks.
    pub leases_due: Option<Timestamp>,
    pub acked_due: Option<Timestamp>,
}

impl QueueHeader {
    pub fn remove_leased(&mut self, count: u64) -> Result<(), TableError> {
        let left = self.leased.checked_sub(count);
        self.leased = left.ok_or_else(|| damaged(Self::NAME, "fewer items are leased than in flight"))?;
        Ok(())
    }
}

impl Record for QueueHeader {
    const NAME: &'static str = "queue header";
    /// 2: says when it was last changed.
    const VERSION: u8 = 2;

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.name.as_bytes());
        writer.time(self.create_time);
        writer.revision(self.revision);
        writer.revision(self.changed);
        for number in [self.last_item, self.ready, self.leased, self.ready_from, self.leased_from, self.acked_from] {
            writer.varint(number);
        }
        writer.optional_time(self.leases_due);
        writer.optional_time(self.acked_due);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(QueueHeader {
            name: reader.queue_name()?,
            create_time: reader.time()?,
            revision: reader.revision()?,
            changed: reader.revision()?,
            last_item: reader.varint()?,
            ready: reader.varint()?,
            leased: reader.varint()?,
            ready_from: reader.varint()?,
            leased_from: reader.varint()?,
            acked_from: reader.varint()?,
            leases_due: reader.optional_time()?,
            acked_due: reader.optional_time()?,
        })
    }
}

/// The value of a queue's directory entry.
impl Record for QueueNumber {
    const NAME: &'static str = "queue directory";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.0.into());
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        reader.u32().map(QueueNumber)
    }
}

/// An item as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub sender: ParticipantName,
    pub send_time: Timestamp,
    /// The revision of the command that sent it.
    pub revision: Revision,
    pub item: Bytes,
}

impl Record for Item {
    const NAME: &'static str = "item";

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.sender.as_bytes());
        writer.time(self.send_time);
        writer.revision(self.revision);
        writer.rest(&self.item);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(Item {
            sender: reader.participant()?,
            send_time: reader.time()?,
            revision: reader.revision()?,
            item: reader.rest(),
        })
    }

    fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(self.item.len() + self.sender.as_bytes().len() + 24);
        writer.u8(Self::VERSION);
        self.write(&mut writer);
        writer.finish()
    }
}

/// An item that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Deliveries of the item so far.
    pub attempts: u32,
}

impl Record for Ready {
    const NAME: &'static str = "ready item";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.attempts.into());
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(Ready { attempts: reader.u32()? })
    }
}

/// An item that a receiver holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// The last moment at which an acknowledgement counts.
    pub deadline: Timestamp,
    pub attempt: u32,
    pub consumer: String,
    pub receiver: Receiver,
}

impl InFlight {
    pub fn is_over(&self, clock: Timestamp) -> bool {
        self.deadline < clock
    }

    /// The first moment at which the lease is over.
    pub fn ends(&self) -> Timestamp {
        self.deadline.plus_ms(1)
    }
}

const RECEIVER_UNNAMED: u8 = 1;
const RECEIVER_SESSION: u8 = 2;
const RECEIVER_REQUEST: u8 = 3;

impl Record for InFlight {
    const NAME: &'static str = "in-flight item";

    fn write(&self, writer: &mut Writer) {
        writer.time(self.deadline);
        writer.varint(self.attempt.into());
        writer.bytes(self.consumer.as_bytes());
        match &self.receiver {
            Receiver::Unnamed => writer.u8(RECEIVER_UNNAMED),
            Receiver::Session { session, sequence } => {
                writer.u8(RECEIVER_SESSION);
                writer.bytes(&session.0);
                writer.varint(sequence.0);
            }
            Receiver::Request { participant, request_id } => {
                writer.u8(RECEIVER_REQUEST);
                writer.bytes(participant.as_bytes());
                writer.bytes(request_id);
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (deadline, attempt, consumer) = (reader.time()?, reader.u32()?, reader.text()?);
        let receiver = match reader.u8()? {
            RECEIVER_UNNAMED => Receiver::Unnamed,
            RECEIVER_SESSION => {
                let id = reader.bytes()?;
                let id = <[u8; 16]>::try_from(&id[..]).map_err(|_| reader.damaged("session id"))?;
                Receiver::Session { session: SessionId(id), sequence: Sequence(reader.varint()?) }
            }
            RECEIVER_REQUEST => Receiver::Request { participant: reader.participant()?, request_id: reader.bytes()? },
            _ => return Err(reader.damaged("unknown receiver")),
        };
        Ok(InFlight { deadline, attempt, consumer, receiver })
    }
}

/// An acknowledged delivery, remembered so that a repetition is told apart from a stale acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acked {
    pub attempt: u32,
    pub time: Timestamp,
}

impl Record for Acked {
    const NAME: &'static str = "acked item";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.attempt.into());
        writer.time(self.time);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(Acked { attempt: reader.u32()?, time: reader.time()? })
    }
}

/// A queue that a command works on. Changes count once [`Queue::store`] is called.
pub(crate) struct Queue {
    pub room: RoomUid,
    pub number: QueueNumber,
    pub header: QueueHeader,
    /// This command makes the queue.
    pub is_new: bool,
}

impl Queue {
    /// Finds a queue of an active room, or refuses.
    pub fn find(state: &mut State<'_>, room: RoomUid, name: &QueueName) -> Result<Result<Queue, Refusal>, TableError> {
        if state.active_room(room)?.is_none() {
            return Ok(Err(Refusal::RoomNotFound));
        }
        let Some(number) = state.queue_number(room, name)? else { return Ok(Err(Refusal::QueueNotFound)) };
        Ok(Ok(Queue { room, number, header: state.queue(room, number)?, is_new: false }))
    }

    /// Finds a queue, or begins a new one of that name.
    pub fn find_or_begin(
        state: &mut State<'_>,
        room: RoomUid,
        name: &QueueName,
    ) -> Result<Result<Queue, Refusal>, TableError> {
        match Queue::find(state, room, name)? {
            Err(Refusal::QueueNotFound) => {}
            found => return Ok(found),
        }
        let queues = state.active_room(room)?.map_or(0, |header| header.queues);
        if queues >= MAX_QUEUES_PER_ROOM {
            return Ok(Err(Refusal::QueueLimit));
        }
        let header = QueueHeader {
            name: name.clone(),
            create_time: state.clock(),
            revision: Revision(0),
            changed: Revision(0),
            last_item: 0,
            ready: 0,
            leased: 0,
            ready_from: 1,
            leased_from: 1,
            acked_from: 1,
            leases_due: None,
            acked_due: None,
        };
        Ok(Ok(Queue { room, number: QueueNumber(queues + 1), header, is_new: true }))
    }

    /// Records the changes as one revision of the room.
    pub fn store(mut self, state: &mut State<'_>) -> Result<Revision, TableError> {
        let revision = state.next_revision(self.room)?;
        self.header.changed = revision;
        if self.is_new {
            self.header.revision = revision;
            state.set_queue_number(self.room, self.header.name.clone(), self.number);
            if let Some(mut room) = state.room(self.room)? {
                room.queues = self.number.0;
                state.set_room(self.room, Some(room));
            }
        }
        state.set_queue(self.room, self.number, self.header);
        state.queue_changed(self.room, self.number);
        Ok(revision)
    }

    /// Sees to it that the end of a lease is noticed.
    pub fn watch_lease(&mut self, state: &mut State<'_>, ends: Timestamp) {
        let due = Due::Leases(self.room, self.number);
        if self.header.leases_due.is_none_or(|scheduled| ends < scheduled) {
            if let Some(scheduled) = self.header.leases_due {
                state.unschedule(scheduled, &due);
            }
            state.schedule(ends, &due);
            self.header.leases_due = Some(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let header = QueueHeader {
            name: "q".parse().unwrap(),
            create_time: Timestamp(1),
            revision: Revision(2),
            changed: Revision(11),
            last_item: 3,
            ready: 4,
            leased: 5,
            ready_from: 6,
            leased_from: 7,
            acked_from: 8,
            leases_due: Some(Timestamp(9)),
            acked_due: None,
        };
        assert_eq!(&header.encode()[..], [2, 1, b'q', 1, 2, 11, 3, 4, 5, 6, 7, 8, 10, 0]);
        assert_eq!(QueueHeader::decode(header.encode()), Ok(header));

        let item = Item {
            sender: "ann".parse().unwrap(),
            send_time: Timestamp(1),
            revision: Revision(2),
            item: Bytes::from_static(b"body"),
        };
        assert_eq!(&item.encode()[..], b"\x01\x03ann\x01\x02body");
        assert_eq!(Item::decode(item.encode()), Ok(item));

        assert_eq!(&Ready { attempts: 3 }.encode()[..], [1, 3]);
        assert_eq!(&Acked { attempt: 3, time: Timestamp(4) }.encode()[..], [1, 3, 4]);
        assert_eq!(&QueueNumber(5).encode()[..], [1, 5]);
    }

    #[test]
    fn in_flight_bytes_are_as_they_were_first_stored() {
        let with = |receiver| InFlight { deadline: Timestamp(1), attempt: 2, consumer: "c".into(), receiver };
        let unnamed = with(Receiver::Unnamed);
        assert_eq!(&unnamed.encode()[..], [1, 1, 2, 1, b'c', 1]);
        let session = with(Receiver::Session { session: SessionId([7; 16]), sequence: Sequence(8) });
        assert_eq!(&session.encode()[..], [&[1, 1, 2, 1, b'c', 2, 16][..], &[7; 16], &[8]].concat());
        let request =
            with(Receiver::Request { participant: "ann".parse().unwrap(), request_id: Bytes::from_static(b"id") });
        assert_eq!(&request.encode()[..], b"\x01\x01\x02\x01c\x03\x03ann\x02id");
        for record in [unnamed, session, request] {
            assert_eq!(InFlight::decode(record.encode()), Ok(record));
        }
    }
}
