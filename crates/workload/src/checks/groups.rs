//! *A group's items are delivered one after the other*: in the order of sending, and the next only once the one before was
//! acknowledged or is a dead letter.
//!
//! Revisions say what came before what. Items that nobody heard of (an unknown send, never delivered) may stand between
//! two others and are left out.

use std::collections::BTreeMap;

use super::deliveries::{self, Got, Kind, Settling};
use crate::history::{AckResult, Answer, Call, History, Value, numbered};

/// What is known of one item of a group.
#[derive(Default)]
struct Item<'a> {
    deliveries: Vec<Got<'a>>,
    acks: Vec<Settling<'a>>,
    /// The revision that found it dead.
    died: Option<u64>,
}

pub fn check(history: &History, room: usize) -> Vec<String> {
    let groups = Groups::of(history, room);
    let mut items: BTreeMap<(u16, u64), Item<'_>> = BTreeMap::new();
    for got in deliveries::all(history, room) {
        items.entry((got.queue, got.received.delivery.item)).or_default().deliveries.push(got);
    }
    for settling in deliveries::settlings(history, room) {
        if settling.kind == Kind::Ack && settling.result != Some(AckResult::Stale) {
            items.entry((settling.queue, settling.delivery.item)).or_default().acks.push(settling);
        }
    }
    for letter in &history.endings[room].dead_letters {
        items.entry((letter.of, letter.item)).or_default().died = Some(letter.revision);
    }
    let mut turns: BTreeMap<(u16, u16), Vec<(u64, Item<'_>)>> = BTreeMap::new();
    for ((queue, number), group) in groups.items {
        let item = items.remove(&(queue, number)).unwrap_or_default();
        turns.entry((queue, group)).or_default().push((number, item));
    }
    turns.iter().flat_map(|((_, group), items)| complaints(*group, items)).collect()
}

/// The group of each item that has one, by queue and number.
struct Groups {
    items: BTreeMap<(u16, u64), u16>,
}

impl Groups {
    fn of(history: &History, room: usize) -> Groups {
        let mut asked: BTreeMap<Value, u16> = BTreeMap::new();
        let mut items: BTreeMap<(u16, u64), u16> = BTreeMap::new();
        for operation in history.of_room(room) {
            let Call::Send { queue, values, options } = &operation.call else { continue };
            let grouped = values.iter().zip(options).filter_map(|(value, options)| Some((*value, options.group?)));
            asked.extend(grouped);
            if let Some(Answer::Sent { first_item, duplicates }) = operation.answer() {
                let numbers = numbered(values, *first_item, duplicates);
                items.extend(numbers.filter_map(|(value, number)| Some(((*queue, number), *asked.get(&value)?))));
            }
        }
        let delivered = deliveries::all(history, room);
        let delivered = delivered.iter().map(|got| (got.queue, got.received.delivery.item, got.received.value));
        let dead = history.endings[room].dead_letters.iter().map(|letter| (letter.of, letter.item, letter.value));
        items.extend(
            delivered.chain(dead).filter_map(|(queue, number, value)| Some(((queue, number), *asked.get(&value?)?))),
        );
        Groups { items }
    }
}

/// `items`: of one group, by number.
fn complaints(group: u16, items: &[(u64, Item<'_>)]) -> Vec<String> {
    let mut found = Vec::new();
    for neighbours in items.windows(2) {
        let [(before, earlier), (number, later)] = neighbours else { continue };
        let turn = || format!("item {number} of group {group}");
        let Some(first) = later.first() else { continue };
        let Some(revision) = first.revision else { continue };
        let not_behind = earlier.deliveries.iter().find(|got| got.revision >= Some(revision));
        found.extend(
            not_behind.map(|got| format!("{} by {}, and item {before} by {}", turn(), first.told(), got.told())),
        );
        if !earlier.is_settled_before(revision, first.at) {
            let by = first.told();
            found.push(format!("{} by {by}, and item {before} was neither acknowledged nor dead by then", turn()));
        }
    }
    found
}

impl Item<'_> {
    /// The first delivery of those whose revision is known.
    fn first(&self) -> Option<&Got<'_>> {
        self.deliveries.iter().filter(|got| got.revision.is_some()).min_by_key(|got| got.revision)
    }

    /// Whether it was settled below a revision, or may have been until then.
    fn is_settled_before(&self, revision: u64, at: u64) -> bool {
        let died = self.died.is_some_and(|died| died < revision);
        died || self.acks.iter().any(|ack| match ack.operation.revision() {
            // A repetition carries a later revision than that which counted.
            Some(acked) => acked < revision || !ack.counted() && ack.operation.invoked < at,
            None => ack.operation.invoked < at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, send_of, unknown, value};
    use super::*;
    use crate::history::{Death, ItemOptions};

    const GROUPED: ItemOptions = ItemOptions { priority: 0, delay_ms: 0, group: Some(4), named: false, again: false };

    /// Two items of a group, of which the first was delivered.
    fn begun() -> Story {
        let sent = Story::begin().send_with(GROUPED, 1, 1, 1, 1).send_with(GROUPED, 1, 2, 2, 2);
        sent.receive(value(1, 1), delivery(1, 1), 1, 3)
    }

    fn second(story: Story, revision: u64) -> Story {
        story.receive(value(1, 2), delivery(2, 1), 2, revision)
    }

    #[test]
    fn the_next_comes_once_the_one_before_is_settled() {
        let acked = second(begun().ack(delivery(1, 1), AckResult::Acked, 4), 5);
        assert_eq!(check(&acked.end(), 0), Vec::<String>::new());
        let dead = second(begun(), 5).dead(value(1, 1), delivery(1, 2), Death::TooManyAttempts, 4);
        assert_eq!(check(&dead.end(), 0), Vec::<String>::new());
        let doubtful = second(begun().ack_unknown(delivery(1, 1)), 5);
        assert_eq!(check(&doubtful.end(), 0), Vec::<String>::new());
        let others = Story::begin().send(1, 1, 1, 1).send(1, 2, 2, 2).receive(value(1, 1), delivery(1, 1), 1, 3);
        assert_eq!(check(&second(others, 4).end(), 0), Vec::<String>::new(), "items without a group");
    }

    #[test]
    fn two_at_once_show() {
        assert_eq!(check(&second(begun(), 4).end(), 0).len(), 1);
        assert_eq!(check(&second(begun().ack(delivery(1, 1), AckResult::Stale, 4), 5).end(), 0).len(), 1);
        let late = second(begun(), 4).ack(delivery(1, 1), AckResult::Acked, 5);
        assert_eq!(check(&late.end(), 0).len(), 1);
        let later_dead = second(begun(), 4).dead(value(1, 1), delivery(1, 1), Death::Rejected, 5);
        assert_eq!(check(&later_dead.end(), 0).len(), 1);
        let streamed = begun().handed(7, value(1, 2), delivery(2, 1), 2, Some(4));
        assert_eq!(check(&streamed.end(), 0).len(), 1);
    }

    #[test]
    fn items_out_of_their_order_show() {
        let sent = || Story::begin().send_with(GROUPED, 1, 1, 1, 1).send_with(GROUPED, 1, 2, 2, 2);
        let swapped = second(sent(), 3).ack(delivery(2, 1), AckResult::Acked, 4);
        let swapped = swapped.receive(value(1, 1), delivery(1, 1), 1, 5).ack(delivery(1, 1), AckResult::Acked, 6);
        assert_eq!(check(&swapped.end(), 0).len(), 2);
        let again = begun().ack(delivery(1, 1), AckResult::Acked, 4);
        let again = second(again, 5).receive(value(1, 1), delivery(1, 2), 1, 6);
        assert_eq!(check(&again.end(), 0).len(), 1, "the first comes back");
    }

    #[test]
    fn an_item_whose_send_was_not_heard_of_has_its_place_by_its_number() {
        let story = || Story::begin().then(send_of(GROUPED, value(1, 1)), unknown()).send_with(GROUPED, 1, 2, 2, 2);
        let fine = second(story(), 3).ack(delivery(2, 1), AckResult::Acked, 4);
        assert_eq!(check(&fine.end(), 0), Vec::<String>::new());
        let overtaken = second(story(), 3).receive(value(1, 1), delivery(1, 1), 1, 4);
        assert!(!check(&overtaken.end(), 0).is_empty());
    }
}
