use conclave_types::{Revision, Timestamp};

use super::super::audit::audit;
use super::super::harness::*;
use crate::{
    ChangeKind, DeadLetter, DeadReason, DeliveredItem, DeliveryResult, Failure, FailureKind, ItemOptions, Receiver,
    SettingsPatch,
};

fn attempts(most: u32) -> SettingsPatch {
    SettingsPatch { max_attempts: Some(most), ..SettingsPatch::default() }
}

fn buried_in(queue: Option<&str>) -> SettingsPatch {
    let dead_letter_queue = Some(queue.map(|name| name.parse().unwrap()));
    SettingsPatch { dead_letter_queue, ..SettingsPatch::default() }
}

/// The dead letters of a queue, out of it.
fn letters(shard: &mut Shard, queue: &str) -> Vec<(DeliveredItem, DeadLetter)> {
    let deliveries = leased(shard.run(on(queue, take(128))));
    deliveries.into_iter().map(|delivery| (delivery.clone(), delivery.dead.unwrap())).collect()
}

#[test]
fn an_item_that_was_tried_enough_is_a_dead_letter() {
    let mut shard = Shard::with_room();
    shard.run(make(attempts(3)));
    shard.run(send_with(&["a"], || priority(7)));
    shard.run(lease_as(1, Receiver::Unnamed, false, 1_000));
    shard.wait(10);
    shard.run(nack(&[(1, 1)], None));
    shard.run(lease_for("other", 1, 0));
    shard.wait(10);
    shard.run(nack(&[(1, 2)], None));
    shard.run(lease_as(1, Receiver::Unnamed, false, 1_000));
    shard.wait(1_001);
    let before = shard.revision();
    let applied = shard.entry(vec![advance(512).into()]);
    audit(&shard.tables);
    assert_eq!(wakes(applied.effects.clone()), ["jobs.dead"]);
    let told = changes(applied.effects);
    let sizes = |name: &str, ready| ChangeKind::QueueChanged { queue: name.parse().unwrap(), ready, leased: 0 };
    assert_eq!(
        told.iter().map(|change| change.kind.clone()).collect::<Vec<_>>(),
        [sizes("jobs", 0), sizes("jobs.dead", 1)]
    );
    assert!(told.iter().all(|change| change.revision == Revision(before + 1)));

    let (totals, dead) = (shard.view("jobs").totals, shard.view("jobs.dead"));
    assert_eq!((totals.delivered, totals.failed, totals.dead), (3, 3, 1));
    assert_eq!((dead.settings.max_attempts, dead.create_time.0, dead.totals.sent), (0, START + 1_021, 1));
    let failure = |attempt, consumer: &str, time, kind| {
        let reason = if kind == FailureKind::Nacked { "not now".to_owned() } else { String::new() };
        Failure { attempt, consumer: consumer.to_owned(), time: Timestamp(START + time), kind, reason }
    };
    let letter = letters(&mut shard, "jobs.dead").remove(0);
    assert_eq!(
        letter.1,
        DeadLetter {
            queue: queue(),
            item: 1,
            time: Timestamp(START + 1_021),
            reason: DeadReason::TooManyAttempts,
            attempts: 3,
            group: None,
            failures: vec![
                failure(1, "worker", 10, FailureKind::Nacked),
                failure(2, "other", 20, FailureKind::Nacked),
                failure(3, "worker", 1_021, FailureKind::LeaseEnded),
            ],
        }
    );
    let DeliveredItem { delivery, item, sender, send_time, revision, priority, .. } = letter.0;
    assert_eq!((delivery.item, delivery.attempt), (1, 1));
    assert_eq!((&item[..], sender.as_str(), send_time.0, priority), (&b"a"[..], "ann", START, 7));
    assert_eq!(revision, Revision(before + 1), "of the command that put it there");
}

#[test]
fn a_nack_of_the_last_attempt_buries_at_once() {
    let mut shard = Shard::with_room();
    shard.run(make(attempts(1)));
    shard.run(send(&["a"]));
    shard.lease(1);
    let before = shard.revision();
    shard.run(nack(&[(1, 1)], Some(5_000)));
    assert_eq!(shard.revision(), before + 1);
    assert_eq!((shard.places("jobs"), shard.places("jobs.dead")), ((0, 0, 0, 0), (1, 0, 0, 0)));
    assert_eq!(letters(&mut shard, "jobs.dead")[0].1.reason, DeadReason::TooManyAttempts);
}

#[test]
fn a_rejected_item_is_a_dead_letter_whatever_its_attempts() {
    let mut shard = Shard::with_room();
    shard.run(make(attempts(0)));
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    let applied = shard.entry(vec![reject(&[(2, 1), (1, 1)]).into()]);
    assert_eq!(wakes(applied.effects), ["jobs.dead"]);
    audit(&shard.tables);
    let letters = letters(&mut shard, "jobs.dead");
    assert_eq!(letters.iter().map(|letter| letter.1.item).collect::<Vec<_>>(), [2, 1], "in the order of the command");
    for (_, dead) in letters {
        assert_eq!((dead.reason, dead.attempts), (DeadReason::Rejected, 1));
        let [failure] = &dead.failures[..] else { panic!("one failure") };
        assert_eq!((failure.kind, &failure.reason[..]), (FailureKind::Rejected, "no use"));
    }
}

#[test]
fn without_a_bound_an_item_is_tried_for_ever_and_its_newest_failures_are_known() {
    let mut shard = Shard::with_room();
    shard.run(make(attempts(0)));
    shard.run(send(&["a"]));
    for attempt in 1..=20 {
        assert_eq!(ids(&shard.lease(1)), [(1, attempt)]);
        shard.run(nack(&[(1, attempt)], None));
        audit(&shard.tables);
    }
    shard.lease(1);
    shard.run(reject(&[(1, 21)]));
    let dead = letters(&mut shard, "jobs.dead").remove(0).1;
    assert_eq!(dead.attempts, 21);
    assert_eq!(dead.failures.iter().map(|failure| failure.attempt).collect::<Vec<_>>(), (14..=21).collect::<Vec<_>>());
}

#[test]
fn a_queue_says_where_its_dead_letters_go() {
    let mut shard = Shard::with_room();
    shard.run(make(buried_in(Some("graves"))));
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    shard.run(reject(&[(1, 1)]));
    assert_eq!(letters(&mut shard, "graves")[0].1.queue, queue());
    shard.run(configure(buried_in(None)));
    shard.run(reject(&[(2, 1)]));
    assert_eq!(shard.places("jobs.dead"), (1, 0, 0, 0));
    audit(&shard.tables);
}

#[test]
fn a_queue_that_exists_takes_dead_letters_whatever_it_may_hold() {
    let mut shard = Shard::with_room();
    let closed = SettingsPatch { state: Some(crate::QueueState::Closed), max_items: Some(1), ..attempts(5) };
    shard.run(on("graves", make(closed.clone())));
    shard.run(make(buried_in(Some("graves"))));
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    let applied = shard.entry(vec![reject(&[(1, 1), (2, 1)]).into()]);
    assert_eq!(wakes(applied.effects), [""; 0], "it hands out nothing");
    let graves = shard.view("graves");
    assert_eq!((graves.ready, graves.settings.max_attempts), (2, 5), "its settings stay what they are");
    audit(&shard.tables);
}

#[test]
fn a_long_name_is_cut_to_make_room_for_the_ending() {
    let mut shard = Shard::with_room();
    let longest = format!("{}é", "q".repeat(126));
    shard.run(on(&longest, send(&["a"])));
    shard.run(on(&longest, lease(1)));
    shard.run(on(&longest, reject(&[(1, 1)])));
    let expected = format!("{}.dead", "q".repeat(123));
    assert_eq!(shard.places(&expected), (1, 0, 0, 0));

    let own = format!("{}.dead", "q".repeat(123));
    shard.run(on(&own, lease(1)));
    let rejected = on(&own, reject(&[(1, 1)]));
    shard.run(rejected);
    assert_eq!(shard.places(&own), (1, 0, 0, 0), "a queue does not bury in itself");

    let split = format!("{}é{}", "q".repeat(122), "q".repeat(4));
    shard.run(on(&split, send(&["a"])));
    shard.run(on(&split, lease(1)));
    shard.run(on(&split, reject(&[(1, 1)])));
    assert_eq!(shard.places(&format!("{}.dead", "q".repeat(122))), (1, 0, 0, 0), "cut between letters");
    audit(&shard.tables);
}

#[test]
fn dead_letters_do_not_die_again() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["a"], || priority(3)));
    shard.lease(1);
    shard.run(reject(&[(1, 1)]));
    shard.run(on("jobs.dead", configure(attempts(2))));
    for attempt in 1..=5 {
        assert_eq!(ids(&leased(shard.run(on("jobs.dead", lease(1))))), [(1, attempt)]);
        let given_back = if attempt % 2 == 0 { nack(&[(1, attempt)], None) } else { reject(&[(1, attempt)]) };
        assert_eq!(results(shard.run(on("jobs.dead", given_back))), [DeliveryResult::Done]);
        audit(&shard.tables);
    }
    assert_eq!(shard.view("jobs.dead").totals.dead, 0);
    let letter = letters(&mut shard, "jobs.dead").remove(0);
    assert_eq!((letter.1.attempts, letter.1.queue, letter.0.priority), (1, queue(), 3), "the story of its death stays");
}

#[test]
fn what_was_sent_among_dead_letters_can_die_itself() {
    let mut shard = Shard::with_room();
    shard.run(on("jobs.dead", send(&["ordinary"])));
    shard.run(on("jobs.dead", lease(1)));
    shard.run(on("jobs.dead", reject(&[(1, 1)])));
    assert_eq!(letters(&mut shard, "jobs.dead.dead")[0].1.queue.as_str(), "jobs.dead");
    audit(&shard.tables);
}

#[test]
fn dead_letters_live_as_long_as_their_queue_says() {
    let mut shard = Shard::with_room();
    shard.run(on("jobs.dead", make(SettingsPatch { retention_ms: Some(Some(500)), ..SettingsPatch::default() })));
    shard.run(send_with(&["a"], || ItemOptions { ttl_ms: Some(100), ..group("g") }));
    shard.lease(1);
    shard.wait(50);
    shard.run(reject(&[(1, 1)]));
    audit(&shard.tables);
    shard.wait(499);
    shard.advance();
    assert_eq!(shard.places("jobs.dead"), (1, 0, 0, 0), "its own time to live ended with its death");
    shard.wait(1);
    shard.advance();
    assert_eq!(shard.places("jobs.dead"), (0, 0, 0, 0));
    assert_eq!(shard.view("jobs.dead").totals.expired, 1);
    audit(&shard.tables);
}

#[test]
fn many_deaths_in_one_step_make_one_queue() {
    let mut shard = Shard::with_room();
    shard.run(make(attempts(1)));
    shard.run(send(&["x"; 100]));
    shard.lease(100);
    shard.wait(30_001);
    let applied = shard.entry(vec![advance(512).into()]);
    assert_eq!(wakes(applied.effects), ["jobs.dead"]);
    assert_eq!(shard.places("jobs.dead"), (100, 0, 0, 0));
    let letters = letters(&mut shard, "jobs.dead");
    assert!(letters.iter().zip(1..).all(|(letter, number)| letter.1.item == number), "in their order");
    audit(&shard.tables);
}
