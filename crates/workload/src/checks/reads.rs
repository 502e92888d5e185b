//! *Strong reads are complete*: a document is read with everything that was acknowledged up to the revision of the
//! answer and nothing acknowledged after it, and a queue is as long as it can be.
//!
//! A queue's size is bounded from both sides, because unknown sends and acknowledgements may count or not, and what is a
//! dead letter in the end may have died at any time.

use std::collections::BTreeSet;

use super::order::told;
use crate::history::{AckResult, Answer, Call, History, Operation, Value, Values};

pub fn check(history: &History, room: usize) -> Vec<String> {
    let operations: Vec<&Operation> = history.of_room(room).collect();
    let pushes: Vec<Push> = operations.iter().filter_map(|operation| push(operation)).collect();
    let on_queues: Vec<&Operation> = operations.iter().copied().filter(|operation| is_on_queue(operation)).collect();
    let dead_letters = &history.endings[room].dead_letters;
    let mut found = Vec::new();
    for operation in operations {
        match (&operation.call, operation.answer()) {
            (Call::DescribeDocument { document }, Some(Answer::Holds { values })) => {
                found.extend(document_read(operation, values, pushes.iter().filter(|push| push.document == *document)));
            }
            (Call::GetQueue { queue }, Some(Answer::Counted { size })) => {
                let dead = dead_letters.iter().filter(|letter| letter.of == *queue).map(|letter| letter.item);
                let (least, most) = possible_sizes(&on_queues, operation, *queue, dead.collect());
                if !(least..=most).contains(&(*size as i64)) {
                    found.push(format!("{}: size {size}, possible are {least} to {most}", told(operation)));
                }
            }
            _ => {}
        }
    }
    found
}

/// A push that was acknowledged.
struct Push {
    document: u16,
    revision: u64,
    value: Value,
}

fn push(operation: &Operation) -> Option<Push> {
    match operation.call {
        Call::Push { document, value } => Some(Push { document, revision: operation.revision()?, value }),
        _ => None,
    }
}

fn is_on_queue(operation: &Operation) -> bool {
    matches!(operation.call, Call::Send { .. } | Call::Ack { .. } | Call::Nack { reject: true, .. })
}

fn document_read<'a>(read: &Operation, values: &Values, pushes: impl Iterator<Item = &'a Push>) -> Vec<String> {
    let revision = read.revision().unwrap_or_default();
    let wrong = pushes.filter(|push| (push.revision <= revision) != values.contains(push.value));
    let told_wrong = |push: &Push| {
        let what = if push.revision <= revision { "lacks" } else { "already holds" };
        format!("{} and {what} {}, which was acknowledged at revision {}", told(read), push.value, push.revision)
    };
    wrong.map(told_wrong).collect()
}

/// The least and the most items that a queue can have had between the question and its answer. `dead`: those that died
/// some time.
fn possible_sizes(on_queues: &[&Operation], read: &Operation, queue: u16, dead: BTreeSet<u64>) -> (i64, i64) {
    let (asked, answered) = (read.invoked, read.answered.unwrap_or(u64::MAX));
    let before = |operation: &Operation| operation.answered.is_some_and(|at| at < asked);
    let until = |operation: &Operation| operation.invoked < answered;
    let (mut sent_least, mut sent_most) = (0, 0);
    let (mut gone_least, mut gone_most) = (BTreeSet::new(), dead);
    for operation in on_queues {
        match (&operation.call, operation.answer()) {
            (Call::Send { queue: of, values, .. }, answer) if *of == queue => {
                let left_out = match answer {
                    Some(Answer::Sent { duplicates, .. }) => duplicates.len(),
                    _ => 0,
                };
                let count = values.len().saturating_sub(left_out) as i64;
                let may_have_happened = answer.is_some() || operation.is_unknown();
                sent_most += if may_have_happened && until(operation) { count } else { 0 };
                sent_least += if answer.is_some() && before(operation) { count } else { 0 };
            }
            // What was rejected is gone as well.
            (
                Call::Ack { queue: of, deliveries } | Call::Nack { queue: of, deliveries, .. },
                Some(Answer::Acked { results }),
            ) if *of == queue => {
                for (delivery, result) in deliveries.iter().zip(results) {
                    let is_gone = [AckResult::Acked, AckResult::AlreadyAcked].contains(result);
                    if is_gone && until(operation) {
                        gone_most.insert(delivery.item);
                    }
                    if is_gone && before(operation) {
                        gone_least.insert(delivery.item);
                    }
                }
            }
            (Call::Ack { queue: of, deliveries } | Call::Nack { queue: of, deliveries, .. }, None)
                if *of == queue && operation.is_unknown() && until(operation) =>
            {
                gone_most.extend(deliveries.iter().map(|delivery| delivery.item));
            }
            _ => {}
        }
    }
    (sent_least - gone_most.len() as i64, sent_most - gone_least.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, done, push, unknown, value};
    use super::*;
    use crate::history::{Death, ItemOptions, Outcome};

    #[test]
    fn a_document_holds_what_its_revision_says() {
        let story = || Story::begin().then(push(1, 1), done(1)).then(push(1, 2), unknown()).then(push(2, 1), done(3));
        assert!(check(&story().describe("[w1-1][w2-1]", 3).end(), 0).is_empty());
        assert!(check(&story().describe("[w1-2][w1-1][w2-1]", 3).end(), 0).is_empty());
        assert_eq!(check(&story().describe("[w1-1]", 3).end(), 0).len(), 1, "one is missing");
        assert_eq!(check(&story().describe("[w1-1][w2-1]", 2).end(), 0).len(), 1, "one is there too early");
    }

    fn size(story: Story, size: u64) -> Vec<String> {
        let counted = Outcome::Ok { revision: 99, answer: Answer::Counted { size } };
        check(&story.then(Call::GetQueue { queue: 0 }, counted).end(), 0)
    }

    #[test]
    fn a_queue_is_as_long_as_it_can_be() {
        let story = || {
            let sent = Story::begin().send(1, 1, 1, 1).send(1, 2, 2, 2).receive(value(1, 1), delivery(1, 1), 1, 3);
            sent.ack(delivery(1, 1), AckResult::Acked, 4)
        };
        assert!(size(story(), 1).is_empty());
        assert_eq!(size(story(), 0).len(), 1);
        assert_eq!(size(story(), 2).len(), 1);
        let doubtful = || story().ack_unknown(delivery(2, 1));
        assert!(size(doubtful(), 1).is_empty());
        assert!(size(doubtful(), 0).is_empty());
    }

    #[test]
    fn what_was_left_out_and_what_died_does_not_count() {
        let named = ItemOptions { named: true, ..ItemOptions::default() };
        let sent = || Story::begin().send_with(named, 1, 1, 1, 1).duplicate(named, value(1, 1), 1, 1).send(1, 2, 2, 2);
        assert!(size(sent(), 2).is_empty());
        assert_eq!(size(sent(), 3).len(), 1);
        let dead = || sent().dead(value(1, 1), delivery(1, 2), Death::TooManyAttempts, 9);
        assert!(size(dead(), 2).is_empty());
        assert!(size(dead(), 1).is_empty());
        assert_eq!(size(dead(), 0).len(), 1);
        let rejected = || sent().receive(value(1, 1), delivery(1, 1), 1, 3).reject(delivery(1, 1), 4);
        assert!(size(rejected(), 1).is_empty());
        assert_eq!(size(rejected(), 2).len(), 1);
    }
}
