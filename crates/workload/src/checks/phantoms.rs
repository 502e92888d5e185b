//! *Nothing that nobody wrote*: whatever a log, a delivery or a document shows was asked for, in that room and as that
//! kind, and was not refused. Bodies are checked to the last byte.

use std::collections::BTreeMap;

use super::deliveries;
use crate::history::{Answer, Call, History, Outcome, Value, Values, tokens};

/// What each value was asked to be, and whether that was refused.
struct Asked {
    messages: BTreeMap<Value, bool>,
    items: BTreeMap<Value, bool>,
    tokens: BTreeMap<Value, bool>,
}

pub fn check(history: &History, room: usize) -> Vec<String> {
    let asked = Asked::of(history, room);
    let ending = &history.endings[room];
    let mut found = Vec::new();
    for heard in &ending.log {
        found.extend(odd(&asked.messages, heard.value, || format!("message at revision {}", heard.revision)));
    }
    for transcript in history.transcripts.iter().filter(|transcript| transcript.room == room) {
        for heard in &transcript.heard {
            let place = || format!("message at revision {} told to follower {}", heard.revision, transcript.follower);
            found.extend(odd(&asked.messages, heard.value, place));
        }
    }
    for got in deliveries::all(history, room) {
        found.extend(odd(&asked.items, got.received.value, || format!("delivery {:?}", got.received.delivery)));
    }
    for letter in &ending.dead_letters {
        found.extend(odd(&asked.items, letter.value, || format!("dead letter {} of {}", letter.item, letter.queue)));
    }
    for operation in history.of_room(room) {
        if let Some(Answer::Holds { values }) = operation.answer() {
            found.extend(odd_values(&asked.tokens, values, operation.revision()));
        }
    }
    for copy in &ending.copies {
        for token in tokens(&copy.text) {
            let place = || format!("token in document {} as {} has it", copy.document, copy.reader);
            match token {
                Ok(value) => found.extend(odd(&asked.tokens, Some(value), place)),
                Err(foreign) => found.push(format!("{}: {foreign:?}", place())),
            }
        }
    }
    found
}

fn odd_values(tokens: &BTreeMap<Value, bool>, values: &Values, revision: Option<u64>) -> Vec<String> {
    let place = || format!("token in a document read at revision {}", revision.unwrap_or_default());
    let foreign = values.odd.iter().map(|foreign| format!("{}: {foreign:?}", place()));
    foreign.chain(values.iter().filter_map(|value| odd(tokens, Some(value), place))).collect()
}

fn odd(asked: &BTreeMap<Value, bool>, value: Option<Value>, place: impl Fn() -> String) -> Option<String> {
    let Some(value) = value else { return Some(format!("{}: bytes that nobody wrote", place())) };
    match asked.get(&value) {
        Some(false) => None,
        Some(true) => Some(format!("{}: {value}, which was refused", place())),
        None => Some(format!("{}: {value}, which nobody wrote there", place())),
    }
}

impl Asked {
    fn of(history: &History, room: usize) -> Asked {
        let mut asked = Asked { messages: BTreeMap::new(), items: BTreeMap::new(), tokens: BTreeMap::new() };
        for operation in history.of_room(room) {
            let kind = match operation.call {
                Call::Post { again: false, .. } => &mut asked.messages,
                Call::Send { .. } => &mut asked.items,
                Call::Push { .. } => &mut asked.tokens,
                _ => continue,
            };
            let was_refused = matches!(operation.outcome, Outcome::Refused { .. });
            for value in operation.values() {
                // One that was refused may have been sent again.
                kind.entry(*value).and_modify(|refused| *refused &= was_refused).or_insert(was_refused);
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, done, post, push, refused, send_of, unknown, value};
    use super::*;
    use crate::history::{Death, ItemOptions};

    #[test]
    fn what_was_asked_and_not_refused_may_be_there() {
        let story = Story::begin()
            .then(post(1, 1), done(1))
            .then(post(1, 2), unknown())
            .then(push(2, 1), unknown())
            .send(3, 1, 1, 3)
            .receive(value(3, 1), delivery(1, 1), 3, 4)
            .log(&[(1, value(1, 1)), (2, value(1, 2))])
            .copy("[w2-1]");
        assert_eq!(check(&story.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn what_was_refused_or_never_asked_is_a_phantom() {
        let refused_message = Story::begin().then(post(1, 1), refused("TOO_LARGE")).log(&[(1, value(1, 1))]);
        assert_eq!(check(&refused_message.end(), 0).len(), 1);
        assert_eq!(check(&Story::begin().log(&[(1, value(9, 9))]).end(), 0).len(), 1);
        // A message is no item.
        let swapped = Story::begin().then(post(1, 1), done(1)).receive(value(1, 1), delivery(1, 1), 1, 2);
        assert_eq!(check(&swapped.end(), 0).len(), 1);
        assert_eq!(check(&Story::begin().follower(&[(1, value(9, 9))], 1).end(), 0).len(), 1);
    }

    #[test]
    fn an_item_that_was_refused_and_sent_again_is_none() {
        let named = ItemOptions { named: true, ..ItemOptions::default() };
        let refused = || Story::begin().then(send_of(named, value(3, 1)), refused("OVERLOADED"));
        let again = refused().send_with(named, 3, 1, 1, 1).receive(value(3, 1), delivery(1, 1), 1, 2);
        assert_eq!(check(&again.end(), 0), Vec::<String>::new());
        assert_eq!(check(&refused().handed(7, value(3, 1), delivery(1, 1), 1, Some(2)).end(), 0).len(), 1);
        assert_eq!(check(&refused().dead(value(3, 1), delivery(1, 1), Death::Rejected, 2).end(), 0).len(), 1);
    }

    #[test]
    fn a_wrong_byte_is_a_phantom() {
        let mut history = Story::begin().then(post(1, 1), done(1)).log(&[(1, value(1, 1))]).end();
        history.endings[0].log[0].value = None;
        assert_eq!(check(&history, 0).len(), 1);
        let torn = Story::begin().then(push(2, 1), done(1)).then(push(2, 2), done(2)).copy("[w2-1[w2-2]]");
        assert!(!check(&torn.end(), 0).is_empty());
        let read = Story::begin().then(push(2, 1), done(1)).describe("[w2-1]x", 1);
        assert_eq!(check(&read.end(), 0).len(), 1);
    }
}
