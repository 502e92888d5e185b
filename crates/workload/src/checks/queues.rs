//! *Acknowledged items are delivered, and never after their acknowledgement*: an item whose send was acknowledged is
//! handed out with its body and its revision until a delivery of it is acknowledged; it does not come back after that.
//!
//! In the end every queue is empty, so an item that nobody acknowledged has been lost.

use std::collections::{BTreeMap, BTreeSet};

use super::order::told;
use crate::history::{AckResult, Answer, Call, History, Operation, Received, Value};

/// What is known of one item.
#[derive(Default)]
struct Item<'a> {
    /// Acknowledged by the send: value and revision.
    sent: Option<(Value, u64)>,
    deliveries: Vec<(&'a Received, &'a Operation)>,
    /// Acknowledgements that counted, by attempt.
    acked: Vec<(u32, AckResult, &'a Operation)>,
    /// An acknowledgement of it got no answer.
    maybe_acked: bool,
}

pub fn check(history: &History, room: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (queue, left) in history.endings[room].left_in_queues.iter().enumerate() {
        if *left > 0 {
            found.push(format!("{left} items of queue {queue} could not be taken out when all was healed"));
        }
    }
    let mut items: BTreeMap<(u16, u64), Item<'_>> = BTreeMap::new();
    for operation in history.of_room(room) {
        found.extend(note(operation, &mut items));
    }
    let is_empty: BTreeSet<u16> = emptied(history, room);
    for ((queue, number), item) in &items {
        found
            .extend(item.complaints(is_empty.contains(queue)).into_iter().map(|what| format!("item {number}: {what}")));
    }
    found
}

fn emptied(history: &History, room: usize) -> BTreeSet<u16> {
    let left = history.endings[room].left_in_queues.iter().zip(0..);
    left.filter(|(left, _)| **left == 0).map(|(_, queue)| queue).collect()
}

/// Takes an operation down; complains about a delivery that is not what was sent.
fn note<'a>(operation: &'a Operation, items: &mut BTreeMap<(u16, u64), Item<'a>>) -> Vec<String> {
    let mut found = Vec::new();
    match (&operation.call, operation.answer()) {
        (Call::Send { queue, values }, Some(Answer::Sent { first_item })) => {
            for (value, number) in values.iter().zip(*first_item..) {
                let item = items.entry((*queue, number)).or_default();
                if let Some((other, _)) = item.sent.replace((*value, operation.revision().unwrap_or_default())) {
                    found.push(format!("item {number} is {other} and {value}"));
                }
            }
        }
        (Call::Receive { queue, .. }, Some(Answer::Received { deliveries })) => {
            for received in deliveries {
                let item = items.entry((*queue, received.delivery.item)).or_default();
                item.deliveries.push((received, operation));
            }
        }
        (Call::Ack { queue, deliveries }, Some(Answer::Acked { results })) => {
            for (delivery, result) in deliveries.iter().zip(results) {
                if [AckResult::Acked, AckResult::AlreadyAcked].contains(result) {
                    let item = items.entry((*queue, delivery.item)).or_default();
                    item.acked.push((delivery.attempt, *result, operation));
                }
            }
        }
        (Call::Ack { queue, deliveries }, None) if operation.is_unknown() => {
            for delivery in deliveries {
                items.entry((*queue, delivery.item)).or_default().maybe_acked = true;
            }
        }
        _ => {}
    }
    found
}

impl Item<'_> {
    fn complaints(&self, queue_is_empty: bool) -> Vec<String> {
        let mut found = self.wrong_deliveries();
        if queue_is_empty && self.deliveries.is_empty() && self.sent.is_some() {
            found.push("acknowledged to its sender and delivered to nobody".to_owned());
        }
        if queue_is_empty && self.acked.is_empty() && !self.maybe_acked && !self.deliveries.is_empty() {
            found.push("gone, and nobody acknowledged it".to_owned());
        }
        let by_us = self.acked.iter().filter(|(_, result, _)| *result == AckResult::Acked).count();
        if by_us > 1 {
            found.push(format!("{by_us} acknowledgements were the one that counted"));
        }
        for (_, _, ack) in &self.acked {
            let after =
                |delivery: &Operation| Some(delivery.invoked) > ack.answered || delivery.revision() >= ack.revision();
            let later = self.deliveries.iter().filter(|(_, delivery)| after(delivery));
            found.extend(later.map(|(_, delivery)| format!("{} although {}", told(delivery), told(ack))));
        }
        found
    }

    /// Deliveries with another value or revision than the send's.
    fn wrong_deliveries(&self) -> Vec<String> {
        let Some((sent, revision)) = self.sent else { return Vec::new() };
        let mut found = Vec::new();
        for (received, _) in &self.deliveries {
            let attempt = received.delivery.attempt;
            if received.value != Some(sent) {
                let what = super::named(received.value);
                found.push(format!("attempt {attempt} is {what}, and {sent} was sent"));
            } else if received.sent_revision != revision {
                let said = received.sent_revision;
                found.push(format!("attempt {attempt} says it was sent at {said}, its sender was told {revision}"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, value};
    use super::*;

    fn sent() -> Story {
        Story::begin().send(1, 1, 1, 1)
    }

    fn delivered() -> Story {
        sent().receive(value(1, 1), delivery(1, 1), 1, 2)
    }

    #[test]
    fn delivered_and_acknowledged_is_well() {
        let acked = delivered().ack(delivery(1, 1), AckResult::Acked, 3).left(0);
        assert_eq!(check(&acked.end(), 0), Vec::<String>::new());
        let again = delivered().receive(value(1, 1), delivery(1, 2), 1, 3).ack(delivery(1, 2), AckResult::Acked, 4);
        assert_eq!(check(&again.left(0).end(), 0), Vec::<String>::new());
        let doubtful = delivered().ack_unknown(delivery(1, 1)).left(0);
        assert_eq!(check(&doubtful.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn a_lost_item_shows() {
        assert_eq!(check(&sent().left(0).end(), 0).len(), 1, "never delivered");
        assert_eq!(check(&delivered().left(0).end(), 0).len(), 1, "gone without an acknowledgement");
        assert_eq!(check(&sent().left(1).end(), 0).len(), 1, "stuck");
    }

    #[test]
    fn an_item_that_comes_back_after_its_acknowledgement_shows() {
        let acked = || delivered().ack(delivery(1, 1), AckResult::Acked, 3);
        let back = acked().receive(value(1, 1), delivery(1, 2), 1, 4).left(0);
        assert!(!check(&back.end(), 0).is_empty());
        let twice = acked().ack(delivery(1, 1), AckResult::Acked, 4).left(0);
        assert_eq!(check(&twice.end(), 0).len(), 1);
        let repeated = acked().ack(delivery(1, 1), AckResult::AlreadyAcked, 3).left(0);
        assert_eq!(check(&repeated.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn an_item_is_what_was_sent() {
        let acked = |story: Story| story.ack(delivery(1, 1), AckResult::Acked, 3).left(0).end();
        let other = sent().receive(value(2, 2), delivery(1, 1), 1, 2);
        assert_eq!(check(&acked(other), 0).len(), 1);
        let elsewhere = sent().receive(value(1, 1), delivery(1, 1), 7, 8);
        let acked_later = elsewhere.ack(delivery(1, 1), AckResult::Acked, 9).left(0).end();
        assert_eq!(check(&acked_later, 0).len(), 1);
        let numbered_twice = Story::begin().send(1, 1, 1, 1).send(1, 2, 1, 2);
        assert!(!check(&numbered_twice.left(1).end(), 0).is_empty());
    }
}
