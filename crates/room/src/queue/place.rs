//! Where an item of a queue stands: ready, delayed, or behind its group's head.
//!
//! An item that is ready as it comes and asks for nothing is *fresh*: it has no key beside its record. A receive finds it
//! by reading the records from the first fresh number on, which it has to read anyway. Once it was taken, or when it
//! comes to be ready in any other way, its place is a key of its own like that of all others.

use conclave_types::Timestamp;

use super::item::{ConsumerRecord, DelayedUntil, ItemGroup};
use super::{InFlight, Item, Past, Queue};
use crate::codec::{Record, damaged};
use crate::keys::{Keys, QueueTimer};
use crate::state::{State, load};
use crate::{Effect, TableError, TableReads, Tables};

/// A ready item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub priority: u8,
    pub number: u64,
    pub past: Past,
    /// Its record, which was read to find it; then it is fresh.
    fresh: Option<Item>,
}

/// Where an item was found, and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// It may go.
    Waiting(Past),
    /// A receiver holds it; it was left there.
    InFlight,
}

impl Queue {
    /// Puts a new item, the newest of all, where it waits. Its record is written here.
    pub fn place(
        &mut self,
        state: &mut State<'_>,
        number: u64,
        item: Item,
        not_before: Option<Timestamp>,
    ) -> Result<(), TableError> {
        let due = not_before.filter(|due| *due > state.clock());
        let item = Item { is_fresh: item.priority == 0 && item.group.is_none() && due.is_none(), ..item };
        state.overlay.put(state.keys.item(self.room, self.number, number), item.encode());
        self.header.bytes += item.item.len() as u64;
        if let Some(expires) = item.expires {
            state.overlay.put(state.keys.expiry(self.room, self.number, expires, number), bytes::Bytes::new());
            self.watch(state, QueueTimer::Expiry, expires);
        }
        if item.is_fresh {
            let fresh = &mut self.header.fresh;
            fresh.from = if fresh.count == 0 { number } else { fresh.from };
            fresh.count += 1;
            self.wake();
            return Ok(());
        }
        if let Some(group) = &item.group {
            let key = state.keys.item_group(self.room, self.number, group);
            if state.overlay.get(&key)?.is_some() {
                let waiting = state.keys.grouped(self.room, self.number, group, number);
                state.overlay.put(waiting, bytes::Bytes::new());
                self.header.grouped += 1;
                return Ok(());
            }
            state.overlay.put(key, ItemGroup { head: number }.encode());
        }
        match due {
            Some(due) => self.delay(state, number, due, &Past::default()),
            None => self.make_ready(state, number, item.priority, &Past::default()),
        }
    }

    pub fn make_ready(
        &mut self,
        state: &mut State<'_>,
        number: u64,
        priority: u8,
        past: &Past,
    ) -> Result<(), TableError> {
        let level = self.header.level(priority)?;
        level.from = if level.count == 0 { number } else { level.from.min(number) };
        level.count += 1;
        state.overlay.put(state.keys.ready(self.room, self.number, priority, number), past.encode());
        self.wake();
        Ok(())
    }

    pub fn delay(&mut self, state: &mut State<'_>, number: u64, due: Timestamp, past: &Past) -> Result<(), TableError> {
        state.overlay.put(state.keys.delayed(self.room, self.number, due, number), past.encode());
        state.overlay.put(state.keys.delayed_until(self.room, self.number, number), DelayedUntil(due).encode());
        self.header.delayed += 1;
        self.watch(state, QueueTimer::Delayed, due);
        Ok(())
    }

    /// Takes an item out of the place where it waits, unless a receiver holds it.
    pub fn leave(&mut self, state: &mut State<'_>, number: u64, item: &Item) -> Result<Left, TableError> {
        let (room, queue) = (self.room, self.number);
        if self.is_still_fresh(number, item) {
            self.header.remove_fresh()?;
            return Ok(Left::Waiting(Past::default()));
        }
        let ready = state.keys.ready(room, queue, item.priority, number);
        if let Some(past) = load::<Past>(&state.overlay, &ready)? {
            state.overlay.delete(ready);
            self.header.remove_ready(item.priority)?;
            return Ok(Left::Waiting(past));
        }
        if state.overlay.get(&state.keys.in_flight(room, queue, number))?.is_some() {
            return Ok(Left::InFlight);
        }
        let until = state.keys.delayed_until(room, queue, number);
        if let Some(DelayedUntil(due)) = load(&state.overlay, &until)? {
            let delayed = state.keys.delayed(room, queue, due, number);
            let past = load(&state.overlay, &delayed)?.ok_or_else(|| damaged(Past::NAME, "missing where it waits"))?;
            state.overlay.delete(delayed);
            state.overlay.delete(until);
            self.header.remove_delayed()?;
            return Ok(Left::Waiting(past));
        }
        let group = item.group.as_ref().ok_or_else(|| damaged(Item::NAME, "it stands nowhere"))?;
        let grouped = state.keys.grouped(room, queue, group, number);
        if state.overlay.get(&grouped)?.is_none() {
            return Err(damaged(Item::NAME, "it stands nowhere"));
        }
        state.overlay.delete(grouped);
        self.header.remove_grouped()?;
        Ok(Left::Waiting(Past::default()))
    }

    /// Removes an item that has left its place; the next of its group takes its turn.
    pub fn remove(&mut self, state: &mut State<'_>, number: u64, item: &Item) -> Result<(), TableError> {
        state.overlay.delete(state.keys.item(self.room, self.number, number));
        self.header.remove_bytes(item.item.len() as u64)?;
        if let Some(expires) = item.expires {
            state.overlay.delete(state.keys.expiry(self.room, self.number, expires, number));
        }
        match &item.group {
            Some(group) => self.pass_turn(state, number, group),
            None => Ok(()),
        }
    }

    fn pass_turn(&mut self, state: &mut State<'_>, number: u64, group: &[u8]) -> Result<(), TableError> {
        let key = state.keys.item_group(self.room, self.number, group);
        let present: ItemGroup = load(&state.overlay, &key)?.ok_or_else(|| damaged(ItemGroup::NAME, "missing"))?;
        if present.head != number {
            return Ok(());
        }
        // All before the head are gone: scanning from there passes over no deletions.
        let waiting = Keys::items_from(state.keys.grouped(self.room, self.number, group, number + 1));
        let next = state.overlay.scan(&waiting.start, &waiting.end).next().transpose()?;
        let Some((waiting, _)) = next else {
            state.overlay.delete(key);
            return Ok(());
        };
        let head = Keys::parse_item(&waiting)?;
        state.overlay.delete(waiting.into());
        self.header.remove_grouped()?;
        state.overlay.put(key, ItemGroup { head }.encode());
        let priority = self.item(state, head)?.priority;
        self.make_ready(state, head, priority, &Past::default())
    }

    /// The record of an item that must be there.
    pub fn item(&self, state: &State<'_>, number: u64) -> Result<Item, TableError> {
        self.find_item(state, number)?.ok_or_else(|| damaged(Item::NAME, "missing for one that stands in its queue"))
    }

    pub fn find_item(&self, state: &State<'_>, number: u64) -> Result<Option<Item>, TableError> {
        load(&state.overlay, &state.keys.item(self.room, self.number, number))
    }

    /// Whether an item that is there waits to be taken for the first time, without a key.
    pub fn is_still_fresh(&self, number: u64, item: &Item) -> bool {
        item.is_fresh && self.header.fresh.count > 0 && number >= self.header.fresh.from
    }

    /// Ready items in the order of delivery, at most so many, and at most so many bytes of fresh ones but one at least.
    pub fn ready_items(&self, state: &State<'_>, most: usize, bytes: usize) -> Result<Vec<Spot>, TableError> {
        let mut ready = Vec::new();
        for (priority, level) in self.header.used_levels() {
            let wanted = (most - ready.len()).min(usize::try_from(level.count).unwrap_or(usize::MAX));
            let range = Keys::items_from(state.keys.ready(self.room, self.number, priority, level.from));
            let before = ready.len();
            for pair in state.overlay.scan(&range.start, &range.end).take(wanted) {
                let (key, value) = pair?;
                let (number, past) = (Keys::parse_item(&key)?, Past::decode(value)?);
                ready.push(Spot { priority, number, past, fresh: None });
            }
            if ready.len() - before < wanted {
                return Err(damaged("ready index", "it holds less than its queue's header says"));
            }
        }
        // Both are in order; fresh ones are of the lowest priority, and not read if those above it are enough.
        let above = ready.iter().filter(|spot| spot.priority > 0).count();
        ready.extend(self.fresh_items(state, most - above, bytes)?);
        ready.sort_by_key(|spot| (std::cmp::Reverse(spot.priority), spot.number));
        ready.truncate(most);
        Ok(ready)
    }

    fn fresh_items(&self, state: &State<'_>, most: usize, max_bytes: usize) -> Result<Vec<Spot>, TableError> {
        let wanted = most.min(usize::try_from(self.header.fresh.count).unwrap_or(usize::MAX));
        let (mut fresh, mut bytes) = (Vec::with_capacity(wanted), 0);
        if wanted == 0 {
            return Ok(fresh);
        }
        let range = Keys::items_from(state.keys.item(self.room, self.number, self.header.fresh.from));
        for pair in state.overlay.scan(&range.start, &range.end) {
            if fresh.len() >= wanted || bytes >= max_bytes {
                return Ok(fresh);
            }
            let (key, value) = pair?;
            let item = Item::decode(value)?;
            if item.is_fresh {
                bytes += item.item.len();
                let number = Keys::parse_item(&key)?;
                fresh.push(Spot { priority: 0, number, past: Past::default(), fresh: Some(item) });
            }
        }
        match fresh.len() < wanted {
            true => Err(damaged("fresh items", "there are fewer than the queue's header says")),
            false => Ok(fresh),
        }
    }

    /// Takes a ready item away. Those of its kind and priority before it must have gone.
    pub fn take_ready(&mut self, state: &mut State<'_>, spot: &Spot) -> Result<(), TableError> {
        if spot.fresh.is_some() {
            self.header.fresh.from = spot.number + 1;
            return self.header.remove_fresh();
        }
        state.overlay.delete(state.keys.ready(self.room, self.number, spot.priority, spot.number));
        self.header.remove_ready(spot.priority)?;
        self.header.level(spot.priority)?.from = spot.number + 1;
        Ok(())
    }

    /// The record of a ready item.
    pub fn item_at(&self, state: &State<'_>, spot: &Spot) -> Result<Item, TableError> {
        match spot.fresh.clone() {
            Some(item) => Ok(item),
            None => self.item(state, spot.number),
        }
    }

    /// What a consumer holds.
    pub fn held_by(&self, state: &State<'_>, consumer: &str) -> Result<u64, TableError> {
        let record: Option<ConsumerRecord> =
            load(&state.overlay, &state.keys.consumer(self.room, self.number, consumer))?;
        Ok(record.map_or(0, |record| record.leased))
    }

    pub fn consumer_took(&mut self, state: &mut State<'_>, consumer: &str, count: u64) -> Result<(), TableError> {
        let leased = self.held_by(state, consumer)? + count;
        let record = ConsumerRecord { leased, last_lease: state.clock() };
        state.overlay.put(state.keys.consumer(self.room, self.number, consumer), record.encode());
        self.header.leased += count;
        Ok(())
    }

    /// Deliveries of a consumer are out no more.
    pub fn consumer_left(&mut self, state: &mut State<'_>, consumer: &str, count: u64) -> Result<(), TableError> {
        let key = state.keys.consumer(self.room, self.number, consumer);
        let record: Option<ConsumerRecord> = load(&state.overlay, &key)?;
        let left = record.and_then(|record| Some((record.leased.checked_sub(count)?, record.last_lease)));
        match left.ok_or_else(|| damaged(ConsumerRecord::NAME, "it holds less than is in flight"))? {
            (0, _) => state.overlay.delete(key),
            (leased, last_lease) => state.overlay.put(key, ConsumerRecord { leased, last_lease }.encode()),
        }
        let (queue, consumer) = (self.header.name.clone(), consumer.to_owned());
        state.emit(Effect::ConsumerFreed { room: self.room, queue, consumer });
        // All of them may have waited at the queue's limit.
        self.wake();
        self.header.remove_leased(count)
    }

    /// Ends a lease: the item is not in flight any more, and stands nowhere yet.
    pub fn end_lease(&mut self, state: &mut State<'_>, number: u64, in_flight: &InFlight) -> Result<(), TableError> {
        state.overlay.delete(state.keys.in_flight(self.room, self.number, number));
        if self.header.leased_from == number {
            self.header.leased_from = number + 1;
        }
        self.consumer_left(state, &in_flight.consumer, 1)
    }
}

impl Queue {
    /// The oldest ready item of the lowest priority that has any.
    pub fn oldest_of_the_lowest(&self, state: &State<'_>) -> Result<Option<Spot>, TableError> {
        let mut oldest = self.fresh_items(state, 1, usize::MAX)?.pop();
        if let Some((priority, level)) = self.header.used_levels().next_back()
            && (priority == 0 || oldest.is_none())
        {
            let range = Keys::items_from(state.keys.ready(self.room, self.number, priority, level.from));
            let Some(pair) = state.overlay.scan(&range.start, &range.end).next() else {
                return Err(damaged("ready index", "it holds less than its queue's header says"));
            };
            let (key, value) = pair?;
            let (number, past) = (Keys::parse_item(&key)?, Past::decode(value)?);
            if oldest.as_ref().is_none_or(|fresh| number < fresh.number) {
                oldest = Some(Spot { priority, number, past, fresh: None });
            }
        }
        Ok(oldest)
    }
}
