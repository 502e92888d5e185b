//! The records of one item: what was sent and where it stands. What became of its deliveries is its [`story`](super::story).

use bytes::Bytes;
use conclave_types::{ParticipantName, Revision, Sequence, SessionId, Timestamp};

use super::story::{DeadLetter, Past};
use crate::codec::{Reader, Record, Writer};
use crate::{Receiver, TableError};

/// An item as it was sent. Written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub sender: ParticipantName,
    pub send_time: Timestamp,
    /// The revision of the command that put it into this queue.
    pub revision: Revision,
    pub priority: u8,
    /// It lives up to, not including, this moment.
    pub expires: Option<Timestamp>,
    pub group: Option<Bytes>,
    /// How it came to be a dead letter.
    pub dead: Option<DeadLetter>,
    /// It was ready as soon as it was there, with nothing to tell it from the others: until it is first taken, its place
    /// is its number alone.
    pub is_fresh: bool,
    pub item: Bytes,
}

impl Item {
    /// More than a body belongs to it, so its record is read when it goes.
    pub fn is_special(&self) -> bool {
        self.priority != 0 || self.expires.is_some() || self.group.is_some()
    }

    pub fn is_over(&self, clock: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= clock)
    }
}

const HAS_EXPIRY: u8 = 1;
const HAS_GROUP: u8 = 2;
const HAS_DEAD_LETTER: u8 = 4;
const IS_FRESH: u8 = 8;

impl Record for Item {
    const NAME: &'static str = "item";
    /// 2: priority, time to live, group, story of a dead letter.
    const VERSION: u8 = 2;

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.sender.as_bytes());
        writer.time(self.send_time);
        writer.revision(self.revision);
        writer.u8(self.priority);
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        writer.u8(flag(self.expires.is_some(), HAS_EXPIRY)
            | flag(self.group.is_some(), HAS_GROUP)
            | flag(self.dead.is_some(), HAS_DEAD_LETTER)
            | flag(self.is_fresh, IS_FRESH));
        self.expires.iter().for_each(|expires| writer.time(*expires));
        self.group.iter().for_each(|group| writer.bytes(group));
        self.dead.iter().for_each(|dead| dead.write(writer));
        writer.rest(&self.item);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (sender, send_time, revision) = (reader.participant()?, reader.time()?, reader.revision()?);
        let (priority, flags) = (reader.u8()?, reader.u8()?);
        if flags >= IS_FRESH << 1 {
            return Err(reader.damaged("unknown flag"));
        }
        let has = |flag: u8| flags & flag != 0;
        Ok(Item {
            sender,
            send_time,
            revision,
            priority,
            expires: has(HAS_EXPIRY).then(|| reader.time()).transpose()?,
            group: has(HAS_GROUP).then(|| reader.bytes()).transpose()?,
            dead: has(HAS_DEAD_LETTER).then(|| DeadLetter::read(reader)).transpose()?,
            is_fresh: has(IS_FRESH),
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

/// An item that a receiver holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// The last moment at which an acknowledgement counts.
    pub deadline: Timestamp,
    pub consumer: String,
    pub receiver: Receiver,
    /// More than a body belongs to the item.
    pub is_special: bool,
    /// Of the item as it was sent.
    pub bytes: u64,
    /// With this attempt, which has not failed yet.
    pub past: Past,
}

impl InFlight {
    pub fn attempt(&self) -> u32 {
        self.past.attempts
    }

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
const RECEIVER_CONSUMER: u8 = 4;

impl Record for InFlight {
    const NAME: &'static str = "in-flight item";
    /// 2: size, kind of item, failures.
    const VERSION: u8 = 2;

    fn write(&self, writer: &mut Writer) {
        writer.time(self.deadline);
        writer.varint(self.past.attempts.into());
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
            Receiver::Consumer { participant } => {
                writer.u8(RECEIVER_CONSUMER);
                writer.bytes(participant.as_bytes());
            }
        }
        writer.u8(self.is_special.into());
        writer.varint(self.bytes);
        self.past.write_failures(writer);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (deadline, attempts, consumer) = (reader.time()?, reader.u32()?, reader.text()?);
        let receiver = match reader.u8()? {
            RECEIVER_UNNAMED => Receiver::Unnamed,
            RECEIVER_SESSION => {
                let id = reader.bytes()?;
                let id = <[u8; 16]>::try_from(&id[..]).map_err(|_| reader.damaged("session id"))?;
                Receiver::Session { session: SessionId(id), sequence: Sequence(reader.varint()?) }
            }
            RECEIVER_REQUEST => Receiver::Request { participant: reader.participant()?, request_id: reader.bytes()? },
            RECEIVER_CONSUMER => Receiver::Consumer { participant: reader.participant()? },
            _ => return Err(reader.damaged("unknown receiver")),
        };
        let (is_special, bytes) = (reader.flag()?, reader.varint()?);
        let past = Past { attempts, failures: Past::read_failures(reader)? };
        Ok(InFlight { deadline, consumer, receiver, is_special, bytes, past })
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

/// Until when an item waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DelayedUntil(pub Timestamp);

impl Record for DelayedUntil {
    const NAME: &'static str = "delayed item";

    fn write(&self, writer: &mut Writer) {
        writer.time(self.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        reader.time().map(DelayedUntil)
    }
}

/// Items of a group are delivered one after the other: the value of a group that has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemGroup {
    /// The one that is ready, in flight or delayed; all others wait behind it.
    pub head: u64,
}

impl Record for ItemGroup {
    const NAME: &'static str = "group of items";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.head);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(ItemGroup { head: reader.varint()? })
    }
}

/// A message that was sent, remembered by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentMessage {
    pub item: u64,
    pub forget_at: Timestamp,
}

impl Record for SentMessage {
    const NAME: &'static str = "sent message";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.item);
        writer.time(self.forget_at);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(SentMessage { item: reader.varint()?, forget_at: reader.time()? })
    }
}

/// A consumer that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsumerRecord {
    pub leased: u64,
    pub last_lease: Timestamp,
}

impl Record for ConsumerRecord {
    const NAME: &'static str = "consumer";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.leased);
        writer.time(self.last_lease);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(ConsumerRecord { leased: reader.varint()?, last_lease: reader.time()? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{DeadReason, Failure, FailureKind};
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let mut item = Item {
            sender: "ann".parse().unwrap(),
            send_time: Timestamp(1),
            revision: Revision(2),
            priority: 0,
            expires: None,
            group: None,
            dead: None,
            is_fresh: true,
            item: Bytes::from_static(b"body"),
        };
        assert_eq!(&item.encode()[..], b"\x02\x03ann\x01\x02\x00\x08body");
        assert_eq!(Item::decode(item.encode()), Ok(item.clone()));
        item.is_fresh = false;
        (item.priority, item.expires, item.group) = (9, Some(Timestamp(5)), Some(Bytes::from_static(b"g")));
        let failure = failure(FailureKind::Nacked);
        item.dead = Some(DeadLetter {
            queue: "q".parse().unwrap(),
            item: 6,
            time: Timestamp(7),
            reason: DeadReason::Rejected,
            attempts: 8,
            group: None,
            failures: vec![failure.clone()],
        });
        let expected = [
            &b"\x02\x03ann\x01\x02\x09\x07\x05\x01g"[..],
            b"\x01q\x06\x07\x02\x08\x00\x01",
            b"\x01\x01c\x02\x02\x03why",
            b"body",
        ];
        assert_eq!(&item.encode()[..], expected.concat());
        assert_eq!(Item::decode(item.encode()), Ok(item));

        assert_eq!(&Past { attempts: 3, failures: vec![] }.encode()[..], [1, 3]);
        let past = Past { attempts: 3, failures: vec![failure] };
        assert_eq!(&past.encode()[..], b"\x01\x03\x01\x01c\x02\x02\x03why");
        assert_eq!(Past::decode(past.encode()), Ok(past));
        assert_eq!(&Acked { attempt: 3, time: Timestamp(4) }.encode()[..], [1, 3, 4]);
        assert_eq!(&DelayedUntil(Timestamp(5)).encode()[..], [1, 5]);
        assert_eq!(&ItemGroup { head: 5 }.encode()[..], [1, 5]);
        assert_eq!(&SentMessage { item: 5, forget_at: Timestamp(6) }.encode()[..], [1, 5, 6]);
        assert_eq!(&ConsumerRecord { leased: 5, last_lease: Timestamp(6) }.encode()[..], [1, 5, 6]);
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure { attempt: 1, consumer: "c".into(), time: Timestamp(2), kind, reason: "why".into() }
    }

    #[test]
    fn in_flight_bytes_are_as_they_were_first_stored() {
        let with = |receiver| InFlight {
            deadline: Timestamp(1),
            consumer: "c".into(),
            receiver,
            is_special: true,
            bytes: 5,
            past: Past { attempts: 2, failures: vec![] },
        };
        let unnamed = with(Receiver::Unnamed);
        assert_eq!(&unnamed.encode()[..], [2, 1, 2, 1, b'c', 1, 1, 5]);
        let session = with(Receiver::Session { session: SessionId([7; 16]), sequence: Sequence(8) });
        assert_eq!(&session.encode()[..], [&[2, 1, 2, 1, b'c', 2, 16][..], &[7; 16], &[8, 1, 5]].concat());
        let request =
            with(Receiver::Request { participant: "ann".parse().unwrap(), request_id: Bytes::from_static(b"id") });
        assert_eq!(&request.encode()[..], b"\x02\x01\x02\x01c\x03\x03ann\x02id\x01\x05");
        let mut consumer = with(Receiver::Consumer { participant: "ann".parse().unwrap() });
        consumer.past.failures = vec![failure(FailureKind::LeaseEnded)];
        assert_eq!(&consumer.encode()[..], b"\x02\x01\x02\x01c\x04\x03ann\x01\x05\x01\x01c\x02\x01\x03why");
        for record in [unnamed, session, request, consumer] {
            assert_eq!(InFlight::decode(record.encode()), Ok(record));
        }
    }
}
