//! *Acknowledged messages are in the log*: each at the revision of its acknowledgement.

use std::collections::BTreeMap;

use super::order::told;
use crate::history::{Call, History};

pub fn messages(history: &History, room: usize) -> Vec<String> {
    let log: BTreeMap<u64, _> = history.endings[room].log.iter().map(|heard| (heard.revision, heard.value)).collect();
    let mut found = Vec::new();
    for operation in history.of_room(room) {
        let (Call::Post { value, .. }, Some(revision)) = (&operation.call, operation.revision()) else { continue };
        match log.get(&revision) {
            Some(Some(there)) if there == value => {}
            Some(other) => found.push(format!("{}, where the log has {}", told(operation), super::named(*other))),
            None => found.push(format!("{}, and the log has nothing there", told(operation))),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, done, post, unknown, value};
    use super::*;

    #[test]
    fn a_lost_message_shows_and_an_unknown_one_may_be_missing() {
        let story = || Story::begin().then(post(1, 1), done(5)).then(post(1, 2), unknown());
        assert!(messages(&story().log(&[(5, value(1, 1))]).end(), 0).is_empty());
        assert!(messages(&story().log(&[(5, value(1, 1)), (7, value(1, 2))]).end(), 0).is_empty());
        assert_eq!(messages(&story().log(&[]).end(), 0).len(), 1);
    }

    #[test]
    fn another_message_at_its_revision_shows() {
        let story = Story::begin().then(post(1, 1), done(5)).log(&[(5, value(2, 1)), (6, value(1, 1))]);
        assert_eq!(messages(&story.end(), 0).len(), 1);
    }
}
