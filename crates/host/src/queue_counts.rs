//! What the leader of a shard sees happen to the items of its queues, counted for the page of metrics.
//!
//! By shard alone: rooms and queues are as many as clients like. Counted from commands and their outcomes, so what an
//! `Advance` does (leases that end, items that outlive themselves) is not seen here. A command that is sent again and
//! answered from memory looks like the first and counts again.

use std::sync::atomic::{AtomicU64, Ordering};

use conclave_room::{DeliveryResult, Operation, Outcome};

use crate::leadership::Leading;

/// Sums over the queues of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: u64,
    pub delivered: u64,
    /// Those that were taken at most once among them.
    pub acked: u64,
    pub given_back: u64,
    pub rejected: u64,
}

/// What a command asks for, kept while it is applied.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    Send {
        items: usize,
    },
    Lease,
    Take,
    Ack,
    GiveBack,
    Reject,
    /// Nothing that is counted.
    Other,
}

impl Deed {
    pub fn of(operation: &Operation) -> Self {
        match operation {
            Operation::SendItems { items, .. } => Deed::Send { items: items.len() },
            Operation::LeaseItems { take: false, .. } => Deed::Lease,
            Operation::LeaseItems { take: true, .. } => Deed::Take,
            Operation::AckDeliveries { .. } => Deed::Ack,
            Operation::NackDeliveries { reject: false, .. } => Deed::GiveBack,
            Operation::NackDeliveries { reject: true, .. } => Deed::Reject,
            _ => Deed::Other,
        }
    }
}

impl Tally {
    /// Adds what a command did.
    pub fn count(&mut self, deed: Deed, outcome: &Outcome) {
        match (deed, outcome) {
            (Deed::Send { items }, Outcome::Sent { duplicates, .. }) => {
                self.sent += items.saturating_sub(duplicates.len()) as u64;
            }
            (Deed::Lease, Outcome::Leased { deliveries, .. }) => self.delivered += deliveries.len() as u64,
            (Deed::Take, Outcome::Leased { deliveries, .. }) => {
                self.delivered += deliveries.len() as u64;
                self.acked += deliveries.len() as u64;
            }
            (Deed::Ack, Outcome::Settled { results, .. }) => self.acked += done(results),
            (Deed::GiveBack, Outcome::Settled { results, .. }) => self.given_back += done(results),
            (Deed::Reject, Outcome::Settled { results, .. }) => self.rejected += done(results),
            _ => {}
        }
    }
}

fn done(results: &[DeliveryResult]) -> u64 {
    results.iter().filter(|result| **result == DeliveryResult::Done).count() as u64
}

/// The sums of one replica, over all its leaderships.
#[derive(Debug, Default)]
pub struct QueueCounts {
    sent: AtomicU64,
    delivered: AtomicU64,
    acked: AtomicU64,
    given_back: AtomicU64,
    rejected: AtomicU64,
}

impl QueueCounts {
    pub fn add(&self, tally: Tally) {
        let Tally { sent, delivered, acked, given_back, rejected } = tally;
        let sums = [
            (&self.sent, sent),
            (&self.delivered, delivered),
            (&self.acked, acked),
            (&self.given_back, given_back),
            (&self.rejected, rejected),
        ];
        for (sum, more) in sums.into_iter().filter(|(_, more)| *more > 0) {
            sum.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub fn tally(&self) -> Tally {
        let of = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Tally {
            sent: of(&self.sent),
            delivered: of(&self.delivered),
            acked: of(&self.acked),
            given_back: of(&self.given_back),
            rejected: of(&self.rejected),
        }
    }
}

/// Who is there to take items, as the leader sees it now; nobody where the shard is not led.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Takers {
    /// In the line of their queue.
    pub waiting: u64,
    /// Outside of it, because they hold as much as they may.
    pub full: u64,
    /// Streams of deliveries that are open.
    pub streams: u64,
}

impl Takers {
    pub fn of(leading: &Leading) -> Self {
        let (waiting, full) = leading.waiters.counts();
        Takers { waiting, full, streams: leading.delivery_streams.load(Ordering::Relaxed) }
    }
}

/// What the page shows of the queues of one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFigures {
    pub shard: u32,
    pub tally: Tally,
    pub takers: Takers,
}
