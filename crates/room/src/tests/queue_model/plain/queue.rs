//! One queue of the model: what stands where, and the rules that concern it alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conclave_types::Timestamp;

use crate::read::{ItemPlace, ItemView};
use crate::{DeadLetter, DeliveryResult, Failure, Overflow, QueueSettings, QueueState, QueueTotals};

#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    Ready,
    /// Another of its group is before it.
    Behind,
    Delayed(u64),
    Leased {
        deadline: u64,
        consumer: String,
        receiver: u64,
    },
}

#[derive(Debug, Clone)]
pub struct Item {
    pub body: Bytes,
    pub priority: u8,
    pub group: Option<Bytes>,
    pub expires: Option<u64>,
    pub dead: Option<DeadLetter>,
    pub place: Place,
    pub attempts: u32,
    pub failures: Vec<Failure>,
}

#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub settings: QueueSettings,
    pub items: BTreeMap<u64, Item>,
    pub last: u64,
    /// Attempt and time.
    pub acked: BTreeMap<u64, (u32, u64)>,
    /// Item, and until when the message is known.
    pub messages: BTreeMap<Bytes, (u64, u64)>,
    pub totals: QueueTotals,
}

impl Item {
    pub fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// A view of it must say this.
    pub fn check(&self, number: u64, view: &ItemView) {
        let (mut due, mut held) = (None, None);
        let place = match &self.place {
            Place::Ready => ItemPlace::Ready,
            Place::Behind => ItemPlace::Grouped,
            Place::Delayed(at) => {
                due = Some(Timestamp(*at));
                ItemPlace::Delayed
            }
            Place::Leased { deadline, consumer, .. } => {
                held = Some((consumer.clone(), Timestamp(*deadline)));
                ItemPlace::InFlight
            }
        };
        assert_eq!((view.number, view.place, view.due, &view.held), (number, place, due, &held));
        assert_eq!((&view.item, view.priority, view.attempts), (&self.body, self.priority, self.attempts));
        assert_eq!((&view.group, view.expires, &view.dead), (&self.group, self.expires.map(Timestamp), &self.dead));
    }
}

impl Queue {
    /// Ready items in the order of delivery.
    pub fn order(&self) -> Vec<u64> {
        let ready = self.items.iter().filter(|(_, item)| item.place == Place::Ready);
        let mut order: Vec<_> = ready.map(|(number, item)| (Reverse(item.priority), *number)).collect();
        order.sort();
        order.into_iter().map(|(_, number)| number).collect()
    }

    /// Items in flight, each with its consumer.
    pub fn leased(&self) -> impl Iterator<Item = (&u64, &Item, &str)> {
        self.items.iter().filter_map(|(number, item)| match &item.place {
            Place::Leased { consumer, .. } => Some((number, item, &consumer[..])),
            _ => None,
        })
    }

    pub fn waiting(&self) -> u64 {
        (self.items.len() - self.leased().count()) as u64
    }

    /// What is out, as it was delivered.
    pub fn deliveries(&self) -> Vec<(u64, u32)> {
        self.leased().map(|(number, item, _)| (*number, item.attempts)).collect()
    }

    /// When leases, delays, lives and messages end, from now on.
    pub fn ends(&self, now: u64) -> Vec<u64> {
        let of_place = self.items.values().filter_map(|item| match item.place {
            Place::Leased { deadline, .. } => Some(deadline),
            Place::Delayed(due) => Some(due),
            Place::Ready | Place::Behind => None,
        });
        let lives = self.items.values().filter_map(|item| item.expires);
        let all = of_place.chain(lives).chain(self.messages.values().map(|(_, until)| *until));
        all.filter(|end| *end >= now).collect()
    }

    /// Whether this consumer could be given something.
    pub fn may_receive(&self, consumer: &str) -> bool {
        let bound = self.settings.max_in_flight_per_consumer as usize;
        self.settings.state == QueueState::Active
            && !self.order().is_empty()
            && self.leased().count() < self.settings.max_in_flight as usize
            && (bound == 0 || self.leased().filter(|(_, _, by)| *by == consumer).count() < bound)
    }

    /// The first of each group is not behind anybody.
    pub fn pass_turns(&mut self) {
        let mut seen = BTreeSet::new();
        for item in self.items.values_mut() {
            if let Some(group) = &item.group
                && seen.insert(group.clone())
                && item.place == Place::Behind
            {
                item.place = Place::Ready;
            }
        }
    }

    pub fn remove(&mut self, number: u64) -> Item {
        let item = self.items.remove(&number).unwrap();
        self.pass_turns();
        item
    }

    pub fn add(&mut self, mut item: Item) {
        if item.group.is_some() && self.items.values().any(|other| other.group == item.group) {
            item.place = Place::Behind;
        }
        self.last += 1;
        self.totals.sent += 1;
        self.items.insert(self.last, item);
    }

    /// What goes so that so many more fit; none if they do not.
    pub fn make_room(&mut self, more: usize) -> Option<Vec<Bytes>> {
        let too_many = (self.items.len() + more).saturating_sub(self.settings.max_items as usize);
        let mut dropped = Vec::new();
        for _ in 0..too_many {
            let ready = self.items.iter().filter(|(_, item)| item.place == Place::Ready);
            let lowest = ready.min_by_key(|(number, item)| (item.priority, **number)).map(|(number, _)| *number);
            let victim = lowest.filter(|_| self.settings.overflow == Overflow::DropOldest)?;
            dropped.push(self.remove(victim).body);
        }
        self.totals.dropped += dropped.len() as u64;
        Some(dropped)
    }

    pub fn backoff(&self, attempts: u32) -> u64 {
        let mut wait = self.settings.backoff_ms;
        for _ in 1..attempts {
            wait = (wait * 2).min(self.settings.max_backoff_ms);
        }
        wait
    }

    pub fn judge(&self, now: u64, delivery: (u64, u32)) -> Option<DeliveryResult> {
        let (number, attempt) = delivery;
        if number == 0 || number > self.last || attempt == 0 {
            return None;
        }
        if let Some(item) = self.items.get(&number) {
            return match &item.place {
                _ if attempt > item.attempts => None,
                Place::Leased { deadline, .. } if attempt == item.attempts && now <= *deadline => {
                    Some(DeliveryResult::Done)
                }
                _ => Some(DeliveryResult::Stale),
            };
        }
        match self.acked.get(&number) {
            Some((acked, _)) if attempt > *acked => None,
            Some((acked, _)) if attempt == *acked => Some(DeliveryResult::AlreadyDone),
            _ => Some(DeliveryResult::Stale),
        }
    }
}
