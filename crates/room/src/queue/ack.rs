//! Acknowledges deliveries.
//!
//! The delivery id (item, attempt) is the fence; time is the entry's, so every replica agrees.
//! Invariant: an acked item is never delivered again.

use std::collections::{BTreeMap, BTreeSet};

use conclave_types::limits::ACKED_MEMORY_MS;
use conclave_types::{DeliveryId, QueueName, RoomUid};

use super::{Acked, InFlight, Past, Queue};
use crate::codec::Record;
use crate::keys::QueueTimer;
use crate::state::{State, load};
use crate::{DeliveryResult, Outcome, Refusal, TableError, Tables};

pub(crate) fn ack(
    state: &mut State<'_>,
    room: RoomUid,
    name: &QueueName,
    deliveries: &[DeliveryId],
) -> Result<Outcome, TableError> {
    let mut queue = match Queue::find(state, room, name)? {
        Ok(queue) => queue,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let judged = match judge_all(state, &queue, deliveries)? {
        Ok(judged) => judged,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let Judged { results, current } = judged;
    if current.is_empty() {
        let revision = state.revision(room)?;
        return Ok(Outcome::Settled { results, revision });
    }
    let mut consumers: BTreeMap<String, u64> = BTreeMap::new();
    let acked = current.len() as u64;
    for (item, in_flight) in current {
        settle(state, &mut queue, item, &in_flight)?;
        *consumers.entry(in_flight.consumer).or_default() += 1;
    }
    for (consumer, count) in consumers {
        queue.consumer_left(state, &consumer, count)?;
    }
    queue.header.totals.acked += acked;
    let clock = state.clock();
    queue.header.meter.at(clock).acked += acked;
    Ok(Outcome::Settled { results, revision: queue.store(state)? })
}

/// What was found out about deliveries that a command names.
pub(crate) struct Judged {
    /// One for each delivery of the command. Only the first of two that name the same one is [`DeliveryResult::Done`].
    pub results: Vec<DeliveryResult>,
    /// Those that count, with their leases.
    pub current: Vec<(u64, InFlight)>,
}

/// Judges deliveries before anything is changed. One that the queue never issued refuses them all.
pub(crate) fn judge_all(
    state: &State<'_>,
    queue: &Queue,
    deliveries: &[DeliveryId],
) -> Result<Result<Judged, Refusal>, TableError> {
    let mut judged = Judged { results: Vec::with_capacity(deliveries.len()), current: Vec::new() };
    let mut settled = BTreeSet::new();
    for (delivery, index) in deliveries.iter().zip(0..) {
        let result = match judge(state, queue, *delivery)? {
            Verdict::Unknown => return Ok(Err(Refusal::DeliveryUnknown { index })),
            Verdict::Current(_) if !settled.insert(delivery.item) => DeliveryResult::AlreadyDone,
            Verdict::Current(in_flight) => {
                judged.current.push((delivery.item, *in_flight));
                DeliveryResult::Done
            }
            Verdict::Known(result) => result,
        };
        judged.results.push(result);
    }
    Ok(Ok(judged))
}

enum Verdict {
    /// It is out, and in time.
    Current(Box<InFlight>),
    Known(DeliveryResult),
    /// The queue never issued this delivery.
    Unknown,
}

fn judge(state: &State<'_>, queue: &Queue, delivery: DeliveryId) -> Result<Verdict, TableError> {
    let DeliveryId { item, attempt } = delivery;
    if item == 0 || attempt == 0 || item > queue.header.last_item {
        return Ok(Verdict::Unknown);
    }
    let against = |issued: u32, result| if attempt > issued { Verdict::Unknown } else { Verdict::Known(result) };

    let in_flight = state.keys.in_flight(queue.room, queue.number, item);
    if let Some(in_flight) = load::<InFlight>(&state.overlay, &in_flight)? {
        let holds = in_flight.attempt() == attempt && !in_flight.is_over(state.clock());
        return Ok(match holds {
            true => Verdict::Current(Box::new(in_flight)),
            false => against(in_flight.attempt(), DeliveryResult::Stale),
        });
    }
    if let Some(acked) = load::<Acked>(&state.overlay, &state.keys.acked(queue.room, queue.number, item))? {
        let is_same = acked.attempt == attempt;
        let result = if is_same { DeliveryResult::AlreadyDone } else { DeliveryResult::Stale };
        return Ok(against(acked.attempt, result));
    }
    if let Some(past) = queue.past_of_waiting(state, item)? {
        return Ok(against(past.attempts, DeliveryResult::Stale));
    }
    // Acknowledged so long ago that it is forgotten, or gone another way.
    Ok(Verdict::Known(DeliveryResult::Stale))
}

impl Queue {
    /// What became of an item so far that waits in this queue, if it does.
    fn past_of_waiting(&self, state: &State<'_>, number: u64) -> Result<Option<Past>, TableError> {
        let Some(item) = self.find_item(state, number)? else { return Ok(None) };
        if self.is_still_fresh(number, &item) {
            return Ok(Some(Past::default()));
        }
        let ready = state.keys.ready(self.room, self.number, item.priority, number);
        if let Some(past) = load(&state.overlay, &ready)? {
            return Ok(Some(past));
        }
        let until = state.keys.delayed_until(self.room, self.number, number);
        match load(&state.overlay, &until)? {
            Some(super::item::DelayedUntil(due)) => {
                load(&state.overlay, &state.keys.delayed(self.room, self.number, due, number))
            }
            None => Ok(Some(Past::default())),
        }
    }
}

fn settle(state: &mut State<'_>, queue: &mut Queue, item: u64, in_flight: &InFlight) -> Result<(), TableError> {
    let (room, number) = (queue.room, queue.number);
    state.overlay.delete(state.keys.in_flight(room, number, item));
    if in_flight.is_special {
        let record = queue.item(state, item)?;
        queue.remove(state, item, &record)?;
    } else {
        state.overlay.delete(state.keys.item(room, number, item));
        queue.header.remove_bytes(in_flight.bytes)?;
    }
    let acked = Acked { attempt: in_flight.attempt(), time: state.clock() };
    state.overlay.put(state.keys.acked(room, number, item), acked.encode());

    let header = &mut queue.header;
    if header.leased_from == item {
        header.leased_from = item + 1;
    }
    if header.timer(QueueTimer::Acked).is_some() {
        header.acked_from = header.acked_from.min(item);
    } else {
        header.acked_from = item;
        queue.watch(state, QueueTimer::Acked, state.clock().plus_ms(ACKED_MEMORY_MS));
    }
    Ok(())
}
