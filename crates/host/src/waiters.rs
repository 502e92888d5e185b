//! Receives that wait for an item, first come first served, a line for each queue; and consumers that hold as much as
//! they may, who wait outside until they hold less.
//!
//! Leader memory only: a waiter that is lost with its leader is asked again by the gateway. A waiter takes its place
//! before its queue is looked at, so a send between look and wait cannot be missed. Waking is a hint; the one who is
//! woken leases, and wakes the next while more is ready.
//!
//! Invariants: a wake is never lost. Whoever was woken and leaves without having found its queue empty, for instance
//! because its client went away, passes the wake on. And whoever was woken for nothing keeps its place.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conclave_types::{QueueName, RoomUid};
use parking_lot::Mutex;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, oneshot};

/// By ticket: the lowest came first.
type Waiting = BTreeMap<u64, oneshot::Sender<()>>;

#[derive(Debug, Default)]
pub struct Waiters {
    queues: Mutex<HashMap<(RoomUid, QueueName), Waiting>>,
    next_ticket: AtomicU64,
    full: Mutex<HashMap<ConsumerId, Arc<Notify>>>,
    /// How many places and [`WhileFull`]s there are.
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    places: AtomicU64,
    full: AtomicU64,
}

/// A consumer of a queue.
type ConsumerId = (RoomUid, QueueName, String);

impl Waiters {
    /// Takes a place at the end of a queue's line.
    pub fn join(&self, room: RoomUid, queue: &QueueName) -> Place<'_> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let woken = self.stand(room, queue, ticket);
        self.counts.places.fetch_add(1, Ordering::Relaxed);
        Place { waiters: self, room, queue: queue.clone(), ticket, woken, holds_wake: false }
    }

    fn stand(&self, room: RoomUid, queue: &QueueName, ticket: u64) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        self.queues.lock().entry((room, queue.clone())).or_default().insert(ticket, wake);
        woken
    }

    fn leave(&self, room: RoomUid, queue: &QueueName, ticket: u64) {
        let mut queues = self.queues.lock();
        let key = (room, queue.clone());
        let Some(waiting) = queues.get_mut(&key) else { return };
        waiting.remove(&ticket);
        if waiting.is_empty() {
            queues.remove(&key);
        }
    }

    /// Receives and consumers that stand in a queue's line.
    pub fn waiting(&self, room: RoomUid, queue: &QueueName) -> usize {
        self.queues.lock().get(&(room, queue.clone())).map_or(0, BTreeMap::len)
    }

    /// How many stand in all lines, and how many wait outside.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.counts.places), of(&self.counts.full))
    }

    /// Waits outside, from now on, until the consumer holds less.
    pub fn while_full(&self, room: RoomUid, queue: &QueueName, consumer: &str) -> WhileFull<'_> {
        let id = (room, queue.clone(), consumer.to_owned());
        let notify = self.full.lock().entry(id.clone()).or_default().clone();
        self.counts.full.fetch_add(1, Ordering::Relaxed);
        WhileFull { waiters: self, id, freed: Some(Box::pin(notify.clone().notified_owned())), notify: Some(notify) }
    }

    /// A consumer holds less: all its receives look again.
    pub fn wake_consumer(&self, room: RoomUid, queue: QueueName, consumer: String) {
        let full = self.full.lock();
        if !full.is_empty()
            && let Some(notify) = full.get(&(room, queue, consumer))
        {
            notify.notify_waiters();
        }
    }

    /// Wakes the first who still waits.
    pub fn wake_one(&self, room: RoomUid, queue: &QueueName) {
        let mut queues = self.queues.lock();
        let key = (room, queue.clone());
        let Some(waiting) = queues.get_mut(&key) else { return };
        while let Some((_, waiter)) = waiting.pop_first() {
            if waiter.send(()).is_ok() {
                break;
            }
        }
        if waiting.is_empty() {
            queues.remove(&key);
        }
    }

    /// A room is gone: all who wait in it look again.
    pub fn wake_room(&self, room: RoomUid) {
        self.queues.lock().retain(|(of, _), waiting| {
            if *of == room {
                for waiter in std::mem::take(waiting).into_values() {
                    // Whoever left meanwhile needs no wake.
                    let _ = waiter.send(());
                }
            }
            *of != room
        });
        let full = self.full.lock();
        full.iter().filter(|((of, ..), _)| *of == room).for_each(|(_, notify)| notify.notify_waiters());
    }
}

/// A receive whose consumer is full. What frees it after this was made is not missed.
pub struct WhileFull<'a> {
    waiters: &'a Waiters,
    id: ConsumerId,
    freed: Option<Pin<Box<OwnedNotified>>>,
    notify: Option<Arc<Notify>>,
}

impl WhileFull<'_> {
    pub async fn freed(&mut self) {
        if let Some(freed) = &mut self.freed {
            freed.await;
        }
    }
}

impl Drop for WhileFull<'_> {
    fn drop(&mut self) {
        self.waiters.counts.full.fetch_sub(1, Ordering::Relaxed);
        (self.freed, self.notify) = (None, None);
        let mut full = self.waiters.full.lock();
        // The last one leaves nothing behind.
        if full.get(&self.id).is_some_and(|notify| Arc::strong_count(notify) == 1) {
            full.remove(&self.id);
        }
    }
}

/// One waiter's place. Dropping it leaves the line and passes on a wake that was not used.
#[derive(Debug)]
pub struct Place<'a> {
    waiters: &'a Waiters,
    room: RoomUid,
    queue: QueueName,
    ticket: u64,
    woken: oneshot::Receiver<()>,
    /// A wake came that led to no look at the queue yet, or more is ready than was taken.
    holds_wake: bool,
}

impl Place<'_> {
    /// Waits to be woken; then stands in the same place again, to be woken for what comes after the next look. May be
    /// dropped at the await without losing a wake.
    pub async fn woken(&mut self) {
        // The sender stays in the line until it wakes; a closed channel would only mean one look too many.
        let _ = (&mut self.woken).await;
        self.holds_wake = true;
        self.woken = self.waiters.stand(self.room, &self.queue, self.ticket);
    }

    /// The queue was left empty after the last wake: that one is used up.
    pub fn left_nothing(&mut self) {
        self.holds_wake = false;
    }

    /// Items were taken, and more are ready: the next is woken once this place is left.
    pub fn left_some(&mut self) {
        self.holds_wake = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Closed first: a wake comes either before, and is seen here, or goes to the next by itself.
        self.woken.close();
        self.waiters.counts.places.fetch_sub(1, Ordering::Relaxed);
        self.waiters.leave(self.room, &self.queue, self.ticket);
        if self.holds_wake || self.woken.try_recv().is_ok() {
            self.waiters.wake_one(self.room, &self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_types::{RoomNumber, Slot};
    use futures::FutureExt;

    fn room() -> RoomUid {
        RoomUid { slot: Slot(1), number: RoomNumber(1) }
    }

    fn queue() -> QueueName {
        "jobs".parse().expect("a valid name")
    }

    fn is_woken(place: &mut Place<'_>) -> bool {
        place.woken().now_or_never().is_some()
    }

    #[test]
    fn the_first_waiter_is_woken_first() {
        let waiters = Waiters::default();
        let mut first = waiters.join(room(), &queue());
        let mut second = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        assert!(!is_woken(&mut second));
        assert!(is_woken(&mut first));
    }

    #[test]
    fn who_was_woken_for_nothing_keeps_its_place() {
        let waiters = Waiters::default();
        let mut first = waiters.join(room(), &queue());
        let mut second = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        assert!(is_woken(&mut first));
        first.left_nothing();
        waiters.wake_one(room(), &queue());
        assert!(!is_woken(&mut second));
        assert!(is_woken(&mut first));
    }

    #[test]
    fn a_waiter_that_left_does_not_swallow_the_wake() {
        let waiters = Waiters::default();
        drop(waiters.join(room(), &queue()));
        let mut second = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        assert!(is_woken(&mut second));
    }

    #[test]
    fn a_waiter_that_leaves_once_it_is_woken_passes_the_wake_on() {
        let waiters = Waiters::default();
        let unaware = waiters.join(room(), &queue());
        let mut aware = waiters.join(room(), &queue());
        let mut last = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        drop(unaware);
        assert!(is_woken(&mut aware));
        drop(aware);
        assert!(is_woken(&mut last));
    }

    #[test]
    fn a_wake_that_left_nothing_is_used_up() {
        let waiters = Waiters::default();
        let mut first = waiters.join(room(), &queue());
        let mut second = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        assert!(is_woken(&mut first));
        first.left_nothing();
        drop(first);
        assert!(!is_woken(&mut second));
    }

    #[test]
    fn who_left_some_wakes_the_next() {
        let waiters = Waiters::default();
        let mut first = waiters.join(room(), &queue());
        let mut second = waiters.join(room(), &queue());
        first.left_some();
        drop(first);
        assert!(is_woken(&mut second));
    }

    #[test]
    fn who_is_full_is_woken_when_its_consumer_holds_less() {
        let waiters = Waiters::default();
        let mut full = waiters.while_full(room(), &queue(), "worker");
        assert!(full.freed().now_or_never().is_none());
        waiters.wake_consumer(room(), queue(), "another".into());
        assert!(full.freed().now_or_never().is_none());
        waiters.wake_consumer(room(), queue(), "worker".into());
        assert!(full.freed().now_or_never().is_some());
        drop(full);
        assert!(waiters.full.lock().is_empty(), "nothing is kept for who is gone");
        let mut early = waiters.while_full(room(), &queue(), "worker");
        waiters.wake_consumer(room(), queue(), "worker".into());
        assert!(early.freed().now_or_never().is_some(), "what came between the look and the wait is not missed");
    }

    #[test]
    fn all_who_wait_in_a_room_that_is_gone_are_woken() {
        let waiters = Waiters::default();
        let elsewhere = RoomUid { number: RoomNumber(2), ..room() };
        let mut places = [waiters.join(room(), &queue()), waiters.join(room(), &queue())];
        let mut other = waiters.join(elsewhere, &queue());
        let mut full = waiters.while_full(room(), &queue(), "worker");
        waiters.wake_room(room());
        assert!(places.iter_mut().all(is_woken));
        assert!(full.freed().now_or_never().is_some());
        assert!(!is_woken(&mut other));
    }

    #[test]
    fn nothing_is_kept_for_queues_without_waiters() {
        let waiters = Waiters::default();
        drop(waiters.join(room(), &queue()));
        assert!(waiters.queues.lock().is_empty());
    }

    #[test]
    fn a_place_counts_once_however_often_it_is_woken() {
        let waiters = Waiters::default();
        let mut place = waiters.join(room(), &queue());
        let full = waiters.while_full(room(), &queue(), "worker");
        waiters.wake_one(room(), &queue());
        assert!(is_woken(&mut place));
        assert_eq!(waiters.counts(), (1, 1));
        drop((place, full));
        assert_eq!(waiters.counts(), (0, 0));
    }
}
