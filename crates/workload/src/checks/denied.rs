//! *Acknowledged history is not denied*: nobody is told that something is not there which was acknowledged before.

use super::order::told;
use crate::history::{Call, History, Operation, Outcome};

/// Refusals that no caller of the load can have deserved: rooms are never deleted, deliveries are those that a receive
/// returned, and updates build on what was committed.
const NEVER: [&str; 5] = ["ROOM_NOT_FOUND", "DELIVERY_UNKNOWN", "NEED_SYNC", "UPDATE_INVALID", "CURSOR_AHEAD"];

pub fn check(history: &History, room: usize) -> Vec<String> {
    let denied = |operation: &&Operation| match &operation.outcome {
        Outcome::Refused { reason } => {
            NEVER.contains(&reason.as_str())
                || (reason == "QUEUE_NOT_FOUND" || reason == "DOCUMENT_NOT_FOUND") && was_there(history, operation)
        }
        _ => false,
    };
    history.of_room(room).filter(denied).map(told).collect()
}

/// Whether something was written there and acknowledged before this was asked.
fn was_there(history: &History, asked: &Operation) -> bool {
    let same_place = |operation: &Operation| match (&operation.call, &asked.call) {
        (Call::Send { queue, .. }, asked) => asked.queue() == Some(*queue),
        (Call::Push { document, .. }, Call::DescribeDocument { document: wanted }) => document == wanted,
        _ => false,
    };
    history.of_room(asked.room).any(|operation| {
        same_place(operation)
            && operation.revision().is_some()
            && operation.answered.is_some_and(|answered| answered < asked.invoked)
    })
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, done, post, push, refused};
    use super::*;

    #[test]
    fn a_refusal_that_nobody_can_have_deserved_shows() {
        let limited = Story::begin().then(post(1, 1), refused("OVERLOADED"));
        assert!(check(&limited.end(), 0).is_empty());
        let ack = Call::Ack { queue: 0, deliveries: vec![delivery(1, 1)] };
        for (call, reason) in [(post(1, 1), "ROOM_NOT_FOUND"), (ack, "DELIVERY_UNKNOWN"), (push(1, 1), "NEED_SYNC")] {
            assert_eq!(check(&Story::begin().then(call, refused(reason)).end(), 0).len(), 1, "{reason}");
        }
    }

    #[test]
    fn a_document_may_be_missing_until_somebody_typed_into_it() {
        let read = || Call::DescribeDocument { document: 0 };
        let early = Story::begin().then(read(), refused("DOCUMENT_NOT_FOUND")).then(push(1, 1), done(1));
        assert!(check(&early.end(), 0).is_empty());
        let lost = Story::begin().then(push(1, 1), done(1)).then(read(), refused("DOCUMENT_NOT_FOUND"));
        assert_eq!(check(&lost.end(), 0).len(), 1);
    }
}
