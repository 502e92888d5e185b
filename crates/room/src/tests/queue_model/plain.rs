//! Queues as one would write them without tables: lists of items, looked through from the front.
//!
//! What happens when is exact but for time: nobody is promised the millisecond, so what time did is taken over from the
//! shard ([`Plain::follow`]), after a look at whether it may be so.

mod queue;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conclave_types::{DeliveryId, Revision, Timestamp};

use super::super::harness::MINUTE;
use crate::read::{ItemPlace, ItemView};
use crate::{
    CancelResult, DeadLetter, DeadReason, DeliveryResult, Failure, FailureKind, ItemOptions, NotBefore, Outcome,
    QueueSettings, QueueState, Refusal, SettingsPatch,
};

pub use queue::{Item, Place, Queue};

/// How late a queue may look at what its time has come.
const SPACING_MS: u64 = 20;

/// The end of an item. Each has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    Acked,
    Taken,
    Expired,
    Dropped,
    Cancelled,
    Purged,
}

#[derive(Debug, Clone, Default)]
pub struct Plain {
    pub queues: BTreeMap<String, Queue>,
    pub fates: BTreeMap<Bytes, Fate>,
    pub now: u64,
    pub revision: u64,
}

#[derive(Debug, Clone)]
pub struct Receive {
    pub most: u32,
    pub lease_ms: u64,
    pub consumer: String,
    pub receiver: u64,
    pub again: bool,
    pub take: bool,
    pub window: u32,
}

#[derive(Debug, Clone)]
pub enum How {
    Ack,
    Nack(Option<u64>),
    Reject,
    Extend(u64),
}

impl Plain {
    fn next_revision(&mut self, is_seen: bool) -> Revision {
        self.revision += u64::from(is_seen);
        Revision(self.revision)
    }

    fn meets(&mut self, body: Bytes, fate: Fate) {
        assert_eq!(self.fates.insert(body, fate), None, "an item ends once");
    }

    pub fn send(&mut self, name: &str, items: &[(Bytes, ItemOptions)]) -> Outcome {
        let (now, is_new) = (self.now, !self.queues.contains_key(name));
        let queue = self.queues.entry(name.to_owned()).or_default();
        let QueueSettings { state, deduplication_window_ms: window, .. } = queue.settings.clone();
        if state == QueueState::Closed {
            return Outcome::Refused(Refusal::QueueClosed);
        }
        let (mut duplicates, mut ids) = (Vec::new(), BTreeSet::new());
        for (index, (_, options)) in (0..).zip(items) {
            let Some(id) = options.message_id.as_ref().filter(|_| window > 0) else { continue };
            if queue.messages.get(id).is_some_and(|(_, until)| *until > now) || !ids.insert(id) {
                duplicates.push(index);
            }
        }
        let fresh = items.len() - duplicates.len();
        if fresh == 0 {
            queue.totals.duplicates += duplicates.len() as u64;
            let first_item = queue.messages[items[0].1.message_id.as_ref().unwrap()].0;
            return Outcome::Sent { first_item, revision: Revision(self.revision), duplicates };
        }
        let mut roomy = queue.clone();
        let Some(dropped) = roomy.make_room(fresh) else { return Outcome::Refused(Refusal::QueueFull) };
        assert!(!is_new || dropped.is_empty());
        *queue = roomy;
        queue.totals.duplicates += duplicates.len() as u64;
        let first_item = queue.last + 1;
        for (index, (body, options)) in (0..).zip(items) {
            if duplicates.contains(&index) {
                continue;
            }
            let due = match options.not_before {
                NotBefore::Now => 0,
                NotBefore::After(ms) => now + ms,
                NotBefore::At(time) => time.0,
            };
            queue.add(Item {
                body: body.clone(),
                priority: options.priority,
                group: options.group.clone(),
                expires: options.ttl_ms.map(|ttl| now + ttl),
                dead: None,
                place: if due > now { Place::Delayed(due) } else { Place::Ready },
                attempts: 0,
                failures: Vec::new(),
            });
            if let Some(id) = options.message_id.as_ref().filter(|_| window > 0) {
                queue.messages.insert(id.clone(), (queue.last, now + window));
            }
        }
        dropped.into_iter().for_each(|body| self.meets(body, Fate::Dropped));
        Outcome::Sent { first_item, revision: self.next_revision(true), duplicates }
    }

    pub fn lease(&mut self, name: &str, receive: &Receive) -> Vec<(u64, u32)> {
        let now = self.now;
        if !self.queues.contains_key(name) {
            self.queues.insert(name.to_owned(), Queue::default());
            self.revision += 1;
            return Vec::new();
        }
        let queue = self.queues.get_mut(name).unwrap();
        let holds = |item: &Item| match &item.place {
            Place::Leased { deadline, receiver, .. } => *receiver == receive.receiver && now <= *deadline,
            _ => false,
        };
        let held = queue.items.iter().filter(|(_, item)| holds(item));
        let held: Vec<_> = held.map(|(number, item)| (*number, item.attempts)).collect();
        if receive.again && !held.is_empty() {
            return held;
        }
        if queue.settings.state != QueueState::Active {
            return Vec::new();
        }
        let mut most = receive.most as usize;
        if !receive.take {
            most = most.min((queue.settings.max_in_flight as usize).saturating_sub(queue.leased().count()));
            let by_consumer = queue.leased().filter(|(_, _, by)| *by == receive.consumer).count();
            for bound in [receive.window, queue.settings.max_in_flight_per_consumer] {
                most = if bound == 0 { most } else { most.min((bound as usize).saturating_sub(by_consumer)) };
            }
        }
        let (mut taken, mut expired) = (Vec::new(), Vec::new());
        while taken.len() < most
            && let Some(number) = queue.order().first().copied()
        {
            let item = queue.items.get_mut(&number).unwrap();
            if item.is_over(now) {
                expired.push(queue.remove(number).body);
                continue;
            }
            item.attempts += 1;
            let (consumer, receiver) = (receive.consumer.clone(), receive.receiver);
            item.place = Place::Leased { deadline: now + receive.lease_ms, consumer, receiver };
            taken.push((number, item.attempts));
        }
        queue.totals.delivered += taken.len() as u64;
        queue.totals.expired += expired.len() as u64;
        let mut gone = Vec::new();
        if receive.take {
            queue.totals.acked += taken.len() as u64;
            gone.extend(taken.iter().map(|(number, _)| queue.remove(*number).body));
        }
        self.next_revision(!taken.is_empty() || !expired.is_empty());
        expired.into_iter().for_each(|body| self.meets(body, Fate::Expired));
        gone.into_iter().for_each(|body| self.meets(body, Fate::Taken));
        taken
    }

    pub fn settle(&mut self, name: &str, deliveries: &[DeliveryId], how: &How) -> Outcome {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(name) else { return Outcome::Refused(Refusal::QueueNotFound) };
        let (mut results, mut current) = (Vec::new(), Vec::new());
        for (index, delivery) in (0..).zip(deliveries) {
            match queue.judge(now, (delivery.item, delivery.attempt)) {
                None => return Outcome::Refused(Refusal::DeliveryUnknown { index }),
                Some(DeliveryResult::Done) if current.contains(&delivery.item) => {
                    results.push(DeliveryResult::AlreadyDone);
                }
                Some(result) => {
                    current.extend(Some(delivery.item).filter(|_| result == DeliveryResult::Done));
                    results.push(result);
                }
            }
        }
        let is_seen = !matches!(how, How::Extend(_)) && !current.is_empty();
        for number in current {
            match how {
                How::Extend(ms) => {
                    let item = self.queues.get_mut(name).unwrap().items.get_mut(&number).unwrap();
                    let Place::Leased { deadline, .. } = &mut item.place else { panic!("judged to be leased") };
                    *deadline = now + ms;
                }
                How::Ack => {
                    let queue = self.queues.get_mut(name).unwrap();
                    let item = queue.remove(number);
                    queue.acked.insert(number, (item.attempts, now));
                    queue.totals.acked += 1;
                    self.meets(item.body, Fate::Acked);
                }
                How::Nack(delay) => self.fail(name, number, FailureKind::Nacked, *delay, None),
                How::Reject => self.fail(name, number, FailureKind::Rejected, None, None),
            }
        }
        Outcome::Settled { results, revision: self.next_revision(is_seen) }
    }

    /// A delivery led to nothing. What dies gets a number of the queue of dead letters, if it is not the next.
    fn fail(&mut self, name: &str, number: u64, kind: FailureKind, delay: Option<u64>, letter: Option<u64>) {
        let now = self.now;
        let queue = self.queues.get_mut(name).unwrap();
        queue.totals.failed += 1;
        let item = queue.items.get_mut(&number).unwrap();
        let Place::Leased { consumer, .. } = item.place.clone() else { panic!("item {number} is not leased") };
        let reason = match kind {
            FailureKind::LeaseEnded => "",
            FailureKind::Nacked => "not now",
            FailureKind::Rejected => "no use",
        };
        let (attempt, reason) = (item.attempts, reason.to_owned());
        item.failures.push(Failure { attempt, consumer, time: Timestamp(now), kind, reason });
        item.failures = item.failures.split_off(item.failures.len().saturating_sub(8));
        if item.is_over(now) {
            queue.totals.expired += 1;
            let body = queue.remove(number).body;
            return self.meets(body, Fate::Expired);
        }
        let own = format!("{name}.dead");
        let graves = queue.settings.dead_letter_queue.as_ref().map_or(own, |graves| graves.to_string());
        let most = queue.settings.max_attempts;
        let dies = kind == FailureKind::Rejected || most > 0 && attempt >= most;
        if dies && item.dead.is_none() && graves != name {
            queue.totals.dead += 1;
            let item = queue.remove(number);
            let reason = if kind == FailureKind::Rejected { DeadReason::Rejected } else { DeadReason::TooManyAttempts };
            return self.bury(name, number, item, reason, &graves, letter);
        }
        let wait = delay.unwrap_or(queue.backoff(attempt));
        queue.items.get_mut(&number).unwrap().place = if wait == 0 { Place::Ready } else { Place::Delayed(now + wait) };
    }

    fn bury(&mut self, name: &str, number: u64, item: Item, reason: DeadReason, graves: &str, letter: Option<u64>) {
        let made =
            || Queue { settings: QueueSettings { max_attempts: 0, ..QueueSettings::default() }, ..Queue::default() };
        let graves = self.queues.entry(graves.to_owned()).or_insert_with(made);
        let dead = DeadLetter {
            queue: name.parse().unwrap(),
            item: number,
            time: Timestamp(self.now),
            reason,
            attempts: item.attempts,
            group: item.group,
            failures: item.failures,
        };
        let dead = Item {
            group: None,
            expires: None,
            dead: Some(dead),
            place: Place::Ready,
            attempts: 0,
            failures: Vec::new(),
            ..item
        };
        graves.totals.sent += 1;
        let number = letter.unwrap_or(graves.last + 1);
        graves.last = graves.last.max(number);
        graves.items.insert(number, dead);
    }

    pub fn cancel(&mut self, name: &str, items: &[u64]) -> Outcome {
        let Some(queue) = self.queues.get_mut(name) else { return Outcome::Refused(Refusal::QueueNotFound) };
        let (mut results, mut bodies) = (Vec::new(), Vec::new());
        for number in items {
            results.push(match queue.items.get(number).map(|item| &item.place) {
                None => CancelResult::Gone,
                Some(Place::Leased { .. }) => CancelResult::InFlight,
                Some(_) => {
                    bodies.push(queue.remove(*number).body);
                    CancelResult::Cancelled
                }
            });
        }
        queue.totals.removed += bodies.len() as u64;
        let revision = self.next_revision(!bodies.is_empty());
        bodies.into_iter().for_each(|body| self.meets(body, Fate::Cancelled));
        Outcome::ItemsCancelled { results, revision }
    }

    pub fn carry(&mut self, from: &str, to: Option<&str>, most: u32) -> Outcome {
        if to == Some(from) {
            return Outcome::Refused(Refusal::SameQueue);
        }
        let mut queues = self.queues.clone();
        let Some(source) = queues.get_mut(from) else { return Outcome::Refused(Refusal::QueueNotFound) };
        let mut carried = Vec::new();
        for number in source.order() {
            if carried.len() >= most as usize {
                break;
            }
            let origin = source.items[&number].dead.as_ref().map(|dead| dead.queue.to_string());
            if let Some(target) = to.map(str::to_owned).or(origin).filter(|target| target != from) {
                carried.push((target, source.remove(number)));
            }
        }
        source.totals.removed += carried.len() as u64;
        let left = source.order().len() as u64;
        let (moved, mut dropped) = (carried.len() as u64, Vec::new());
        for (target, item) in carried {
            let (group, expires) = match item.dead {
                Some(dead) => (dead.group, None),
                None => (item.group, item.expires),
            };
            let item =
                Item { group, expires, dead: None, place: Place::Ready, attempts: 0, failures: Vec::new(), ..item };
            let target = queues.entry(target).or_default();
            if target.settings.state == QueueState::Closed {
                return Outcome::Refused(Refusal::QueueClosed);
            }
            let Some(gone) = target.make_room(1) else { return Outcome::Refused(Refusal::QueueFull) };
            dropped.extend(gone);
            target.add(item);
        }
        self.queues = queues;
        dropped.into_iter().for_each(|body| self.meets(body, Fate::Dropped));
        Outcome::ItemsMoved { moved, left, revision: self.next_revision(moved > 0) }
    }

    /// Takes over which items a purge discarded.
    pub fn purge(&mut self, name: &str, most: u32, seen: &BTreeMap<u64, ItemView>) -> Outcome {
        let Some(queue) = self.queues.get_mut(name) else { return Outcome::Refused(Refusal::QueueNotFound) };
        let gone: Vec<u64> = queue.items.keys().filter(|number| !seen.contains_key(number)).copied().collect();
        let waited = queue.waiting();
        let mut bodies = Vec::new();
        for number in gone {
            let item = queue.remove(number);
            assert!(!matches!(item.place, Place::Leased { .. }), "item {number} is held, and purged");
            bodies.push(item.body);
        }
        let purged = bodies.len() as u64;
        assert!(purged <= u64::from(most) && (purged > 0 || waited == 0), "a purge of {purged} among {waited}");
        queue.totals.removed += purged;
        let left = queue.waiting();
        bodies.into_iter().for_each(|body| self.meets(body, Fate::Purged));
        Outcome::ItemsPurged { purged, left, revision: self.next_revision(purged > 0) }
    }

    pub fn configure(&mut self, name: &str, is_new: bool, patch: SettingsPatch) -> Outcome {
        match (self.queues.contains_key(name), is_new) {
            (true, true) => return Outcome::Refused(Refusal::QueueExists),
            (false, false) => return Outcome::Refused(Refusal::QueueNotFound),
            _ => {}
        }
        if patch.dead_letter_queue.as_ref().is_some_and(|graves| graves.as_ref().is_some_and(|to| to.as_str() == name))
        {
            return Outcome::Refused(Refusal::SameQueue);
        }
        patch.apply(&mut self.queues.entry(name.to_owned()).or_default().settings);
        Outcome::QueueConfigured { revision: self.next_revision(true) }
    }

    /// Takes over what time did to the items, checking that it may; and, if `is_done`, that it did all that it must.
    pub fn follow(&mut self, seen: &BTreeMap<String, BTreeMap<u64, ItemView>>, is_done: bool) {
        let (now, mut is_seen) = (self.now, false);
        let must = |at: u64| is_done && at + SPACING_MS < now;
        let names: Vec<String> = self.queues.keys().cloned().collect();
        for name in names {
            let numbers: Vec<u64> = self.queues[&name].items.keys().copied().collect();
            for number in numbers {
                let queue = self.queues.get_mut(&name).unwrap();
                let item = queue.items.get_mut(&number).unwrap();
                let place = seen[&name].get(&number).map(|view| view.place);
                let is_leased = matches!(item.place, Place::Leased { .. });
                let stays = match (&item.place, place) {
                    (Place::Leased { deadline, .. }, Some(ItemPlace::InFlight)) => !must(*deadline),
                    (Place::Leased { deadline, .. }, _) => {
                        assert!(*deadline < now, "{name}: item {number} lost its lease too early");
                        let dead = |view: &&ItemView| view.item == item.body && view.dead.is_some();
                        let letter = seen.values().flat_map(BTreeMap::values).find(dead);
                        self.fail(&name, number, FailureKind::LeaseEnded, None, letter.map(|view| view.number));
                        is_seen = true;
                        continue;
                    }
                    (Place::Delayed(due), Some(ItemPlace::Ready)) => {
                        assert!(*due <= now, "{name}: item {number} is ready too early");
                        item.place = Place::Ready;
                        is_seen = true;
                        true
                    }
                    (Place::Delayed(due), Some(_)) => !must(*due),
                    (_, Some(_)) => true,
                    (_, None) => {
                        assert!(item.is_over(now), "{name}: item {number} is lost");
                        let body = queue.remove(number).body;
                        queue.totals.expired += 1;
                        is_seen = true;
                        self.meets(body, Fate::Expired);
                        continue;
                    }
                };
                assert!(stays, "{name}: item {number} waits for ever");
                assert!(is_leased || !item.expires.is_some_and(must), "{name}: item {number} lives for ever");
            }
        }
        self.next_revision(is_seen);
    }

    /// Takes over which acknowledgements were forgotten.
    pub fn follow_acked(&mut self, name: &str, is_remembered: impl Fn(u64) -> bool) {
        let (now, queue) = (self.now, self.queues.get_mut(name).unwrap());
        queue.acked.retain(|number, (_, time)| {
            let stays = is_remembered(*number);
            assert!(stays || *time + 10 * MINUTE <= now, "the acknowledgement of {number} is forgotten too early");
            stays
        });
    }
}
