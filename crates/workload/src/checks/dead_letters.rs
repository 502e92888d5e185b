//! *Dead letters tell their story*: what is found among a queue's dead letters was sent there, says under which number,
//! and was rejected or delivered as often as its queue tries, never more often. Nobody acknowledged it, it is dead once,
//! and it is not delivered again where it died.

use std::collections::{BTreeMap, BTreeSet};

use super::deliveries::{self, Got, Kind, Settling};
use super::order::told;
use crate::history::{AckResult, Answer, Call, DeadLetter, Death, Failure, History, Value, numbered};

pub fn check(history: &History, room: usize) -> Vec<String> {
    let letters = &history.endings[room].dead_letters;
    let (all, settlings) = (deliveries::all(history, room), deliveries::settlings(history, room));
    let numbers = numbers(history, room, &all);
    let mut found = tried_too_often(history, &all);
    let mut known = BTreeSet::new();
    for letter in letters {
        let complain = |what: String| format!("dead letter {} of {}: {what}", letter.item, letter.queue);
        if !known.insert((letter.of, letter.item)) {
            found.push(complain("it is there twice".to_owned()));
        }
        let got = all.iter().filter(|got| got.queue == letter.of && got.received.delivery.item == letter.item);
        let said = settlings.iter().filter(|said| said.queue == letter.of && said.delivery.item == letter.item);
        let (got, said): (Vec<&Got<'_>>, Vec<&Settling<'_>>) = (got.collect(), said.collect());
        found.extend(
            [
                place(history, letter, &numbers),
                reason(history, letter, &said),
                life(letter, &got, &said),
                past(letter, &said),
            ]
            .concat()
            .into_iter()
            .map(complain),
        );
    }
    found
}

/// The number of each value whose place is known.
fn numbers(history: &History, room: usize, all: &[Got<'_>]) -> BTreeMap<Value, u64> {
    let mut numbers = BTreeMap::new();
    for operation in history.of_room(room) {
        if let (Call::Send { values, .. }, Some(Answer::Sent { first_item, duplicates })) =
            (&operation.call, operation.answer())
        {
            numbers.extend(numbered(values, *first_item, duplicates));
        }
    }
    numbers.extend(all.iter().filter_map(|got| Some((got.received.value?, got.received.delivery.item))));
    numbers
}

fn most_attempts(history: &History, queue: u16) -> Option<u32> {
    history.queues.get(usize::from(queue)).map(|rules| rules.max_attempts).filter(|most| *most > 0)
}

fn tried_too_often(history: &History, all: &[Got<'_>]) -> Vec<String> {
    let too_often = |got: &&Got<'_>| most_attempts(history, got.queue).is_some_and(|most| got.attempt() > most);
    let told =
        |got: &Got<'_>| format!("item {}: attempt {} by {}", got.received.delivery.item, got.attempt(), got.told());
    all.iter().filter(too_often).map(told).collect()
}

/// Where it says that it was.
fn place(history: &History, letter: &DeadLetter, numbers: &BTreeMap<Value, u64>) -> Vec<String> {
    let mut found = Vec::new();
    if history.queues.get(usize::from(letter.of)).is_none_or(|rules| rules.name != letter.queue) {
        found.push(format!("found among those of queue {}", letter.of));
    }
    let number = letter.value.and_then(|value| numbers.get(&value));
    if let Some(number) = number.filter(|number| **number != letter.item) {
        found.push(format!("{} was item {number}", super::named(letter.value)));
    }
    found
}

/// Why it says that it died.
fn reason(history: &History, letter: &DeadLetter, said: &[&Settling<'_>]) -> Vec<String> {
    let (reason, attempts) = (letter.reason, letter.attempts);
    let most = most_attempts(history, letter.of);
    let is_right = match reason {
        Death::TooManyAttempts => most.is_some_and(|most| attempts >= most),
        Death::Rejected => said
            .iter()
            .any(|said| said.kind == Kind::Reject && said.may_have_counted() && said.delivery.attempt == attempts),
        Death::Unspecified => false,
    };
    let mut found = Vec::new();
    if !is_right {
        found.push(format!("{reason:?} after {attempts} deliveries, of which nobody knows"));
    }
    if most.is_some_and(|most| attempts > most) {
        found.push(format!("{attempts} deliveries"));
    }
    found
}

/// What happened to it besides.
fn life(letter: &DeadLetter, got: &[&Got<'_>], said: &[&Settling<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let acked = said.iter().filter(|said| {
        said.kind == Kind::Ack && [Some(AckResult::Acked), Some(AckResult::AlreadyAcked)].contains(&said.result)
    });
    found.extend(acked.map(|ack| format!("dead although {}", told(ack.operation))));
    let (died, attempts) = (letter.revision, letter.attempts);
    let later = got.iter().filter(|got| got.attempt() > attempts || got.revision >= Some(died));
    found.extend(later.map(|got| format!("dead at revision {died} and delivered by {}", got.told())));
    found
}

/// The failures that it tells of: what a consumer gave back is one of them.
fn past(letter: &DeadLetter, said: &[&Settling<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    if letter.failures.is_empty() || !letter.failures.is_sorted_by(|(earlier, _), (later, _)| earlier < later) {
        found.push(format!("it tells of {:?}", letter.failures));
    }
    for said in said.iter().filter(|said| said.is_give_back() && said.counted()) {
        let kind = if said.kind == Kind::Reject { Failure::Rejected } else { Failure::Nacked };
        let attempt = said.delivery.attempt;
        let told_of = letter.failures.iter().find(|(of, _)| *of == attempt);
        // Only the newest are kept.
        let is_kept = letter.failures.first().is_some_and(|(oldest, _)| *oldest <= attempt);
        if is_kept && told_of != Some(&(attempt, kind)) {
            found.push(format!("it tells of {told_of:?}, and {}", told(said.operation)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::story::{MAX_ATTEMPTS, Story, delivery, unknown, value};
    use super::*;

    fn delivered(attempts: u32) -> Story {
        let sent = Story::begin().send(1, 1, 1, 1);
        (1..=attempts).fold(sent, |story, attempt| {
            story.receive(value(1, 1), delivery(1, attempt), 1, u64::from(attempt) * 2).wait_ms(5_100)
        })
    }

    fn dead(story: Story, attempts: u32, reason: Death) -> Vec<String> {
        check(&story.dead(value(1, 1), delivery(1, attempts), reason, 9).end(), 0)
    }

    /// The letter of an item whose leases ended, with something else in it.
    fn otherwise(change: impl FnOnce(&mut DeadLetter)) -> usize {
        let mut history = delivered(2).dead(value(1, 1), delivery(1, 2), Death::TooManyAttempts, 9).end();
        change(&mut history.endings[0].dead_letters[0]);
        check(&history, 0).len()
    }

    #[test]
    fn an_item_dies_after_its_attempts_or_when_it_is_rejected() {
        assert_eq!(dead(delivered(MAX_ATTEMPTS), MAX_ATTEMPTS, Death::TooManyAttempts), Vec::<String>::new());
        assert_eq!(
            dead(delivered(1), MAX_ATTEMPTS, Death::TooManyAttempts),
            Vec::<String>::new(),
            "one was not heard of"
        );
        assert_eq!(dead(delivered(1).reject(delivery(1, 1), 9), 1, Death::Rejected), Vec::<String>::new());
        let call = Call::Nack { queue: 0, deliveries: vec![delivery(1, 1)], delay_ms: None, reject: true };
        assert_eq!(dead(delivered(1).then(call, unknown()), 1, Death::Rejected), Vec::<String>::new());
    }

    #[test]
    fn a_death_without_a_reason_shows() {
        assert_eq!(dead(delivered(1), 1, Death::TooManyAttempts).len(), 1);
        assert_eq!(dead(delivered(1), 1, Death::Rejected).len(), 1);
        assert_eq!(dead(delivered(2).reject(delivery(1, 1), 4), 2, Death::Rejected).len(), 2, "another attempt");
    }

    #[test]
    fn an_item_that_is_tried_too_often_shows() {
        assert_eq!(check(&delivered(MAX_ATTEMPTS + 1).end(), 0).len(), 1);
        assert_eq!(check(&delivered(MAX_ATTEMPTS).end(), 0), Vec::<String>::new());
        let rules = |most| {
            let mut history = delivered(MAX_ATTEMPTS + 1).end();
            history.queues[0].max_attempts = most;
            check(&history, 0).len()
        };
        assert_eq!(rules(0), 0, "as often as it takes");
    }

    #[test]
    fn an_item_is_not_both_dead_and_acknowledged() {
        let acked = delivered(2).ack(delivery(1, 2), AckResult::Acked, 8);
        assert_eq!(dead(acked, 2, Death::TooManyAttempts).len(), 1);
        let stale = delivered(2).ack(delivery(1, 2), AckResult::Stale, 8);
        assert_eq!(dead(stale, 2, Death::TooManyAttempts), Vec::<String>::new());
        let doubtful = delivered(2).ack_unknown(delivery(1, 2));
        assert_eq!(dead(doubtful, 2, Death::TooManyAttempts), Vec::<String>::new());
    }

    #[test]
    fn what_is_dead_is_not_delivered() {
        let later = || delivered(1).receive(value(1, 1), delivery(1, 2), 1, 12);
        assert_eq!(dead(later(), 2, Death::TooManyAttempts).len(), 1);
        let handed = delivered(2).handed(7, value(1, 1), delivery(1, 2), 1, Some(10));
        assert_eq!(dead(handed, 2, Death::TooManyAttempts).len(), 1);
    }

    #[test]
    fn a_letter_says_where_it_was_and_how_it_came_to_that() {
        assert_eq!(otherwise(|_| {}), 0);
        assert_eq!(otherwise(|letter| letter.queue = "work".to_owned()), 1);
        assert_eq!(otherwise(|letter| letter.item = 2), 1);
        assert_eq!(otherwise(|letter| letter.reason = Death::Unspecified), 1);
        assert_eq!(otherwise(|letter| letter.failures.clear()), 1);
        assert_eq!(otherwise(|letter| letter.failures.reverse()), 1);
        let twice = delivered(2).dead(value(1, 1), delivery(1, 2), Death::TooManyAttempts, 9);
        assert_eq!(dead(twice, 2, Death::TooManyAttempts).len(), 1);
        let given_back = delivered(1).nack(delivery(1, 1), None, AckResult::Acked, 3);
        let given_back = given_back.receive(value(1, 1), delivery(1, 2), 1, 4);
        assert_eq!(dead(given_back, 2, Death::TooManyAttempts).len(), 1, "it tells of a lease that ended");
    }
}
