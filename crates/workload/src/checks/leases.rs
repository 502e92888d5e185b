//! *Leases of an item do not overlap*: each further delivery of an item has a higher attempt and a higher revision,
//! nobody else holds the same attempt, an acknowledgement counts only for the newest one, and a lease does not end before
//! its time, whatever clocks and leaders do.
//!
//! Who gives a delivery back ends its lease, and who extends one moves its end. Where nobody knows whether that was heard,
//! the lease may have ended at either time.

use std::collections::BTreeMap;

use super::deliveries::{self, Got, Kind, Settling};
use super::order::told;
use crate::history::{AckResult, History};

/// How much a lease may be off when leaders and clocks change (`docs/adr/0004-time.md`).
pub const ALLOWANCE_US: u64 = 2_000_000;

/// Deliveries of one item and what was said of them.
#[derive(Default)]
struct Item<'a> {
    /// By attempt.
    leases: Vec<Lease<'a>>,
    settlings: Vec<Settling<'a>>,
}

/// One attempt in one hand.
#[derive(Clone, Copy)]
struct Lease<'a> {
    attempt: u32,
    /// The delivery that is told of it, the first that came.
    got: Got<'a>,
    since: u64,
    until: u64,
    revision: Option<u64>,
}

pub fn check(history: &History, room: usize) -> Vec<String> {
    let complaints = items(history, room).into_iter().flat_map(|((_, number), item)| {
        let found = [item.overlaps(), item.stale_settlings(), item.early_ends()].concat();
        found.into_iter().map(move |what| format!("item {number}: {what}"))
    });
    complaints.collect()
}

/// By queue and number.
fn items(history: &History, room: usize) -> BTreeMap<(u16, u64), Item<'_>> {
    let mut items: BTreeMap<(u16, u64), Item<'_>> = BTreeMap::new();
    for got in deliveries::all(history, room) {
        items.entry((got.queue, got.received.delivery.item)).or_default().take(got);
    }
    for settling in deliveries::settlings(history, room) {
        items.entry((settling.queue, settling.delivery.item)).or_default().settlings.push(settling);
    }
    items.values_mut().for_each(|item| item.leases.sort_by_key(|lease| lease.attempt));
    items
}

/// By how much, in microseconds, the delivery that came soonest after another of its item came behind the end of that
/// one's lease; below zero a lease certainly ended early, and within the allowance it may. None if no lease was followed
/// by another.
pub fn soonest(history: &History, room: usize) -> Option<i64> {
    let items = items(history, room);
    let pairs = items.values().flat_map(|item| item.leases.windows(2).map(move |pair| (item, &pair[0], &pair[1])));
    pairs.map(|(item, earlier, later)| later.until as i64 - item.earliest_end(earlier) as i64).min()
}

impl<'a> Item<'a> {
    /// A consumer that is handed what it holds has no other lease of it.
    fn take(&mut self, got: Got<'a>) {
        let attempt = got.attempt();
        let same = self
            .leases
            .iter_mut()
            .find(|lease| lease.attempt == attempt && got.consumer.is_some() && lease.got.consumer == got.consumer);
        match same {
            Some(lease) => {
                lease.since = lease.since.max(got.since);
                lease.until = lease.until.min(got.at);
                lease.revision = lease.revision.or(got.revision);
            }
            None => {
                let Got { since, at: until, revision, .. } = got;
                self.leases.push(Lease { attempt, got, since, until, revision });
            }
        }
    }

    /// Before this a lease has not ended, but for what its allowance is.
    fn earliest_end(&self, lease: &Lease<'_>) -> u64 {
        let mine = || self.settlings.iter().filter(|settling| settling.delivery.attempt == lease.attempt);
        let extended = |settling: &Settling<'_>| match settling.kind {
            Kind::Extend { lease_us } => Some(settling.operation.invoked.saturating_add(lease_us)),
            _ => None,
        };
        // Whoever holds it asks one thing after the other, so the last extension counts.
        let counted = mine().filter(|settling| settling.counted()).filter_map(extended).next_back();
        let mut end = counted.unwrap_or(lease.since.saturating_add(lease.got.lease_us));
        for settling in mine().filter(|settling| settling.may_have_counted()) {
            match settling.kind {
                Kind::Nack { .. } | Kind::Reject => end = end.min(settling.operation.invoked),
                Kind::Extend { lease_us } if !settling.counted() => {
                    end = end.min(settling.operation.invoked.saturating_add(lease_us));
                }
                Kind::Ack | Kind::Extend { .. } => {}
            }
        }
        end
    }

    fn overlaps(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pair in self.leases.windows(2) {
            let [earlier, later] = pair else { continue };
            let (first, second) = (earlier.attempt, later.attempt);
            let words = || (earlier.got.told(), later.got.told());
            if first == second {
                let (earlier, later) = words();
                found.push(format!("attempt {first} was delivered by {earlier} and by {later}"));
            } else if earlier.revision.zip(later.revision).is_some_and(|(earlier, later)| later <= earlier) {
                let (earlier, later) = words();
                found.push(format!("attempt {second} by {later} is not behind attempt {first} by {earlier}"));
            }
            if first != second && later.until.saturating_add(ALLOWANCE_US) < self.earliest_end(earlier) {
                let ms = earlier.got.lease_us / 1_000;
                let (earlier, later) = words();
                found.push(format!("a lease of {ms} ms had {earlier}, and soon {later}"));
            }
        }
        found
    }

    /// What counted although a newer delivery had been made.
    fn stale_settlings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for settling in self.settlings.iter().filter(|settling| settling.counted()) {
            let Some(revision) = settling.operation.revision() else { continue };
            let attempt = settling.delivery.attempt;
            // An extension makes no revision: it carries the one that it found.
            let is_extension = matches!(settling.kind, Kind::Extend { .. });
            let newer = self.leases.iter().find(|newer| {
                let is_before = |made: u64| made < revision || is_extension && made == revision;
                newer.attempt > attempt && newer.revision.is_some_and(is_before)
            });
            if let Some(newer) = newer {
                found.push(format!(
                    "attempt {attempt}: {} counted after attempt {} by {}",
                    told(settling.operation),
                    newer.attempt,
                    newer.got.told()
                ));
            }
        }
        found
    }

    /// What did not count although its lease had not ended.
    fn early_ends(&self) -> Vec<String> {
        let mut found = Vec::new();
        for settling in self.settlings.iter().filter(|settling| settling.result == Some(AckResult::Stale)) {
            let attempt = settling.delivery.attempt;
            let Some(lease) = self.leases.iter().find(|lease| lease.attempt == attempt) else { continue };
            let asked_until = settling.operation.answered.unwrap_or(u64::MAX);
            if asked_until.saturating_add(ALLOWANCE_US) < self.earliest_end(lease) {
                let ms = lease.got.lease_us / 1_000;
                let (delivery, late) = (lease.got.told(), told(settling.operation));
                found.push(format!("attempt {attempt}: a lease of {ms} ms had {delivery}, and {late}"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, extend, nack, refused, unknown, value};
    use super::*;

    /// Leases of a story last 5 s.
    fn held() -> Story {
        Story::begin().send(1, 1, 1, 1).receive(value(1, 1), delivery(1, 1), 1, 2)
    }

    fn again(story: Story, attempt: u32, revision: u64) -> Story {
        story.receive(value(1, 1), delivery(1, attempt), 1, revision)
    }

    #[test]
    fn one_lease_after_the_other_is_well() {
        let story = again(held().wait_ms(5_100), 2, 4).ack(delivery(1, 1), AckResult::Stale, 5);
        let story = story.ack(delivery(1, 2), AckResult::Acked, 6);
        assert_eq!(check(&story.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn two_holders_show() {
        assert_eq!(check(&again(held().wait_ms(6_000), 1, 4).end(), 0).len(), 1, "the same attempt");
        assert_eq!(check(&again(held().wait_ms(6_000), 2, 2).end(), 0).len(), 1, "no later revision");
        assert_eq!(check(&again(held(), 2, 4).end(), 0).len(), 1, "before the first lease can have ended");
    }

    #[test]
    fn an_acknowledgement_with_an_old_lease_shows() {
        let story = again(held().wait_ms(6_000), 2, 4).ack(delivery(1, 1), AckResult::Acked, 5);
        assert_eq!(check(&story.end(), 0).len(), 1);
    }

    #[test]
    fn a_lease_that_ends_early_shows() {
        let stale = || held().ack(delivery(1, 1), AckResult::Stale, 3);
        assert_eq!(check(&stale().end(), 0).len(), 1);
        assert!(check(&held().wait_ms(4_000).ack(delivery(1, 1), AckResult::Stale, 3).end(), 0).is_empty());
    }

    /// By a stream of consumer 7 that was asked for just now.
    fn by_stream(story: Story, attempt: u32, revision: Option<u64>) -> Story {
        story.handed(7, value(1, 1), delivery(1, attempt), 1, revision)
    }

    #[test]
    fn how_soon_a_lease_was_followed_by_another_is_told() {
        assert_eq!(soonest(&held().end(), 0), None);
        // Asked for, delivered 1 ms later; asked for again 6 s later, delivered another millisecond later.
        assert_eq!(soonest(&again(held().wait_ms(6_000), 2, 4).end(), 0), Some(1_003_000));
        assert_eq!(soonest(&again(held().wait_ms(4_000), 2, 4).end(), 0), Some(-997_000));
    }

    #[test]
    fn a_delivery_that_was_given_back_may_go_on_at_once() {
        let given_back = || held().nack(delivery(1, 1), None, AckResult::Acked, 3);
        assert_eq!(check(&again(given_back(), 2, 4).end(), 0), Vec::<String>::new());
        let unheard = held().then(nack(delivery(1, 1), None), unknown());
        assert_eq!(check(&again(unheard, 2, 4).end(), 0), Vec::<String>::new());
        // What was not heard for certain ended nothing.
        let stale = held().wait_ms(100).nack(delivery(1, 1), None, AckResult::Stale, 3);
        assert_eq!(check(&again(stale, 2, 4).end(), 0).len(), 2);
        let refused = held().then(nack(delivery(1, 1), None), refused("OVERLOADED"));
        assert_eq!(check(&again(refused, 2, 4).end(), 0).len(), 1);
        let after = again(given_back(), 2, 4).nack(delivery(1, 1), None, AckResult::Acked, 5);
        assert_eq!(check(&after.end(), 0).len(), 1, "given back by who does not hold it");
    }

    #[test]
    fn an_extended_lease_ends_when_it_was_extended_to() {
        let extended = |ms| held().wait_ms(3_000).extend(delivery(1, 1), ms, AckResult::Acked, 2);
        assert_eq!(check(&again(extended(5_000).wait_ms(5_000), 2, 4).end(), 0), Vec::<String>::new());
        assert_eq!(check(&again(extended(5_000).wait_ms(2_500), 2, 4).end(), 0).len(), 1, "as if not extended");
        assert_eq!(check(&again(extended(60_000).wait_ms(9_000), 2, 4).end(), 0).len(), 1);
        let unheard = held().wait_ms(3_000).then(extend(delivery(1, 1), 60_000), unknown()).wait_ms(2_500);
        assert_eq!(check(&again(unheard, 2, 4).end(), 0), Vec::<String>::new());
        let shorter = held().extend(delivery(1, 1), 1_000, AckResult::Acked, 2).wait_ms(1_000);
        assert_eq!(check(&again(shorter, 2, 4).end(), 0), Vec::<String>::new());
        let acked = extended(5_000).wait_ms(4_000).ack(delivery(1, 1), AckResult::Acked, 4);
        assert_eq!(check(&acked.end(), 0), Vec::<String>::new());
        let lost = extended(9_000).wait_ms(3_000).ack(delivery(1, 1), AckResult::Stale, 4);
        assert_eq!(check(&lost.end(), 0).len(), 1);
        let late = again(held().wait_ms(6_000), 2, 4).extend(delivery(1, 1), 5_000, AckResult::Acked, 4);
        assert_eq!(check(&late.end(), 0).len(), 2, "extended by who does not hold it");
    }

    #[test]
    fn a_consumer_may_be_handed_again_what_it_holds_and_nobody_else() {
        let sent = || Story::begin().send(1, 1, 1, 1);
        let twice = by_stream(by_stream(sent(), 1, Some(2)), 1, None);
        assert_eq!(check(&twice.end(), 0), Vec::<String>::new());
        let other = by_stream(sent(), 1, Some(2)).handed(8, value(1, 1), delivery(1, 1), 1, None);
        assert_eq!(check(&other.end(), 0).len(), 1);
        assert_eq!(check(&again(by_stream(sent(), 1, Some(2)), 1, 3).end(), 0).len(), 1);
        // The stream is old, the lease is not: a send was asked for after it, and had its revision before the lease.
        let late = Story::begin().send(1, 1, 1, 1).wait_ms(10_000).send(1, 2, 2, 5);
        let soon = again(late.handed_since(1, 7, value(1, 1), delivery(1, 1), 1, Some(6)), 2, 7);
        assert_eq!(check(&soon.end(), 0).len(), 1);
    }
}
