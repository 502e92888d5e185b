//! Falsifications of a good history, each with what it stands for: what a faulty cluster would have made of the run.
//!
//! None means that the run holds nothing that could be falsified so.

use conclave_workload::history::{
    AckResult, Answer, Call, DeadLetter, Death, Delivery, Failure, History, ItemOptions, Operation, Outcome,
};

/// Changes a history; none if it has nothing to change.
pub type Falsify = fn(&mut History) -> Option<()>;

pub const ALL: [(&str, Falsify); 18] = [
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
    ("a dead letter is lost", lose_dead_letter),
    ("an acknowledged item is dead", bury_acknowledged),
    ("an item is tried too often", try_too_often),
    ("two items of a group are out at once", group_all),
    ("an item comes before its time", delay_all),
    ("a message id has two items", take_twice),
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
    let (room, _, delivery) = acknowledged(history)?;
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

fn lose_dead_letter(history: &mut History) -> Option<()> {
    let letters = history.endings.iter_mut().map(|ending| &mut ending.dead_letters);
    letters.into_iter().find_map(Vec::pop).map(|_| ())
}

fn bury_acknowledged(history: &mut History) -> Option<()> {
    let (room, of, delivery) = acknowledged(history)?;
    let Delivery { item, attempt: attempts } = delivery;
    let queue = history.queues.get(usize::from(of))?.name.clone();
    let (reason, failures) = (Death::Rejected, vec![(attempts, Failure::Rejected)]);
    let letter = DeadLetter { of, queue, item, value: None, reason, attempts, failures, revision: u64::MAX };
    history.endings[room].dead_letters.push(letter);
    Some(())
}

fn try_too_often(history: &mut History) -> Option<()> {
    let most = history.queues.iter().map(|rules| rules.max_attempts).max()?;
    let received = history.operations.iter_mut().rev().find_map(|operation| match &mut operation.outcome {
        Outcome::Ok { answer: Answer::Received { deliveries }, .. } => deliveries.last_mut(),
        _ => None,
    })?;
    received.delivery.attempt = most + 1;
    Some(())
}

/// As if all items had been sent to one group.
fn group_all(history: &mut History) -> Option<()> {
    with_options(history, |options| (options.group, options.delay_ms) = (Some(1), 0))
}

fn delay_all(history: &mut History) -> Option<()> {
    with_options(history, |options| options.delay_ms = 60 * 60 * 1_000)
}

fn with_options(history: &mut History, change: impl Fn(&mut ItemOptions)) -> Option<()> {
    let mut changed = None;
    for operation in &mut history.operations {
        let Call::Send { options, .. } = &mut operation.call else { continue };
        for options in options {
            change(options);
            changed = Some(());
        }
    }
    changed
}

fn take_twice(history: &mut History) -> Option<()> {
    let left_out = history.operations.iter_mut().find_map(|operation| match &mut operation.outcome {
        Outcome::Ok { answer: Answer::Sent { duplicates, .. }, .. } if !duplicates.is_empty() => Some(duplicates),
        _ => None,
    })?;
    left_out.clear();
    Some(())
}

fn last(history: &mut History, wanted: impl Fn(&Operation) -> bool) -> Option<&mut Operation> {
    history.operations.iter_mut().rev().find(|operation| wanted(operation))
}

/// The first delivery that was acknowledged and had been received: its room, queue and id.
fn acknowledged(history: &History) -> Option<(usize, u16, Delivery)> {
    history.operations.iter().find_map(|operation| {
        let (Call::Ack { queue, deliveries }, Some(Answer::Acked { results })) = (&operation.call, operation.answer())
        else {
            return None;
        };
        let index = results.iter().position(|result| *result == AckResult::Acked)?;
        let is_received = history.operations.iter().any(|receive| {
            receive.room == operation.room && receive.call.queue() == Some(*queue) && holds(receive, deliveries[index])
        });
        is_received.then_some((operation.room, *queue, deliveries[index]))
    })
}

fn holds(operation: &Operation, delivery: Delivery) -> bool {
    match operation.answer() {
        Some(Answer::Received { deliveries }) => deliveries.iter().any(|received| received.delivery == delivery),
        _ => false,
    }
}
