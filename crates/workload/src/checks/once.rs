//! *One effect for each write*: whatever is sent again, by a session that was taken up or with a request id, has its
//! effect once, and its repetition gets the first answer. Of two sends with one message id at most one makes an item,
//! and one that was asked for after the other was acknowledged is left out.

use std::collections::BTreeMap;

use super::deliveries;
use super::order::told;
use crate::history::{Answer, Call, History, Operation, Value, tokens};

pub fn check(history: &History, room: usize) -> Vec<String> {
    let mut found = messages(history, room);
    found.extend(repetitions(history, room));
    found.extend(items(history, room));
    found.extend(named_items(history, room));
    found.extend(typed(history, room));
    found
}

fn messages(history: &History, room: usize) -> Vec<String> {
    let mut places: BTreeMap<Value, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for heard in &history.endings[room].log {
        let Some(value) = heard.value else { continue };
        if let Some(first) = places.insert(value, heard.revision) {
            found.push(format!("message {value} is in the log at revisions {first} and {}", heard.revision));
        }
    }
    found
}

fn repetitions(history: &History, room: usize) -> Vec<String> {
    let mut first: BTreeMap<Value, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for operation in history.of_room(room) {
        let (Call::Post { value, again }, Some(revision)) = (&operation.call, operation.revision()) else { continue };
        if !again {
            first.insert(*value, revision);
        } else if first.get(value).is_some_and(|first| *first != revision) {
            found.push(format!("{}, and the first time it got {}", told(operation), first[value]));
        }
    }
    found
}

fn items(history: &History, room: usize) -> Vec<String> {
    let mut places: BTreeMap<Value, (u16, u64)> = BTreeMap::new();
    let mut found = Vec::new();
    let all = deliveries::all(history, room);
    let delivered = all.iter().map(|got| (got.received.value, (got.queue, got.received.delivery.item)));
    let dead = history.endings[room].dead_letters.iter().map(|letter| (letter.value, (letter.of, letter.item)));
    for (value, place) in delivered.chain(dead) {
        let Some(value) = value else { continue };
        let first = *places.entry(value).or_insert(place);
        if first != place {
            found.push(format!("{value} is item {} and item {} of its queue", first.1, place.1));
        }
    }
    found
}

/// Sends of a message id that was certainly known. Repetitions come soon, so no queue has forgotten it by then.
fn named_items(history: &History, room: usize) -> Vec<String> {
    let mut first: BTreeMap<Value, &Operation> = BTreeMap::new();
    let mut found = Vec::new();
    for operation in history.of_room(room) {
        let (Call::Send { values, options, .. }, Some(Answer::Sent { duplicates, .. })) =
            (&operation.call, operation.answer())
        else {
            continue;
        };
        for ((value, options), index) in values.iter().zip(options).zip(0_u32..) {
            if !options.named {
                continue;
            }
            let before = *first.entry(*value).or_insert(operation);
            if before.answered < Some(operation.invoked) && !duplicates.contains(&index) {
                found.push(format!("{value} was taken by {} and again by {}", told(before), told(operation)));
            }
        }
    }
    found
}

fn typed(history: &History, room: usize) -> Vec<String> {
    let mut found = Vec::new();
    for copy in &history.endings[room].copies {
        let mut values: Vec<Value> = tokens(&copy.text).into_iter().flatten().collect();
        values.sort_unstable();
        let twice = values.windows(2).filter(|pair| pair[0] == pair[1]);
        found.extend(twice.map(|pair| format!("{} stands twice in document {}", pair[0], copy.document)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, done, post, push, send_of, unknown, value};
    use super::*;
    use crate::history::{Death, ItemOptions};

    #[test]
    fn one_effect_is_accepted() {
        let again = Call::Post { value: value(1, 1), again: true };
        let story = Story::begin()
            .then(post(1, 1), done(1))
            .then(again, done(1))
            .send(2, 1, 1, 2)
            .receive(value(2, 1), delivery(1, 1), 2, 3)
            .receive(value(2, 1), delivery(1, 2), 2, 5)
            .then(push(3, 1), done(6))
            .log(&[(1, value(1, 1))])
            .copy("[w3-1]");
        assert_eq!(check(&story.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn a_second_effect_shows() {
        let twice = Story::begin().log(&[(1, value(1, 1)), (2, value(1, 1))]);
        assert_eq!(check(&twice.end(), 0).len(), 1);
        let again = Call::Post { value: value(1, 1), again: true };
        let other = Story::begin().then(post(1, 1), done(1)).then(again, done(2));
        assert_eq!(check(&other.end(), 0).len(), 1);
        let items =
            Story::begin().receive(value(2, 1), delivery(1, 1), 2, 3).receive(value(2, 1), delivery(2, 1), 2, 4);
        assert_eq!(check(&items.end(), 0).len(), 1);
        assert_eq!(check(&Story::begin().copy("[w3-1][w3-1]").end(), 0).len(), 1);
    }

    #[test]
    fn a_message_id_has_one_item() {
        let named = ItemOptions { named: true, ..ItemOptions::default() };
        let once = || Story::begin().send_with(named, 2, 1, 1, 1);
        assert_eq!(check(&once().duplicate(named, value(2, 1), 1, 1).end(), 0), Vec::<String>::new());
        assert_eq!(check(&once().send_with(named, 2, 1, 2, 2).end(), 0).len(), 1);
        // Which of the two was taken is open when the first may have come late, and when they overlap.
        let doubtful = || Story::begin().then(send_of(named, value(2, 1)), unknown()).send_with(named, 2, 1, 1, 1);
        assert_eq!(check(&doubtful().end(), 0), Vec::<String>::new());
        let both = doubtful().receive(value(2, 1), delivery(1, 1), 1, 2);
        let both = both.dead(value(2, 1), delivery(2, 1), Death::Rejected, 5);
        assert_eq!(check(&both.end(), 0).len(), 1, "delivered as one item and dead as another");
        let streamed = doubtful().handed(7, value(2, 1), delivery(1, 1), 1, Some(2));
        assert_eq!(check(&streamed.handed(7, value(2, 1), delivery(2, 1), 1, Some(3)).end(), 0).len(), 1);
    }
}
