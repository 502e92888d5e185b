//! What time does to a queue: leases end and acknowledgements are forgotten.

use conclave_types::limits::ACKED_MEMORY_MS;
use conclave_types::{Revision, RoomUid, Timestamp};

use super::{Acked, InFlight, Queue, Ready};
use crate::advance::Budget;
use crate::codec::{Record, damaged};
use crate::keys::{Due, Keys, QueueNumber};
use crate::state::State;
use crate::{Effect, TableError, TableReads, Tables};

/// How close the looks through one queue's leases, or its remembered acks, may follow each other: each look costs up to
/// a thousand reads, and nobody is promised the millisecond.
const SPACING_MS: u64 = 20;

/// Puts items whose lease is over back to their place. Says whether there were any.
pub(crate) fn end_leases(
    state: &mut State<'_>,
    deadline: Timestamp,
    room: RoomUid,
    number: QueueNumber,
    budget: &mut Budget,
) -> Result<bool, TableError> {
    let mut queue = Queue { room, number, header: state.queue(room, number)?, is_new: false };
    if queue.header.leases_due != Some(deadline) {
        return Err(damaged("due index", "a queue's leases are due at another time"));
    }
    state.unschedule(deadline, &Due::Leases(room, number));
    queue.header.leases_due = None;

    let leases = look_through(state, &queue, budget.left())?;
    budget.spend(leases.over.len());
    let header = &mut queue.header;
    header.leased_from = leases.first_left.unwrap_or(header.last_item + 1);
    header.remove_leased(leases.over.len() as u64)?;
    for (item, attempts) in &leases.over {
        header.ready_from = if header.ready == 0 { *item } else { header.ready_from.min(*item) };
        header.ready += 1;
        state.overlay.delete(state.keys.in_flight(room, number, *item));
        state.overlay.put(state.keys.ready(room, number, *item), Ready { attempts: *attempts }.encode());
    }
    if let Some(ends) = leases.next_end {
        queue.watch_lease(state, ends);
    }
    if !leases.over.is_empty() {
        state.emit(Effect::QueueReady { room, queue: queue.header.name.clone() });
    }
    state.set_queue(room, number, queue.header);
    Ok(!leases.over.is_empty())
}

/// Says which revision ended leases of a queue.
pub(crate) fn changed(
    state: &mut State<'_>,
    room: RoomUid,
    number: QueueNumber,
    revision: Revision,
) -> Result<(), TableError> {
    let mut header = state.queue(room, number)?;
    header.changed = revision;
    state.set_queue(room, number, header);
    state.queue_changed(room, number);
    Ok(())
}

struct Leases {
    /// Items whose lease is over, with their attempts so far.
    over: Vec<(u64, u32)>,
    /// The lowest item that stays in flight.
    first_left: Option<u64>,
    /// When to look again.
    next_end: Option<Timestamp>,
}

/// Looks through the leases of a queue: at most `DEFAULT_MAX_IN_FLIGHT`.
fn look_through(state: &State<'_>, queue: &Queue, most: usize) -> Result<Leases, TableError> {
    let range = Keys::items_from(state.keys.in_flight(queue.room, queue.number, queue.header.leased_from));
    let clock = state.clock();
    let mut leases = Leases { over: Vec::new(), first_left: None, next_end: None };
    for pair in state.overlay.scan(&range.start, &range.end) {
        let (key, value) = pair?;
        let (item, in_flight) = (Keys::parse_item(&key)?, InFlight::decode(value)?);
        let next_look = match in_flight.is_over(clock) {
            true if leases.over.len() < most => {
                leases.over.push((item, in_flight.attempt));
                continue;
            }
            true => clock,
            false => in_flight.ends().max(clock.plus_ms(SPACING_MS)),
        };
        leases.first_left.get_or_insert(item);
        leases.next_end = Some(leases.next_end.map_or(next_look, |other| other.min(next_look)));
    }
    Ok(leases)
}

/// Forgets acknowledgements that are old enough, in the order of items, up to the first that is not.
pub(crate) fn forget_acked(
    state: &mut State<'_>,
    deadline: Timestamp,
    room: RoomUid,
    number: QueueNumber,
    budget: &mut Budget,
) -> Result<(), TableError> {
    let mut header = state.queue(room, number)?;
    if header.acked_due != Some(deadline) {
        return Err(damaged("due index", "a queue's acks are due at another time"));
    }
    state.unschedule(deadline, &Due::Acked(room, number));

    let clock = state.clock();
    let range = Keys::items_from(state.keys.acked(room, number, header.acked_from));
    let (mut forgotten, mut next) = (Vec::new(), None);
    for pair in state.overlay.scan(&range.start, &range.end) {
        let (key, value) = pair?;
        let forget_at = Acked::decode(value)?.time.plus_ms(ACKED_MEMORY_MS);
        let is_old = forget_at <= clock;
        if !is_old || forgotten.len() >= budget.left() {
            let look_at = if is_old { clock } else { forget_at.max(clock.plus_ms(SPACING_MS)) };
            next = Some((Keys::parse_item(&key)?, look_at));
            break;
        }
        forgotten.push(key);
    }
    budget.spend(forgotten.len());
    forgotten.into_iter().for_each(|key| state.overlay.delete(key.into()));
    header.acked_due = next.map(|(_, look_at)| look_at);
    header.acked_from = next.map_or(header.last_item + 1, |(item, _)| item);
    if let Some(look_at) = header.acked_due {
        state.schedule(look_at, &Due::Acked(room, number));
    }
    state.set_queue(room, number, header);
    Ok(())
}
