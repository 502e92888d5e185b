//! What became of an item's deliveries: the failures so far, and how it died.

use bytes::Bytes;
use conclave_types::{QueueName, Timestamp};

use crate::TableError;
use crate::codec::{Reader, Record, Writer};

/// Failed deliveries of an item that are remembered, the newest.
pub(crate) const MAX_FAILURES: usize = 8;

/// Why an item is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadReason {
    /// It was delivered as often as the queue tries.
    TooManyAttempts,
    /// A consumer said that it is no use.
    Rejected,
}

/// What is known of a dead letter beside the item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was, and its number there.
    pub queue: QueueName,
    pub item: u64,
    pub time: Timestamp,
    pub reason: DeadReason,
    pub attempts: u32,
    /// Its group there; dead letters wait for nobody.
    pub group: Option<Bytes>,
    /// The newest of its failed deliveries, oldest first.
    pub failures: Vec<Failure>,
}

impl DeadLetter {
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.bytes(self.queue.as_bytes());
        writer.varint(self.item);
        writer.time(self.time);
        writer.u8(match self.reason {
            DeadReason::TooManyAttempts => 1,
            DeadReason::Rejected => 2,
        });
        writer.varint(self.attempts.into());
        writer.u8(self.group.is_some().into());
        self.group.iter().for_each(|group| writer.bytes(group));
        writer.u8(self.failures.len() as u8);
        self.failures.iter().for_each(|failure| failure.write(writer));
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (queue, item, time) = (reader.queue_name()?, reader.varint()?, reader.time()?);
        let reason = match reader.u8()? {
            1 => DeadReason::TooManyAttempts,
            2 => DeadReason::Rejected,
            _ => return Err(reader.damaged("unknown reason")),
        };
        let attempts = reader.u32()?;
        let group = reader.flag()?.then(|| reader.bytes()).transpose()?;
        let failures = (0..reader.u8()?).map(|_| Failure::read(reader)).collect::<Result<_, _>>()?;
        Ok(DeadLetter { queue, item, time, reason, attempts, group, failures })
    }
}

/// How a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    LeaseEnded,
    /// The consumer gave it back.
    Nacked,
    Rejected,
}

/// A delivery that led to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub attempt: u32,
    pub consumer: String,
    pub time: Timestamp,
    pub kind: FailureKind,
    /// As the consumer gave it.
    pub reason: String,
}

impl Failure {
    fn write(&self, writer: &mut Writer) {
        writer.varint(self.attempt.into());
        writer.bytes(self.consumer.as_bytes());
        writer.time(self.time);
        writer.u8(match self.kind {
            FailureKind::LeaseEnded => 1,
            FailureKind::Nacked => 2,
            FailureKind::Rejected => 3,
        });
        writer.bytes(self.reason.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (attempt, consumer, time) = (reader.u32()?, reader.text()?, reader.time()?);
        let kind = match reader.u8()? {
            1 => FailureKind::LeaseEnded,
            2 => FailureKind::Nacked,
            3 => FailureKind::Rejected,
            _ => return Err(reader.damaged("unknown failure")),
        };
        Ok(Failure { attempt, consumer, time, kind, reason: reader.text()? })
    }
}

/// What became of an item's deliveries so far. The value of one that is ready or delayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub attempts: u32,
    pub failures: Vec<Failure>,
}

impl Past {
    pub fn add(&mut self, failure: Failure) {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(failure);
    }

    pub(super) fn write_failures(&self, writer: &mut Writer) {
        self.failures.iter().for_each(|failure| failure.write(writer));
    }

    pub(super) fn read_failures(reader: &mut Reader) -> Result<Vec<Failure>, TableError> {
        let mut failures = Vec::new();
        while !reader.is_at_end() {
            failures.push(Failure::read(reader)?);
        }
        Ok(failures)
    }
}

impl Record for Past {
    const NAME: &'static str = "waiting item";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.attempts.into());
        self.write_failures(writer);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(Past { attempts: reader.u32()?, failures: Past::read_failures(reader)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_failures_are_remembered() {
        let mut past = Past::default();
        (1..=20).for_each(|attempt| {
            past.add(Failure {
                attempt,
                consumer: "c".into(),
                time: Timestamp(2),
                kind: FailureKind::Nacked,
                reason: "why".into(),
            })
        });
        let attempts: Vec<u32> = past.failures.iter().map(|failure| failure.attempt).collect();
        assert_eq!(attempts, (13..=20).collect::<Vec<_>>());
    }
}
