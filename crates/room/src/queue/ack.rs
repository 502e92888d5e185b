//! Acknowledges deliveries.
//!
//! The delivery id (item, attempt) is the fence; time is the entry's, so every replica agrees.
//! Invariant: an acked item is never delivered again.

use std::collections::BTreeSet;

use conclave_types::limits::{ACKED_MEMORY_MS, DEFAULT_MAX_IN_FLIGHT};
use conclave_types::{DeliveryId, QueueName, RoomUid};

use super::{Acked, InFlight, Queue, Ready};
use crate::codec::Record;
use crate::keys::Due;
use crate::state::{State, load};
use crate::{DeliveryResult, Effect, Outcome, Refusal, TableError, Tables};

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
    let mut verdicts = Vec::with_capacity(deliveries.len());
    for (delivery, index) in deliveries.iter().zip(0..) {
        match judge(state, &queue, *delivery)? {
            Verdict::Unknown => return Ok(Outcome::Refused(Refusal::DeliveryUnknown { index })),
            Verdict::Known(result) => verdicts.push(result),
        }
    }

    let mut settled = BTreeSet::new();
    for (delivery, result) in deliveries.iter().zip(&mut verdicts) {
        if *result == DeliveryResult::Acked && !settled.insert(delivery.item) {
            *result = DeliveryResult::AlreadyAcked;
        }
    }
    if settled.is_empty() {
        let revision = state.room(room)?.map(|header| header.revision).unwrap_or_default();
        return Ok(Outcome::Acked { results: verdicts, revision });
    }
    let was_full = queue.header.leased >= u64::from(DEFAULT_MAX_IN_FLIGHT);
    for (delivery, result) in deliveries.iter().zip(&verdicts) {
        if *result == DeliveryResult::Acked {
            settle(state, &mut queue, *delivery)?;
        }
    }
    if was_full && queue.header.ready > 0 {
        // Whoever came while no more could be in flight waits for this.
        state.emit(Effect::QueueReady { room, queue: name.clone() });
    }
    Ok(Outcome::Acked { results: verdicts, revision: queue.store(state)? })
}

enum Verdict {
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
        let holds = in_flight.attempt == attempt && !in_flight.is_over(state.clock());
        return Ok(against(in_flight.attempt, if holds { DeliveryResult::Acked } else { DeliveryResult::Stale }));
    }
    if let Some(acked) = load::<Acked>(&state.overlay, &state.keys.acked(queue.room, queue.number, item))? {
        let is_same = acked.attempt == attempt;
        return Ok(against(acked.attempt, if is_same { DeliveryResult::AlreadyAcked } else { DeliveryResult::Stale }));
    }
    if let Some(ready) = load::<Ready>(&state.overlay, &state.keys.ready(queue.room, queue.number, item))? {
        return Ok(against(ready.attempts, DeliveryResult::Stale));
    }
    // Acknowledged so long ago that it is forgotten.
    Ok(Verdict::Known(DeliveryResult::Stale))
}

fn settle(state: &mut State<'_>, queue: &mut Queue, delivery: DeliveryId) -> Result<(), TableError> {
    let (room, number, item) = (queue.room, queue.number, delivery.item);
    state.overlay.delete(state.keys.item(room, number, item));
    state.overlay.delete(state.keys.in_flight(room, number, item));
    let acked = Acked { attempt: delivery.attempt, time: state.clock() };
    state.overlay.put(state.keys.acked(room, number, item), acked.encode());

    let header = &mut queue.header;
    header.remove_leased(1)?;
    if header.leased_from == item {
        header.leased_from = item + 1;
    }
    match header.acked_due {
        Some(_) => header.acked_from = header.acked_from.min(item),
        None => {
            let deadline = state.clock().plus_ms(ACKED_MEMORY_MS);
            state.schedule(deadline, &Due::Acked(room, number));
            header.acked_due = Some(deadline);
            header.acked_from = item;
        }
    }
    Ok(())
}
