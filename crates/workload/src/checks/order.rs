//! Each acknowledgement carries the room's revision, so order shows in a linear scan.
//!
//! *Revisions agree with real time*: what was asked after an answer has a higher revision than that answer, or the same
//! if it changed nothing. A write that was acknowledged and then lost, a write applied twice in different histories, and
//! a read answered by a leader that was deposed all break this.
//! *One revision for each change*: no two changes share one.

use std::collections::BTreeMap;

use crate::history::{Call, History, Operation, Outcome};

pub fn real_time(history: &History, room: usize) -> Vec<String> {
    let operations: Vec<&Operation> = history.of_room(room).collect();
    let mut answers: Vec<(u64, u64, &Operation)> = operations
        .iter()
        .filter_map(|operation| Some((operation.answered?, operation.revision()?, *operation)))
        .collect();
    answers.sort_by_key(|(answered, ..)| *answered);
    let mut answers = answers.into_iter().peekable();
    let mut newest: Option<(u64, &Operation)> = None;
    let mut found = Vec::new();
    for operation in operations {
        while let Some((_, revision, answer)) = answers.next_if(|(answered, ..)| *answered < operation.invoked) {
            if newest.is_none_or(|(known, _)| revision > known) {
                newest = Some((revision, answer));
            }
        }
        let (Some(revision), Some((floor, answer))) = (operation.revision(), newest) else { continue };
        // A repetition brings the revision of the first time.
        let is_repetition = matches!(operation.call, Call::Post { again: true, .. });
        let agrees = if operation.made_a_revision() { revision > floor } else { revision >= floor };
        if !agrees && !is_repetition {
            found.push(format!("{} although {} was answered before", told(operation), told(answer)));
        }
    }
    found
}

pub fn unique(history: &History, room: usize) -> Vec<String> {
    let mut known: BTreeMap<u64, String> = BTreeMap::new();
    let mut found = Vec::new();
    let mut note = |revision: u64, what: String| {
        if let Some(other) = known.get(&revision) {
            found.push(format!("revision {revision} is that of {other} and of {what}"));
        } else {
            known.insert(revision, what);
        }
    };
    let mut posted = Vec::new();
    for operation in history.of_room(room).filter(|operation| operation.made_a_revision()) {
        posted.extend_from_slice(operation.values());
        note(operation.revision().unwrap_or_default(), told(operation));
    }
    posted.sort_unstable();
    // Messages whose answer was lost: they have their revision from the log.
    for heard in &history.endings[room].log {
        if heard.value.is_none_or(|value| posted.binary_search(&value).is_err()) {
            note(heard.revision, format!("the message {}", super::named(heard.value)));
        }
    }
    found
}

/// An operation in words.
pub fn told(operation: &Operation) -> String {
    let values: Vec<String> = operation.values().iter().map(|value| format!(" {value}")).collect();
    let outcome = match &operation.outcome {
        Outcome::Ok { revision, .. } => format!("got revision {revision}"),
        Outcome::Refused { reason } => format!("was refused with {reason}"),
        Outcome::Unknown { why } => format!("is unknown ({why})"),
    };
    let answered = operation.answered.map_or_else(|| "never".to_owned(), |at| format!("{:.3} s", at as f64 / 1e6));
    let (kind, actor, invoked) = (operation.call.kind(), operation.actor, operation.invoked as f64 / 1e6);
    format!("{kind}{} of actor {actor} ({invoked:.3} s to {answered}) {outcome}", values.concat())
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, done, post, unknown, value};
    use super::*;

    #[test]
    fn a_write_after_an_answer_has_a_higher_revision() {
        let good = Story::begin().then(post(1, 1), done(5)).then(Call::GetRoom, done(5)).then(post(2, 1), done(6));
        assert!(real_time(&good.end(), 0).is_empty());
        let lost = Story::begin().then(post(1, 1), done(5)).then(post(2, 1), done(5));
        assert_eq!(real_time(&lost.end(), 0).len(), 1);
    }

    #[test]
    fn a_read_of_a_deposed_leader_shows() {
        let stale = Story::begin().then(post(1, 1), done(5)).then(Call::GetRoom, done(4));
        assert_eq!(real_time(&stale.end(), 0).len(), 1);
        // One that was asked before the answer came may miss it.
        let beside =
            Story::begin().during(10, 20, None, post(1, 1), done(5)).during(15, 30, None, Call::GetRoom, done(4));
        assert!(real_time(&beside.end(), 0).is_empty());
    }

    #[test]
    fn a_repetition_keeps_its_first_revision() {
        let again = Call::Post { value: value(1, 1), again: true };
        let story = Story::begin().then(post(1, 1), done(5)).then(post(2, 1), done(6)).then(again, done(5));
        assert!(real_time(&story.end(), 0).is_empty());
    }

    #[test]
    fn two_changes_do_not_share_a_revision() {
        let good = Story::begin().during(1, 9, None, post(1, 1), done(5)).during(2, 8, None, post(2, 1), done(6));
        assert!(unique(&good.log(&[(5, value(1, 1)), (6, value(2, 1))]).end(), 0).is_empty());
        let bad = Story::begin().during(1, 9, None, post(1, 1), done(5)).during(2, 8, None, post(2, 1), done(5));
        assert_eq!(unique(&bad.end(), 0).len(), 1);
        let overwritten = Story::begin().send(1, 1, 1, 5).then(post(2, 1), unknown()).log(&[(5, value(2, 1))]);
        assert_eq!(unique(&overwritten.end(), 0).len(), 1);
    }
}
