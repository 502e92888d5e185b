//! What the tables of one queue say of each other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bytes::Bytes;
use conclave_types::{RoomUid, Timestamp};

use crate::codec::Record;
use crate::keys::{Keys, QueueNumber, QueueTimer, Tag};
use crate::queue::item::{ConsumerRecord, DelayedUntil, ItemGroup, SentMessage};
use crate::queue::story::MAX_FAILURES;
use crate::queue::{Acked, InFlight, Item, Past, QueueHeader};

/// How late a queue may look at what its time has come.
const SPACING_MS: u64 = 20;

#[derive(Default)]
pub(super) struct QueueTables {
    pub header: Option<QueueHeader>,
    items: BTreeMap<u64, Item>,
    ready: BTreeMap<u64, (Vec<u8>, Past)>,
    in_flight: BTreeMap<u64, InFlight>,
    delayed: BTreeMap<u64, (Timestamp, Past)>,
    delayed_until: BTreeMap<u64, Timestamp>,
    /// Behind their heads, by item: the whole key.
    grouped: BTreeMap<u64, Vec<u8>>,
    /// Heads, by the whole key of the group.
    groups: BTreeMap<Vec<u8>, u64>,
    acked: BTreeMap<u64, Acked>,
    consumers: BTreeMap<String, ConsumerRecord>,
    expiries: BTreeMap<u64, Timestamp>,
    /// By the whole key of the message.
    messages: BTreeMap<Vec<u8>, SentMessage>,
    to_forget: BTreeMap<Vec<u8>, Timestamp>,
}

/// A key that names the same thing a second time is an error.
fn add<K: Ord + Clone + Debug, V>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    assert!(map.insert(key.clone(), value).is_none(), "{key:?} is there twice");
}

impl QueueTables {
    /// Takes in a pair of the queue; `false` if its tag is none of a queue's.
    pub fn look_at(&mut self, keys: &Keys, (room, queue): (RoomUid, QueueNumber), key: &[u8], value: Bytes) -> bool {
        let (tag, _) = keys.parse_room_data(key).unwrap();
        let item = || Keys::parse_item(key).unwrap();
        if tag == Tag::QueueHeader as u8 {
            self.header = Some(QueueHeader::decode(value).unwrap());
        } else if tag == Tag::Item as u8 {
            add(&mut self.items, item(), Item::decode(value).unwrap());
        } else if tag == Tag::Ready as u8 {
            add(&mut self.ready, item(), (key.to_vec(), Past::decode(value).unwrap()));
        } else if tag == Tag::InFlight as u8 {
            add(&mut self.in_flight, item(), InFlight::decode(value).unwrap());
        } else if tag == Tag::Delayed as u8 {
            let (due, item) = Keys::parse_time_and_item(key).unwrap();
            add(&mut self.delayed, item, (due, Past::decode(value).unwrap()));
        } else if tag == Tag::DelayedUntil as u8 {
            add(&mut self.delayed_until, item(), DelayedUntil::decode(value).unwrap().0);
        } else if tag == Tag::Grouped as u8 {
            assert!(value.is_empty());
            add(&mut self.grouped, item(), key.to_vec());
        } else if tag == Tag::ItemGroup as u8 {
            add(&mut self.groups, key.to_vec(), ItemGroup::decode(value).unwrap().head);
        } else if tag == Tag::Acked as u8 {
            add(&mut self.acked, item(), Acked::decode(value).unwrap());
        } else if tag == Tag::Consumer as u8 {
            add(&mut self.consumers, keys.parse_consumer(key).unwrap(), ConsumerRecord::decode(value).unwrap());
        } else if tag == Tag::Expiry as u8 {
            assert!(value.is_empty());
            let (expires, item) = Keys::parse_time_and_item(key).unwrap();
            add(&mut self.expiries, item, expires);
        } else if tag == Tag::SentMessage as u8 {
            add(&mut self.messages, key.to_vec(), SentMessage::decode(value).unwrap());
        } else if tag == Tag::ForgetMessage as u8 {
            assert!(value.is_empty());
            let (at, message) = keys.parse_forget_message(key).unwrap();
            add(&mut self.to_forget, keys.sent_message(room, queue, &message), at);
        } else {
            return false;
        }
        true
    }

    pub fn audit(&self, keys: &Keys, id: (RoomUid, QueueNumber), clock: Timestamp) {
        let header = self.header.as_ref().expect("a queue without a header");
        self.audit_places(keys, id);
        self.audit_groups(keys, id);
        self.audit_sums(header);
        self.audit_hints(header);
        self.audit_messages();
        self.audit_timers(header, clock);
    }

    /// Every item stands in one place, and under its own priority and time there.
    fn audit_places(&self, keys: &Keys, (room, queue): (RoomUid, QueueNumber)) {
        let [ready, in_flight] = [numbers(&self.ready), numbers(&self.in_flight)];
        let places = [ready, in_flight, numbers(&self.delayed), numbers(&self.grouped), self.fresh()];
        let stands: usize = places.iter().map(BTreeSet::len).sum();
        let all: BTreeSet<u64> = places.into_iter().flatten().collect();
        assert_eq!(all.len(), stands, "an item stands in two places");
        assert_eq!(all, numbers(&self.items), "every item stands somewhere, and nothing else does");
        assert!(numbers(&self.items).is_disjoint(&numbers(&self.acked)), "an acked item is still there");

        for (number, (key, _)) in &self.ready {
            assert_eq!(key, &keys.ready(room, queue, self.items[number].priority, *number), "priority of {number}");
        }
        let due: BTreeMap<u64, Timestamp> = self.delayed.iter().map(|(number, (due, _))| (*number, *due)).collect();
        assert_eq!(due, self.delayed_until);
        for (number, in_flight) in &self.in_flight {
            let item = &self.items[number];
            assert_eq!((in_flight.bytes, in_flight.is_special), (item.item.len() as u64, item.is_special()));
            assert!(in_flight.attempt() > 0);
        }
        let waiting = self.ready.values().map(|(_, past)| past).chain(self.delayed.values().map(|(_, past)| past));
        for past in waiting.chain(self.in_flight.values().map(|in_flight| &in_flight.past)) {
            assert!(past.failures.len() <= MAX_FAILURES && past.failures.len() <= past.attempts as usize);
            assert!(past.failures.is_sorted_by(|a, b| a.attempt < b.attempt && a.time <= b.time));
            assert!(past.failures.iter().all(|failure| failure.attempt <= past.attempts));
        }
        for (number, item) in &self.items {
            match (item.expires, self.expiries.get(number)) {
                (Some(expires), Some(indexed)) => assert_eq!(expires, *indexed),
                // It goes when its receiver gives it back.
                (Some(_), None) => assert!(self.in_flight.contains_key(number), "nobody ends the life of {number}"),
                (None, indexed) => assert_eq!(indexed, None),
            }
        }
        assert!(self.expiries.keys().all(|number| self.items.contains_key(number)), "the end of a life that is over");
    }

    /// Items that are ready without a key.
    fn fresh(&self) -> BTreeSet<u64> {
        let from = self.header.as_ref().map_or(0, |header| header.fresh.from);
        let fresh = self.items.iter().filter(|(number, item)| item.is_fresh && **number >= from);
        fresh.map(|(number, _)| *number).collect()
    }

    /// The first of each group is its head; all others are behind it.
    fn audit_groups(&self, keys: &Keys, (room, queue): (RoomUid, QueueNumber)) {
        let (mut heads, mut behind) = (BTreeMap::new(), BTreeMap::new());
        for (number, item) in &self.items {
            let Some(group) = &item.group else { continue };
            assert_eq!(item.dead, None, "a dead letter waits for nobody");
            match heads.entry(keys.item_group(room, queue, group)) {
                Entry::Vacant(first) => {
                    first.insert(*number);
                }
                Entry::Occupied(_) => {
                    behind.insert(*number, keys.grouped(room, queue, group, *number));
                }
            }
        }
        assert_eq!((&heads, &behind), (&self.groups, &self.grouped));
    }

    fn audit_sums(&self, header: &QueueHeader) {
        for (priority, level) in (0..).zip(&header.levels) {
            let of_level = self.ready.keys().filter(|number| self.items[number].priority == priority).count();
            assert_eq!(level.count, of_level as u64, "ready items of priority {priority}");
        }
        assert_eq!(header.fresh.count, self.fresh().len() as u64, "fresh items");
        let plain = |item: &Item| item.priority == 0 && item.group.is_none();
        assert!(self.items.values().all(|item| !item.is_fresh || plain(item)), "a fresh item that asks for something");
        let bytes: usize = self.items.values().map(|item| item.item.len()).sum();
        assert_eq!(header.bytes, bytes as u64);
        let sums = (header.leased, header.delayed, header.grouped);
        assert_eq!(sums, (self.in_flight.len() as u64, self.delayed.len() as u64, self.grouped.len() as u64));
        assert!(self.items.keys().chain(self.acked.keys()).all(|number| (1..=header.last_item).contains(number)));

        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        for in_flight in self.in_flight.values() {
            *held.entry(in_flight.consumer.clone()).or_default() += 1;
        }
        let recorded: BTreeMap<String, u64> =
            self.consumers.iter().map(|(name, record)| (name.clone(), record.leased)).collect();
        assert_eq!(recorded, held, "what consumers hold");

        let totals = header.totals;
        let gone = totals.acked + totals.dead + totals.expired + totals.dropped + totals.removed;
        assert_eq!(totals.sent, self.items.len() as u64 + gone, "each item is there or went some way: {totals:?}");
        assert_eq!(totals.sent, header.last_item);
        assert_eq!(totals.delivered, totals.acked + totals.failed + header.leased, "each delivery ends: {totals:?}");
    }

    fn audit_hints(&self, header: &QueueHeader) {
        for number in self.ready.keys() {
            let level = header.levels[usize::from(self.items[number].priority)];
            assert!(level.from <= *number, "ready item {number} is before {}", level.from);
        }
        assert!(self.in_flight.keys().all(|number| *number >= header.leased_from), "leased hint");
        assert!(self.acked.keys().all(|number| *number >= header.acked_from), "acked hint");
    }

    fn audit_messages(&self) {
        let forget_at: BTreeMap<_, _> =
            self.messages.iter().map(|(key, message)| (key.clone(), message.forget_at)).collect();
        assert_eq!(forget_at, self.to_forget, "messages are remembered just as long as it says");
    }

    /// Whatever waits for time is looked at soon after its time, and not only from behind it.
    fn audit_timers(&self, header: &QueueHeader, clock: Timestamp) {
        let delayed = self.delayed.values().map(|(due, _)| *due).min();
        let leases = self.in_flight.values().map(InFlight::ends).min();
        for (timer, first, by_index) in [
            (QueueTimer::Leases, leases, false),
            (QueueTimer::Delayed, delayed, true),
            (QueueTimer::Expiry, self.expiries.values().copied().min(), true),
            (QueueTimer::Deduplication, self.to_forget.values().copied().min(), true),
        ] {
            let Some(first) = first else { continue };
            let at = header.timers[timer as usize].unwrap_or_else(|| panic!("nobody looks at {timer:?}"));
            assert!(at <= first.max(clock.plus_ms(SPACING_MS)), "{timer:?} is looked at too late");
            assert!(!by_index || at <= first.plus_ms(SPACING_MS), "{timer:?} is looked at behind its head");
        }
        let acked = header.timers[QueueTimer::Acked as usize];
        assert!(self.acked.is_empty() || acked.is_some(), "acknowledgements that nobody forgets");
    }
}

fn numbers<V>(places: &BTreeMap<u64, V>) -> BTreeSet<u64> {
    places.keys().copied().collect()
}
