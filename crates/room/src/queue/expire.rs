//! What time does to a queue: leases end, delays and lives are over, acknowledgements and messages are forgotten.

use std::ops::Range;

use bytes::Bytes;
use conclave_types::limits::ACKED_MEMORY_MS;
use conclave_types::{Revision, RoomUid, Timestamp};

use super::give_back::Failed;
use super::place::Left;
use super::{Acked, FailureKind, InFlight, Past, Queue};
use crate::advance::Budget;
use crate::codec::Record;
use crate::keys::{Keys, QueueNumber, QueueTimer};
use crate::state::State;
use crate::{TableError, TableReads, Tables};

/// How close the looks through one queue's leases, or its other indexes of time, may follow each other: each look costs
/// an entry and perhaps a thousand reads, and nobody is promised the millisecond.
const SPACING_MS: u64 = 20;

/// When to look at an index of time again whose head stands at `head`.
fn next_look(head: Timestamp, clock: Timestamp) -> Timestamp {
    if head <= clock { head } else { head.max(clock.plus_ms(SPACING_MS)) }
}

/// What of an index of time is over.
#[derive(Default)]
pub(crate) struct Over {
    /// As they are stored, earliest first.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// When to look again.
    pub next: Option<Timestamp>,
}

/// What of an index of time is over, as far as the budget goes; and when to look at it again.
pub(crate) fn over_by_now(
    state: &State<'_>,
    range: &Range<Vec<u8>>,
    time_of: impl Fn(&[u8]) -> Result<Timestamp, TableError>,
    budget: &mut Budget,
) -> Result<Over, TableError> {
    let (clock, mut over) = (state.clock(), Over::default());
    for pair in state.overlay.scan(&range.start, &range.end) {
        let (key, value) = pair?;
        let time = time_of(&key)?;
        if time > clock || over.pairs.len() >= budget.left() {
            over.next = Some(next_look(time, clock));
            break;
        }
        over.pairs.push((key, value));
    }
    budget.spend(over.pairs.len());
    Ok(over)
}

/// Where the index of time begins to be read when its entry fires: its head was not looked at before.
pub(crate) fn first_look(deadline: Timestamp) -> Timestamp {
    deadline.minus_ms(SPACING_MS)
}

/// Handles one due entry of a queue. Says whether participants can see what it did; that is then part of `revision`.
pub(crate) fn fire(
    state: &mut State<'_>,
    timer: QueueTimer,
    deadline: Timestamp,
    room: RoomUid,
    number: QueueNumber,
    budget: &mut Budget,
    revision: Revision,
) -> Result<bool, TableError> {
    let mut queue = Queue::open(state, room, number)?;
    queue.fired(state, timer, deadline)?;
    let is_seen = match timer {
        QueueTimer::Leases => queue.end_leases(state, budget, revision)?,
        QueueTimer::Delayed => queue.end_delays(state, deadline, budget)?,
        QueueTimer::Expiry => queue.end_lives(state, deadline, budget)?,
        QueueTimer::Acked => {
            queue.forget_acked(state, budget)?;
            false
        }
        QueueTimer::Deduplication => {
            queue.forget_messages(state, deadline, budget)?;
            false
        }
    };
    match is_seen {
        true => queue.store_at(state, revision)?,
        false => queue.store_unseen(state),
    }
    Ok(is_seen)
}

struct Leases {
    /// Items whose lease is over.
    over: Vec<(u64, InFlight)>,
    /// The lowest item that stays in flight.
    first_left: Option<u64>,
    /// When to look again.
    next_end: Option<Timestamp>,
}

impl Queue {
    /// Puts items whose lease is over back to their place.
    fn end_leases(
        &mut self,
        state: &mut State<'_>,
        budget: &mut Budget,
        revision: Revision,
    ) -> Result<bool, TableError> {
        let leases = self.look_through(state, budget.left())?;
        budget.spend(leases.over.len());
        let is_seen = !leases.over.is_empty();
        for (item, in_flight) in leases.over {
            self.end_lease(state, item, &in_flight)?;
            let failed = Failed { kind: FailureKind::LeaseEnded, reason: String::new(), delay_ms: None };
            self.take_back(state, item, in_flight, failed, revision)?;
        }
        self.header.leased_from = leases.first_left.unwrap_or(self.header.last_item + 1);
        if let Some(ends) = leases.next_end {
            self.watch(state, QueueTimer::Leases, ends);
        }
        Ok(is_seen)
    }

    /// Looks through all leases: there are few.
    fn look_through(&self, state: &State<'_>, most: usize) -> Result<Leases, TableError> {
        let range = Keys::items_from(state.keys.in_flight(self.room, self.number, self.header.leased_from));
        let clock = state.clock();
        let mut leases = Leases { over: Vec::new(), first_left: None, next_end: None };
        for pair in state.overlay.scan(&range.start, &range.end) {
            let (key, value) = pair?;
            let (item, in_flight) = (Keys::parse_item(&key)?, InFlight::decode(value)?);
            let next_look = match in_flight.is_over(clock) {
                true if leases.over.len() < most => {
                    leases.over.push((item, in_flight));
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

    /// Items whose time has come are ready.
    fn end_delays(
        &mut self,
        state: &mut State<'_>,
        deadline: Timestamp,
        budget: &mut Budget,
    ) -> Result<bool, TableError> {
        let range = state.keys.delayed_from(self.room, self.number, first_look(deadline));
        let Over { pairs, next } = over_by_now(state, &range, |key| Ok(Keys::parse_time_and_item(key)?.0), budget)?;
        let is_seen = !pairs.is_empty();
        for (key, value) in pairs {
            let (item, past) = (Keys::parse_item(&key)?, Past::decode(value)?);
            state.overlay.delete(key.into());
            state.overlay.delete(state.keys.delayed_until(self.room, self.number, item));
            self.header.remove_delayed()?;
            let priority = self.item(state, item)?.priority;
            self.make_ready(state, item, priority, &past)?;
        }
        if let Some(at) = next {
            self.watch(state, QueueTimer::Delayed, at);
        }
        Ok(is_seen)
    }

    /// Items whose life is over go, but for those that a receiver holds: they go when it gives them back.
    fn end_lives(
        &mut self,
        state: &mut State<'_>,
        deadline: Timestamp,
        budget: &mut Budget,
    ) -> Result<bool, TableError> {
        let range = state.keys.expiries_from(self.room, self.number, first_look(deadline));
        let Over { pairs, next } = over_by_now(state, &range, |key| Ok(Keys::parse_time_and_item(key)?.0), budget)?;
        let mut expired = 0;
        for (key, _) in pairs {
            let number = Keys::parse_item(&key)?;
            let item = self.item(state, number)?;
            match self.leave(state, number, &item)? {
                // Its receiver has it; whoever gives it back finds that its life is over.
                Left::InFlight => state.overlay.delete(key.into()),
                Left::Waiting(_) => {
                    self.remove(state, number, &item)?;
                    expired += 1;
                }
            }
        }
        self.header.totals.expired += expired;
        if let Some(at) = next {
            self.watch(state, QueueTimer::Expiry, at);
        }
        Ok(expired > 0)
    }

    /// Forgets acknowledgements that are old enough, in the order of items, up to the first that is not.
    fn forget_acked(&mut self, state: &mut State<'_>, budget: &mut Budget) -> Result<(), TableError> {
        let clock = state.clock();
        let range = Keys::items_from(state.keys.acked(self.room, self.number, self.header.acked_from));
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
        self.header.acked_from = next.map_or(self.header.last_item + 1, |(item, _)| item);
        if let Some((_, look_at)) = next {
            self.watch(state, QueueTimer::Acked, look_at);
        }
        Ok(())
    }
}
