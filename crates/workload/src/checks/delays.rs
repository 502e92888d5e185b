//! *An item is not delivered before its time*: the delay that it was sent with, and the one that it was given back with.
//!
//! Off by as much as a lease may be, because it is measured by the same clock.

use std::collections::BTreeMap;

use super::deliveries::{self, Kind};
use super::leases::ALLOWANCE_US;
use super::order::told;
use crate::history::{Call, History, Operation, Value};

pub fn check(history: &History, room: usize) -> Vec<String> {
    let sent = delayed(history, room);
    let mut given_back: BTreeMap<(u16, u64), Vec<Wait<'_>>> = BTreeMap::new();
    for settling in deliveries::settlings(history, room).into_iter().filter(|settling| settling.counted()) {
        if let Kind::Nack { delay_us: Some(delay) } = settling.kind {
            let ready = settling.operation.invoked.saturating_add(delay);
            let waits = given_back.entry((settling.queue, settling.delivery.item)).or_default();
            waits.push(Wait { attempt: settling.delivery.attempt, ready, nack: settling.operation });
        }
    }
    let mut found = Vec::new();
    for got in deliveries::all(history, room) {
        let (number, is_early) = (got.received.delivery.item, |ready: u64| got.at.saturating_add(ALLOWANCE_US) < ready);
        if let Some((ready, send)) =
            got.received.value.and_then(|value| sent.get(&value)).filter(|(at, _)| is_early(*at))
        {
            let ready = *ready as f64 / 1e6;
            found.push(format!("item {number} by {} before {ready:.3} s, as {} asked", got.told(), told(send)));
        }
        let waits = given_back.get(&(got.queue, number)).into_iter().flatten();
        let early = waits.filter(|wait| wait.attempt < got.attempt() && is_early(wait.ready));
        found.extend(early.map(|wait| {
            let ready = wait.ready as f64 / 1e6;
            format!("item {number} by {} before {ready:.3} s, as {} asked", got.told(), told(wait.nack))
        }));
    }
    found
}

/// An attempt that was given back, and when the next may come.
struct Wait<'a> {
    attempt: u32,
    ready: u64,
    nack: &'a Operation,
}

/// Before this no item of a value can be ready: of several sends of a message id any may be the one that counted.
fn delayed(history: &History, room: usize) -> BTreeMap<Value, (u64, &Operation)> {
    let mut ready: BTreeMap<Value, (u64, &Operation)> = BTreeMap::new();
    for operation in history.of_room(room) {
        let Call::Send { values, options, .. } = &operation.call else { continue };
        for (value, options) in values.iter().zip(options) {
            let at = operation.invoked.saturating_add(options.delay_ms * 1_000);
            // The first that was asked for ends first, and has the same delay.
            ready.entry(*value).or_insert((at, operation));
        }
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, nack, refused, send_of, unknown, value};
    use super::*;
    use crate::history::{AckResult, ItemOptions};

    const LATER: ItemOptions = ItemOptions { priority: 0, delay_ms: 6_000, group: None, named: true, again: false };

    fn received(story: Story, attempt: u32) -> Vec<String> {
        check(&story.receive(value(1, 1), delivery(1, attempt), 1, 9).end(), 0)
    }

    #[test]
    fn an_item_comes_when_its_delay_is_over() {
        let sent = || Story::begin().send_with(LATER, 1, 1, 1, 1);
        assert!(received(sent().wait_ms(6_000), 1).is_empty());
        assert!(received(sent().wait_ms(4_000), 1).is_empty(), "within the allowance");
        assert_eq!(received(sent().wait_ms(3_000), 1).len(), 1);
        let streamed = sent().wait_ms(3_000).handed(7, value(1, 1), delivery(1, 1), 1, Some(2));
        assert_eq!(check(&streamed.end(), 0).len(), 1);
        let unheard = || Story::begin().then(send_of(LATER, value(1, 1)), unknown());
        assert_eq!(received(unheard().wait_ms(1_000), 1).len(), 1, "sent or not, it is not ready");
        // It may be the first of the two that counted.
        assert!(received(unheard().wait_ms(3_000).send_with(LATER, 1, 1, 1, 1).wait_ms(1_500), 1).is_empty());
    }

    #[test]
    fn an_item_that_was_given_back_waits_as_long_as_it_was_told_to() {
        let sent = || Story::begin().send(1, 1, 1, 1).receive(value(1, 1), delivery(1, 1), 1, 2);
        let back = |result| sent().nack(delivery(1, 1), Some(6_000), result, 3);
        assert!(received(back(AckResult::Acked).wait_ms(6_000), 2).is_empty());
        assert_eq!(received(back(AckResult::Acked).wait_ms(3_000), 2).len(), 1);
        assert!(received(back(AckResult::Stale).wait_ms(3_000), 2).is_empty(), "it was not heard");
        assert!(received(sent().then(nack(delivery(1, 1), Some(6_000)), unknown()), 2).is_empty());
        assert!(received(sent().then(nack(delivery(1, 1), Some(6_000)), refused("OVERLOADED")), 2).is_empty());
        let at_once = sent().nack(delivery(1, 1), None, AckResult::Acked, 3);
        assert!(received(at_once, 2).is_empty());
    }
}
