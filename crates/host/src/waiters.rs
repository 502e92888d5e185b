//! Receives that wait for an item, first come first served, a list for each queue.
//!
//! Leader memory only: a waiter that is lost with its leader is asked again by the gateway. A waiter is registered before
//! its queue is looked at, so a send between look and wait cannot be missed. Waking is a hint; the one who is woken
//! leases, and wakes the next when it got something.

use std::collections::{HashMap, VecDeque};

use conclave_types::{QueueName, RoomUid};
use parking_lot::Mutex;
use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub struct Waiters {
    queues: Mutex<HashMap<(RoomUid, QueueName), VecDeque<oneshot::Sender<()>>>>,
}

impl Waiters {
    /// Joins the end of a queue's list. Dropping the receiver leaves it.
    pub fn join(&self, room: RoomUid, queue: &QueueName) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut queues = self.queues.lock();
        let waiting = queues.entry((room, queue.clone())).or_default();
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push_back(wake);
        woken
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

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_types::{RoomNumber, Slot};

    fn room() -> RoomUid {
        RoomUid { slot: Slot(1), number: RoomNumber(1) }
    }

    fn queue() -> QueueName {
        "jobs".parse().expect("a valid name")
    }

    #[test]
    fn the_first_waiter_is_woken_first() {
        let waiters = Waiters::default();
        let mut first = waiters.join(room(), &queue());
        let mut second = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        assert!(first.try_recv().is_ok());
        assert!(second.try_recv().is_err());
    }

    #[test]
    fn a_waiter_that_left_does_not_swallow_the_wake() {
        let waiters = Waiters::default();
        drop(waiters.join(room(), &queue()));
        let mut second = waiters.join(room(), &queue());
        waiters.wake_one(room(), &queue());
        assert!(second.try_recv().is_ok());
    }

    #[test]
    fn nothing_is_kept_for_queues_without_waiters() {
        let waiters = Waiters::default();
        drop(waiters.join(room(), &queue()));
        waiters.wake_one(room(), &queue());
        assert!(waiters.queues.lock().is_empty());
    }
}
