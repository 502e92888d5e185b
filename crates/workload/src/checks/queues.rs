//! *Acknowledged items are delivered, and never after their acknowledgement*: an item whose send was acknowledged is
//! handed out with its body and its revision until a delivery of it is acknowledged, or it is a dead letter; it does not
//! come back after that.
//!
//! In the end every queue is empty, so an item that nobody acknowledged and that did not die has been lost. A send that was
//! left out because its message id was known is acknowledged as well: what it repeats must be there.

use std::collections::{BTreeMap, BTreeSet};

use super::deliveries::{self, Got, Kind, Settling};
use super::order::told;
use crate::history::{AckResult, Answer, Call, History, Operation, Value, numbered};

/// What is known of one item.
#[derive(Default)]
struct Item<'a> {
    /// Acknowledged by the send: value and revision.
    sent: Option<(Value, u64)>,
    deliveries: Vec<Got<'a>>,
    /// What counted of that which was said of its deliveries.
    acked: Vec<Settling<'a>>,
    given_back: Vec<Settling<'a>>,
    /// An acknowledgement of it got no answer.
    maybe_acked: bool,
    is_dead: bool,
}

pub fn check(history: &History, room: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (queue, left) in history.endings[room].left_in_queues.iter().enumerate() {
        if *left > 0 {
            found.push(format!("{left} items of queue {queue} could not be taken out when all was healed"));
        }
    }
    let mut items: BTreeMap<(u16, u64), Item<'_>> = BTreeMap::new();
    let mut repeated = Vec::new();
    for operation in history.of_room(room) {
        found.extend(note_send(operation, &mut items, &mut repeated));
    }
    for got in deliveries::all(history, room) {
        items.entry((got.queue, got.received.delivery.item)).or_default().deliveries.push(got);
    }
    for settling in deliveries::settlings(history, room) {
        items.entry((settling.queue, settling.delivery.item)).or_default().settle(settling);
    }
    for letter in &history.endings[room].dead_letters {
        items.entry((letter.of, letter.item)).or_default().is_dead = true;
    }
    let is_empty: BTreeSet<u16> = emptied(history, room);
    for ((queue, number), item) in &items {
        found
            .extend(item.complaints(is_empty.contains(queue)).into_iter().map(|what| format!("item {number}: {what}")));
    }
    found.extend(lost_repetitions(history, room, &items, &repeated, &is_empty));
    found
}

fn emptied(history: &History, room: usize) -> BTreeSet<u16> {
    let left = history.endings[room].left_in_queues.iter().zip(0..);
    left.filter(|(left, _)| **left == 0).map(|(_, queue)| queue).collect()
}

/// Takes a send down, what it left out apart; complains about a number that was given twice.
fn note_send<'a>(
    operation: &'a Operation,
    items: &mut BTreeMap<(u16, u64), Item<'a>>,
    repeated: &mut Vec<(u16, Value, &'a Operation)>,
) -> Vec<String> {
    let (Call::Send { queue, values, .. }, Some(Answer::Sent { first_item, duplicates })) =
        (&operation.call, operation.answer())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (value, number) in numbered(values, *first_item, duplicates) {
        let item = items.entry((*queue, number)).or_default();
        if let Some((other, _)) = item.sent.replace((value, operation.revision().unwrap_or_default())) {
            found.push(format!("item {number} is {other} and {value}"));
        }
    }
    let left_out = duplicates.iter().filter_map(|index| values.get(*index as usize));
    repeated.extend(left_out.map(|value| (*queue, *value, operation)));
    found
}

/// What was left out of a send as known and is nowhere.
fn lost_repetitions(
    history: &History,
    room: usize,
    items: &BTreeMap<(u16, u64), Item<'_>>,
    repeated: &[(u16, Value, &Operation)],
    is_empty: &BTreeSet<u16>,
) -> Vec<String> {
    let sent = items.iter().filter_map(|((queue, _), item)| Some((*queue, item.sent?.0)));
    let delivered = items
        .iter()
        .flat_map(|((queue, _), item)| item.deliveries.iter().filter_map(|got| Some((*queue, got.received.value?))));
    let dead = history.endings[room].dead_letters.iter().filter_map(|letter| Some((letter.of, letter.value?)));
    let known: BTreeSet<(u16, Value)> = sent.chain(delivered).chain(dead).collect();
    let lost =
        repeated.iter().filter(|(queue, value, _)| is_empty.contains(queue) && !known.contains(&(*queue, *value)));
    lost.map(|(_, value, send)| format!("{value} was left out as known by {} and is nowhere", told(send))).collect()
}

impl<'a> Item<'a> {
    fn settle(&mut self, settling: Settling<'a>) {
        match (settling.kind, settling.result) {
            (Kind::Ack, None) => self.maybe_acked = true,
            (Kind::Ack, Some(AckResult::Acked | AckResult::AlreadyAcked)) => self.acked.push(settling),
            (Kind::Nack { .. } | Kind::Reject, Some(AckResult::Acked)) => self.given_back.push(settling),
            _ => {}
        }
    }

    fn complaints(&self, queue_is_empty: bool) -> Vec<String> {
        let mut found = self.wrong_deliveries();
        if queue_is_empty && !self.is_dead && self.deliveries.is_empty() && self.sent.is_some() {
            found.push("acknowledged to its sender and delivered to nobody".to_owned());
        }
        let is_settled = !self.acked.is_empty() || self.maybe_acked || self.is_dead;
        if queue_is_empty && !is_settled && !self.deliveries.is_empty() {
            found.push("gone, and nobody acknowledged it".to_owned());
        }
        let by_us = self.acked.iter().filter(|ack| ack.counted()).count();
        if by_us > 1 {
            found.push(format!("{by_us} acknowledgements were the one that counted"));
        }
        for ack in self.acked.iter().map(|ack| ack.operation) {
            let after = |got: &Got<'_>| Some(got.asked) > ack.answered || got.revision >= ack.revision();
            let later = self.deliveries.iter().filter(|got| after(got));
            found.extend(later.map(|got| format!("{} although {}", got.told(), told(ack))));
            let after = |back: &Operation| Some(back.invoked) > ack.answered || back.revision() >= ack.revision();
            let later = self.given_back.iter().filter(|back| after(back.operation));
            found.extend(later.map(|back| format!("{} although {}", told(back.operation), told(ack))));
        }
        found
    }

    /// Deliveries with another value or revision than the send's.
    fn wrong_deliveries(&self) -> Vec<String> {
        let Some((sent, revision)) = self.sent else { return Vec::new() };
        let mut found = Vec::new();
        for got in &self.deliveries {
            let (attempt, received) = (got.attempt(), got.received);
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
    use super::super::story::{Story, delivery, send_of, unknown, value};
    use super::*;
    use crate::history::{Death, ItemOptions};

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

    #[test]
    fn what_a_stream_hands_out_counts_as_delivered() {
        let handed = |revision| sent().handed(7, value(1, 1), delivery(1, 1), 1, revision);
        assert_eq!(check(&handed(Some(2)).left(0).end(), 0).len(), 1, "gone without an acknowledgement");
        let acked = |story: Story| story.ack(delivery(1, 1), AckResult::Acked, 3).left(0);
        assert_eq!(check(&acked(handed(Some(2))).end(), 0), Vec::<String>::new());
        let back = acked(handed(Some(2))).handed(7, value(1, 1), delivery(1, 1), 1, None);
        assert_eq!(check(&back.end(), 0).len(), 1, "a new stream hands out what was acknowledged");
        // The old one may have had it on its way.
        let on_its_way = acked(handed(Some(2))).handed_since(1, 7, value(1, 1), delivery(1, 1), 1, None);
        assert_eq!(check(&on_its_way.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn a_dead_letter_is_not_lost() {
        let dead = |story: Story| story.dead(value(1, 1), delivery(1, 2), Death::TooManyAttempts, 3).left(0);
        assert_eq!(check(&dead(delivered()).end(), 0), Vec::<String>::new());
        assert_eq!(check(&dead(sent()).end(), 0), Vec::<String>::new(), "nobody heard of its deliveries");
    }

    #[test]
    fn what_was_acknowledged_is_not_given_back() {
        let given_back = || delivered().nack(delivery(1, 1), None, AckResult::Acked, 3);
        let again = given_back().receive(value(1, 1), delivery(1, 2), 1, 4).ack(delivery(1, 2), AckResult::Acked, 5);
        assert_eq!(check(&again.left(0).end(), 0), Vec::<String>::new());
        let both = delivered().ack(delivery(1, 1), AckResult::Acked, 3).nack(delivery(1, 1), None, AckResult::Acked, 4);
        assert_eq!(check(&both.left(0).end(), 0).len(), 1);
        let known = delivered().ack(delivery(1, 1), AckResult::Acked, 3);
        let known = known.nack(delivery(1, 1), None, AckResult::AlreadyAcked, 4);
        assert_eq!(check(&known.left(0).end(), 0), Vec::<String>::new());
        assert_eq!(check(&given_back().left(0).end(), 0).len(), 1, "given back is not acknowledged");
    }

    #[test]
    fn what_was_left_out_as_known_is_there() {
        let named = ItemOptions { named: true, ..ItemOptions::default() };
        let doubtful =
            || Story::begin().then(send_of(named, value(1, 1)), unknown()).duplicate(named, value(1, 1), 1, 2);
        let there = doubtful().receive(value(1, 1), delivery(1, 1), 1, 3).ack(delivery(1, 1), AckResult::Acked, 4);
        assert_eq!(check(&there.left(0).end(), 0), Vec::<String>::new());
        assert_eq!(check(&doubtful().left(0).end(), 0).len(), 1);
    }
}
