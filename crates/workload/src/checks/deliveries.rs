//! Deliveries and what became of them in one view, whether they were answers of a receive or came by a stream. What
//! several invariants look at; none itself.

use super::order::told;
use crate::history::{AckResult, Answer, Call, Delivery, Handed, History, Operation, Received};

/// A delivery as somebody got it.
#[derive(Clone, Copy)]
pub struct Got<'a> {
    pub queue: u16,
    pub received: &'a Received,
    pub lease_us: u64,
    /// When it was asked for, or the stream that brought it.
    pub asked: u64,
    /// The item was leased no earlier; of a stream that is later than when it was asked for.
    pub since: u64,
    /// When somebody had it.
    pub at: u64,
    /// Of its lease; none where nobody said.
    pub revision: Option<u64>,
    /// Who consumes a stream may be handed a delivery again.
    pub consumer: Option<u32>,
    source: Source<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Receive(&'a Operation),
    Stream(&'a Handed),
}

impl Got<'_> {
    /// In words.
    pub fn told(&self) -> String {
        match self.source {
            Source::Receive(operation) => told(operation),
            Source::Stream(handed) => {
                let consumer = self.consumer.unwrap_or_default();
                let (asked, at) = (handed.asked as f64 / 1e6, handed.at as f64 / 1e6);
                let revision = handed.revision.map_or_else(|| "as held".to_owned(), |at| format!("revision {at}"));
                format!("stream of consumer {consumer} (asked for at {asked:.3} s, at {at:.3} s) with {revision}")
            }
        }
    }

    pub fn attempt(&self) -> u32 {
        self.received.delivery.attempt
    }
}

/// Every delivery of a room.
pub fn all(history: &History, room: usize) -> Vec<Got<'_>> {
    let mut all = Vec::new();
    for operation in history.of_room(room) {
        let (Call::Receive { queue, lease_ms }, Some(Answer::Received { deliveries })) =
            (&operation.call, operation.answer())
        else {
            continue;
        };
        all.extend(deliveries.iter().map(|received| Got {
            queue: *queue,
            received,
            lease_us: lease_ms * 1_000,
            asked: operation.invoked,
            since: operation.invoked,
            at: operation.answered.unwrap_or(u64::MAX),
            revision: operation.revision(),
            consumer: None,
            source: Source::Receive(operation),
        }));
    }
    let times = Times::of(history, room);
    for consumption in history.consumptions.iter().filter(|consumption| consumption.room == room) {
        all.extend(consumption.handed.iter().map(|handed| Got {
            queue: consumption.queue,
            received: &handed.received,
            lease_us: consumption.lease_ms * 1_000,
            asked: handed.asked,
            since: match handed.revision {
                Some(revision) => times.since(revision).max(handed.asked),
                // Leased for an earlier stream: not before it was sent.
                None => times.since(handed.received.sent_revision + 1),
            },
            at: handed.at,
            revision: handed.revision,
            consumer: Some(consumption.consumer),
            source: Source::Stream(handed),
        }));
    }
    all
}

/// Since when each revision can have been made.
struct Times(Vec<(u64, u64)>);

impl Times {
    fn of(history: &History, room: usize) -> Times {
        let made = history.of_room(room).filter(|operation| operation.made_a_revision());
        let mut times: Vec<(u64, u64)> =
            made.map(|operation| (operation.revision().unwrap_or_default(), operation.invoked)).collect();
        times.sort_unstable();
        let mut latest = 0;
        for (_, since) in &mut times {
            latest = latest.max(*since);
            *since = latest;
        }
        Times(times)
    }

    /// What made a lower revision had been asked for by then.
    fn since(&self, revision: u64) -> u64 {
        let lower = self.0.partition_point(|(made, _)| *made < revision);
        lower.checked_sub(1).map_or(0, |index| self.0[index].1)
    }
}

/// What a consumer said of one delivery: an acknowledgement, that it gives it back, or that it needs longer.
#[derive(Clone, Copy)]
pub struct Settling<'a> {
    pub queue: u16,
    pub delivery: Delivery,
    /// None: nobody knows whether it was heard.
    pub result: Option<AckResult>,
    pub kind: Kind,
    pub operation: &'a Operation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ack,
    Nack { delay_us: Option<u64> },
    Reject,
    Extend { lease_us: u64 },
}

impl Settling<'_> {
    /// It counted.
    pub fn counted(&self) -> bool {
        self.result == Some(AckResult::Acked)
    }

    /// It counted, or may have.
    pub fn may_have_counted(&self) -> bool {
        self.result.is_none() || self.counted()
    }

    pub fn is_give_back(&self) -> bool {
        matches!(self.kind, Kind::Nack { .. } | Kind::Reject)
    }
}

/// Everything that was said of deliveries in a room and not refused.
pub fn settlings(history: &History, room: usize) -> Vec<Settling<'_>> {
    let mut all = Vec::new();
    for operation in history.of_room(room) {
        let (queue, deliveries, kind) = match &operation.call {
            Call::Ack { queue, deliveries } => (*queue, deliveries, Kind::Ack),
            Call::Nack { queue, deliveries, reject: true, .. } => (*queue, deliveries, Kind::Reject),
            Call::Nack { queue, deliveries, delay_ms, .. } => {
                (*queue, deliveries, Kind::Nack { delay_us: delay_ms.map(|ms| ms * 1_000) })
            }
            Call::Extend { queue, deliveries, lease_ms } => {
                (*queue, deliveries, Kind::Extend { lease_us: lease_ms * 1_000 })
            }
            _ => continue,
        };
        let results: Vec<Option<AckResult>> = match operation.answer() {
            Some(Answer::Acked { results }) => results.iter().copied().map(Some).collect(),
            _ if operation.is_unknown() => vec![None; deliveries.len()],
            _ => continue,
        };
        let each = deliveries.iter().zip(results);
        all.extend(each.map(|(delivery, result)| Settling { queue, delivery: *delivery, result, kind, operation }));
    }
    all
}
