//! Receives that wait for an item, first come first served, a list for each queue.
//!
//! Leader memory only: a waiter that is lost with its leader is asked again by the gateway. A waiter takes its place
//! before its queue is looked at, so a send between look and wait cannot be missed. Waking is a hint; the one who is
//! woken leases, and wakes the next when it got something.
//!
//! Invariant: a wake is never lost. Whoever was woken and leaves without having found its queue empty, for instance
//! because its client went away, passes the wake on.

use std::collections::{HashMap, VecDeque};

use conclave_types::{QueueName, RoomUid};
use parking_lot::Mutex;
use tokio::sync::oneshot;

type Waiting = VecDeque<oneshot::Sender<()>>;

#[derive(Debug, Default)]
pub struct Waiters {
    queues: Mutex<HashMap<(RoomUid, QueueName), Waiting>>,
}

impl Waiters {
    /// Takes a place at the end of a queue's list.
    pub fn join(&self, room: RoomUid, queue: &QueueName) -> Place<'_> {
        let woken = self.enter(room, queue);
        Place { waiters: self, room, queue: queue.clone(), woken, holds_wake: false }
    }

    fn enter(&self, room: RoomUid, queue: &QueueName) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut queues = self.queues.lock();
        let waiting = queues.entry((room, queue.clone())).or_default();
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push_back(wake);
        woken
    }

    /// Forgets those of a queue who no longer wait.
    fn tidy(&self, room: RoomUid, queue: &QueueName) {
        let mut queues = self.queues.lock();
        let key = (room, queue.clone());
        let Some(waiting) = queues.get_mut(&key) else { return };
        waiting.retain(|waiter| !waiter.is_closed());
        if waiting.is_empty() {
            queues.remove(&key);
        }
    }

    /// Wakes the first who still waits.
    pub fn wake_one(&self, room: RoomUid, queue: &QueueName) {
        let mut queues = self.queues.lock();
        let key = (room, queue.clone());
        let Some(waiting) = queues.get_mut(&key) else { return };
        while let Some(waiter) = waiting.pop_front() {
            if waiter.send(()).is_ok() {
                break;
            }
        }
        if waiting.is_empty() {
            queues.remove(&key);
        }
    }
}

/// One waiter's place. Dropping it leaves the list and passes on a wake that was not used.
#[derive(Debug)]
pub struct Place<'a> {
    waiters: &'a Waiters,
    room: RoomUid,
    queue: QueueName,
    woken: oneshot::Receiver<()>,
    /// A wake came that led to no look at the queue yet, or to items of which there may be more.
    holds_wake: bool,
}

impl Place<'_> {
    /// Waits to be woken; the place is then at the end of the list again. May be dropped at the await without losing
    /// a wake.
    pub async fn woken(&mut self) {
        // The sender stays in the list until it wakes; a closed channel would only mean one look too many.
        let _ = (&mut self.woken).await;
        self.holds_wake = true;
        self.woken = self.waiters.enter(self.room, &self.queue);
    }

    /// The queue was empty after the last wake: that one is used up.
    pub fn found_nothing(&mut self) {
        self.holds_wake = false;
    }

    /// Items were taken, and there may be more: the next is woken once this place is left.
    pub fn found_some(&mut self) {
        self.holds_wake = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Closed first: a wake comes either before, and is seen here, or goes to the next by itself.
        self.woken.close();
        if self.holds_wake || self.woken.try_recv().is_ok() {
            self.waiters.wake_one(self.room, &self.queue);
        } else {
            self.waiters.tidy(self.room, &self.queue);
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
    fn a_wake_that_found_nothing_is_used_up() {
        let waiters = Waiters::default();
        let mut first = waiters.join(room(), &queue());
        let mut second = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        assert!(is_woken(&mut first));
        first.found_nothing();
        drop(first);
        assert!(!is_woken(&mut second));
    }

    #[test]
    fn who_found_some_wakes_the_next() {
        let waiters = Waiters::default();
        let mut first = waiters.join(room(), &queue());
        let mut second = waiters.join(room(), &queue());
        first.found_some();
        drop(first);
        assert!(is_woken(&mut second));
    }

    #[test]
    fn nothing_is_kept_for_queues_without_waiters() {
        let waiters = Waiters::default();
        drop(waiters.join(room(), &queue()));
        assert!(waiters.queues.lock().is_empty());
    }
}
