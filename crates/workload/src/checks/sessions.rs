//! *A session's writes keep their order*: its durable frames are applied in the order in which it sent them, also when
//! several are in flight and a failover comes in between.
//!
//! That a session reads its own writes, and reads nothing older than before, is a part of what
//! [`order`](super::order) checks for everybody.

use std::collections::BTreeMap;

use super::order::told;
use crate::history::{Call, History, Operation};

pub fn check(history: &History, room: usize) -> Vec<String> {
    let mut newest: BTreeMap<u32, (u64, &Operation)> = BTreeMap::new();
    let mut found = Vec::new();
    for operation in history.of_room(room) {
        let is_durable = matches!(
            operation.call,
            Call::Post { .. }
                | Call::Send { .. }
                | Call::Ack { .. }
                | Call::Nack { .. }
                | Call::Extend { .. }
                | Call::Push { .. }
        );
        let (true, Some(session), Some(revision)) = (is_durable, operation.session, operation.revision()) else {
            continue;
        };
        if let Some((before, earlier)) = newest.get(&session) {
            let agrees = if operation.made_a_revision() { revision > *before } else { revision >= *before };
            if !agrees {
                found.push(format!("session {session}: {} behind {}", told(operation), told(earlier)));
                continue;
            }
        }
        newest.insert(session, (revision, operation));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, done, nack, post, unknown};
    use super::*;
    use crate::history::{AckResult, Answer, Outcome};

    #[test]
    fn frames_in_flight_keep_their_order() {
        let burst = |first, second| {
            Story::begin()
                .during(1, 9, Some(1), post(1, 1), done(first))
                .during(2, 9, Some(1), post(1, 2), done(second))
                .during(3, 9, Some(2), post(2, 1), done(5))
        };
        assert!(check(&burst(6, 7).end(), 0).is_empty());
        assert_eq!(check(&burst(7, 6).end(), 0).len(), 1);
        let settled = |revision| {
            let results = Outcome::Ok { revision, answer: Answer::Acked { results: vec![AckResult::Acked] } };
            let nack = Story::begin().then_in(1, post(1, 1), done(6)).then_in(1, nack(delivery(1, 1), None), results);
            nack.end()
        };
        assert!(check(&settled(7), 0).is_empty());
        assert_eq!(check(&settled(6), 0).len(), 1);
        let unanswered = Story::begin().then_in(1, post(1, 1), unknown()).then_in(1, post(1, 2), done(3));
        assert!(check(&unanswered.end(), 0).is_empty());
    }
}
