//! *Leases of an item do not overlap*: each further delivery of an item has a higher attempt and a higher revision,
//! nobody else holds the same attempt, an acknowledgement counts only for the newest one, and a lease does not end before
//! its time, whatever clocks and leaders do.

use std::collections::BTreeMap;

use super::order::told;
use crate::history::{AckResult, Answer, Call, History, Operation};

/// How much a lease may be off when leaders and clocks change (`docs/adr/0004-time.md`).
const ALLOWANCE_US: u64 = 2_000_000;

/// Deliveries of one item and the acknowledgements of them, each by attempt.
#[derive(Default)]
struct Item<'a> {
    deliveries: Vec<(u32, u64, &'a Operation)>,
    acks: Vec<(u32, AckResult, &'a Operation)>,
}

pub fn check(history: &History, room: usize) -> Vec<String> {
    let mut items: BTreeMap<(u16, u64), Item<'_>> = BTreeMap::new();
    for operation in history.of_room(room) {
        match (&operation.call, operation.answer()) {
            (Call::Receive { queue, lease_ms }, Some(Answer::Received { deliveries })) => {
                for received in deliveries {
                    let item = items.entry((*queue, received.delivery.item)).or_default();
                    item.deliveries.push((received.delivery.attempt, lease_ms * 1_000, operation));
                }
            }
            (Call::Ack { queue, deliveries }, Some(Answer::Acked { results })) => {
                for (delivery, result) in deliveries.iter().zip(results) {
                    let item = items.entry((*queue, delivery.item)).or_default();
                    item.acks.push((delivery.attempt, *result, operation));
                }
            }
            _ => {}
        }
    }
    let complaints = items.into_iter().flat_map(|((_, number), mut item)| {
        item.deliveries.sort_by_key(|(attempt, ..)| *attempt);
        let found = [item.overlaps(), item.stale_acks(), item.early_ends()].concat();
        found.into_iter().map(move |what| format!("item {number}: {what}"))
    });
    complaints.collect()
}

impl Item<'_> {
    fn overlaps(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pair in self.deliveries.windows(2) {
            let [(first, lease, earlier), (second, _, later)] = pair else { continue };
            if first == second {
                found.push(format!("attempt {first} was delivered by {} and by {}", told(earlier), told(later)));
            } else if later.revision() <= earlier.revision() {
                let (earlier, later) = (told(earlier), told(later));
                found.push(format!("attempt {second} by {later} is not behind attempt {first} by {earlier}"));
            }
            let held = later.answered.unwrap_or(u64::MAX).saturating_sub(earlier.invoked);
            if first != second && held + ALLOWANCE_US < *lease {
                let (earlier, later) = (told(earlier), told(later));
                found.push(format!("a lease of {} ms had {earlier}, and soon {later}", lease / 1_000));
            }
        }
        found
    }

    /// Acknowledgements that counted although a newer delivery had been made.
    fn stale_acks(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (attempt, result, ack) in &self.acks {
            let newer = self.deliveries.iter().find(|(newer, _, delivery)| {
                newer > attempt && *result == AckResult::Acked && delivery.revision() < ack.revision()
            });
            if let Some((newer, _, delivery)) = newer {
                found.push(format!(
                    "attempt {attempt}: {} counted after attempt {newer} by {}",
                    told(ack),
                    told(delivery)
                ));
            }
        }
        found
    }

    /// Acknowledgements that did not count although their lease had not ended.
    fn early_ends(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (attempt, result, ack) in &self.acks {
            if *result != AckResult::Stale {
                continue;
            }
            let Some((_, lease, delivery)) = self.deliveries.iter().find(|(of, ..)| of == attempt) else { continue };
            let held = ack.answered.unwrap_or(u64::MAX).saturating_sub(delivery.invoked);
            if held + ALLOWANCE_US < *lease {
                let lease = lease / 1_000;
                found.push(format!(
                    "attempt {attempt}: a lease of {lease} ms had {}, and {}",
                    told(delivery),
                    told(ack)
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, value};
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
}
