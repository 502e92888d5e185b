//! Falsifications of a good history, each with what it stands for: what a faulty cluster would have made of the run.
//!
//! None means that the run holds nothing that could be falsified so.

use conclave_workload::history::{AckResult, Answer, Call, Delivery, History, Operation, Outcome};

/// Changes a history; none if it has nothing to change.
pub type Falsify = fn(&mut History) -> Option<()>;

pub const ALL: [(&str, Falsify); 12] = [
    ("an acknowledged message is lost", lose_message),
    ("a message is there twice", double_message),
    ("a byte of a message is wrong", spoil_message),
    ("two messages changed places", swap_messages),
    ("a refused message is in the log", refuse_message),
    ("a follower missed a message", miss_message),
    ("a read is stale", stale_read),
    ("a token is lost", lose_token),
    ("one copy of a document differs", diverge),
    ("an acknowledged item comes back", redeliver),
    ("an item is lost", lose_item),
    ("an old lease is accepted", accept_twice),
];

fn lose_message(history: &mut History) -> Option<()> {
    let log = &mut history.endings[0].log;
    let middle = log.len() / 2;
    (!log.is_empty()).then(|| log.remove(middle)).map(|_| ())
}

fn double_message(history: &mut History) -> Option<()> {
    let log = &mut history.endings[0].log;
    let mut again = *log.first()?;
    again.revision = log.last()?.revision + 1;
    log.push(again);
    Some(())
}

fn spoil_message(history: &mut History) -> Option<()> {
    history.endings[0].log.first_mut()?.value = None;
    Some(())
}

fn swap_messages(history: &mut History) -> Option<()> {
    let log = &mut history.endings[0].log;
    let (first, second) = (log.first()?.value, log.get(1)?.value);
    (log[0].value, log[1].value) = (second, first);
    Some(())
}

fn refuse_message(history: &mut History) -> Option<()> {
    let is_post = |operation: &Operation| matches!(operation.call, Call::Post { again: false, .. });
    let post = last(history, |operation| is_post(operation) && operation.revision().is_some())?;
    post.outcome = Outcome::Refused { reason: "OVERLOADED".to_owned() };
    Some(())
}

fn miss_message(history: &mut History) -> Option<()> {
    let transcript = history.transcripts.iter_mut().find(|transcript| transcript.heard.len() > 2)?;
    transcript.heard.remove(1);
    Some(())
}

fn stale_read(history: &mut History) -> Option<()> {
    let read = last(history, |operation| operation.call == Call::GetRoom && operation.revision().is_some())?;
    let Outcome::Ok { revision, .. } = &mut read.outcome else { return None };
    *revision = 1;
    Some(())
}

fn lose_token(history: &mut History) -> Option<()> {
    for copy in history.endings[0].copies.iter_mut().filter(|copy| copy.document == 0) {
        let end = copy.text.find(']')?;
        copy.text.replace_range(..=end, "");
    }
    Some(())
}

fn diverge(history: &mut History) -> Option<()> {
    let copy = history.endings[0].copies.first_mut()?;
    let end = copy.text.find(']')?;
    let token: String = copy.text.drain(..=end).collect();
    copy.text.push_str(&token);
    Some(())
}

/// The delivery of an item that was acknowledged comes once more at the end, with the next attempt.
fn redeliver(history: &mut History) -> Option<()> {
    let (room, delivery) = history.operations.iter().find_map(|operation| {
        let (Call::Ack { deliveries, .. }, Some(Answer::Acked { results })) = (&operation.call, operation.answer())
        else {
            return None;
        };
        let index = results.iter().position(|result| *result == AckResult::Acked)?;
        Some((operation.room, deliveries[index]))
    })?;
    let receive = history.operations.iter().find(|operation| operation.room == room && holds(operation, delivery))?;
    let mut again = receive.clone();
    let at = history.operations.last()?.invoked + 1_000_000;
    (again.invoked, again.answered) = (at, Some(at + 1));
    let Outcome::Ok { revision, answer: Answer::Received { deliveries } } = &mut again.outcome else { return None };
    *revision = u64::MAX;
    deliveries.iter_mut().for_each(|received| received.delivery.attempt += 1);
    history.operations.push(again);
    Some(())
}

fn lose_item(history: &mut History) -> Option<()> {
    *history.endings[0].left_in_queues.first_mut()? += 1;
    Some(())
}

fn accept_twice(history: &mut History) -> Option<()> {
    let counted = |operation: &Operation| match operation.answer() {
        Some(Answer::Acked { results }) => results.contains(&AckResult::Acked),
        _ => false,
    };
    let mut twice = last(history, counted)?.clone();
    twice.invoked += 1_000_000;
    twice.answered = twice.answered.map(|at| at + 1_000_000);
    history.operations.push(twice);
    history.operations.sort_by_key(|operation| operation.invoked);
    Some(())
}

fn last(history: &mut History, wanted: impl Fn(&Operation) -> bool) -> Option<&mut Operation> {
    history.operations.iter_mut().rev().find(|operation| wanted(operation))
}

fn holds(operation: &Operation, delivery: Delivery) -> bool {
    match operation.answer() {
        Some(Answer::Received { deliveries }) => deliveries.iter().any(|received| received.delivery == delivery),
        _ => false,
    }
}
