use super::super::audit::audit;
use super::super::harness::*;
use crate::{
    DeliveryResult, ItemOptions, NotBefore, Outcome, Overflow, QueueSettings, QueueState, Receiver, Refusal,
    SettingsPatch,
};

fn state(state: QueueState) -> SettingsPatch {
    SettingsPatch { state: Some(state), ..SettingsPatch::default() }
}

fn bounds(max_items: u64, max_bytes: u64, overflow: Overflow) -> SettingsPatch {
    SettingsPatch {
        max_items: Some(max_items),
        max_bytes: Some(max_bytes),
        overflow: Some(overflow),
        ..SettingsPatch::default()
    }
}

const FULL: Outcome = Outcome::Refused(Refusal::QueueFull);

#[test]
fn a_queue_is_made_once_with_the_settings_that_are_given() {
    let mut shard = Shard::with_room();
    let settings = SettingsPatch { max_attempts: Some(3), backoff_ms: Some(100), ..SettingsPatch::default() };
    assert!(matches!(shard.run(make(settings)), Outcome::QueueConfigured { .. }));
    let expected = QueueSettings { max_attempts: 3, backoff_ms: 100, ..QueueSettings::default() };
    assert_eq!(shard.view("jobs").settings, expected);
    assert_eq!(shard.run(make(SettingsPatch::default())), Outcome::Refused(Refusal::QueueExists));
    shard.run(on("other", send(&["a"])));
    assert_eq!(shard.view("other").settings, QueueSettings::default());
    assert_eq!(shard.run(on("other", make(SettingsPatch::default()))), Outcome::Refused(Refusal::QueueExists));
    audit(&shard.tables);
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let mut shard = Shard::with_room();
    let everything = SettingsPatch {
        state: Some(QueueState::Paused),
        lease_ms: Some(1_000),
        max_attempts: Some(2),
        backoff_ms: Some(3),
        max_backoff_ms: Some(4),
        deduplication_window_ms: Some(5),
        max_items: Some(6),
        max_bytes: Some(7),
        overflow: Some(Overflow::DropOldest),
        retention_ms: Some(Some(8)),
        max_in_flight: Some(9),
        max_in_flight_per_consumer: Some(10),
        dead_letter_queue: Some(Some("graves".parse().unwrap())),
    };
    shard.run(make(everything));
    let before = shard.view("jobs").settings;
    shard.run(configure(SettingsPatch::default()));
    assert_eq!(shard.view("jobs").settings, before);
    let changed = SettingsPatch {
        max_attempts: Some(0),
        retention_ms: Some(None),
        dead_letter_queue: Some(None),
        ..SettingsPatch::default()
    };
    shard.run(configure(changed));
    let expected = QueueSettings { max_attempts: 0, retention_ms: None, dead_letter_queue: None, ..before };
    assert_eq!(shard.view("jobs").settings, expected);
}

#[test]
fn a_queue_does_not_bury_in_itself() {
    let mut shard = Shard::with_room();
    let own = || SettingsPatch { dead_letter_queue: Some(Some(queue())), ..SettingsPatch::default() };
    let before = shard.tables.dump();
    assert_eq!(shard.run(make(own())), Outcome::Refused(Refusal::SameQueue));
    assert_eq!(shard.tables.dump(), before, "and is not made");
    shard.run(make(SettingsPatch::default()));
    assert_eq!(shard.run(configure(own())), Outcome::Refused(Refusal::SameQueue));
    assert_eq!(shard.view("jobs").settings.dead_letter_queue, None);
}

#[test]
fn a_paused_queue_takes_items_and_hands_out_none() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    let held = Receiver::Request { participant: "ann".parse().unwrap(), request_id: "r".into() };
    shard.run(lease_as(1, held.clone(), false, 30_000));
    shard.run(configure(state(QueueState::Paused)));
    let applied = shard.entry(vec![send(&["c"]).into()]);
    assert_eq!((wakes(applied.effects), shard.sizes()), (vec![], (2, 1)), "nobody is woken for nothing");
    assert_eq!((shard.lease(9), leased(shard.run(take(9)))), (vec![], vec![]));
    assert!(!shard.view("jobs").hands_out());
    assert_eq!(ids(&leased(shard.run(lease_as(1, held, true, 30_000)))), [(1, 1)], "what is held stays held");
    assert_eq!(results(shard.run(nack(&[(1, 1)], None))), [DeliveryResult::Done]);

    let applied = shard.entry(vec![configure(state(QueueState::Active)).into()]);
    assert_eq!(wakes(applied.effects), ["jobs"], "receivers look again");
    assert_eq!(ids(&shard.lease(9)), [(1, 2), (2, 1), (3, 1)]);
}

#[test]
fn a_closed_queue_takes_nothing_and_hands_out_nothing() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(1);
    shard.run(configure(state(QueueState::Closed)));
    let before = shard.tables.dump();
    assert_eq!(shard.run(send(&["c"])), Outcome::Refused(Refusal::QueueClosed));
    assert_eq!(shard.lease(9), []);
    assert_eq!(shard.tables.dump(), before);
    assert_eq!(results(shard.run(ack(&[(1, 1)]))), [DeliveryResult::Done]);
    shard.run(configure(state(QueueState::Active)));
    assert_eq!(ids(&shard.lease(9)), [(2, 1)]);
}

#[test]
fn time_passes_in_a_paused_queue_too() {
    let mut shard = Shard::with_room();
    let late = ItemOptions { not_before: NotBefore::After(100), ..ItemOptions::default() };
    shard.run(send_each(&[("a", priority(0)), ("b", late), ("c", ttl(100))]));
    shard.run(lease_as(1, Receiver::Unnamed, false, 1_000));
    shard.run(configure(state(QueueState::Paused)));
    shard.wait(1_001);
    let applied = shard.entry(vec![advance(512).into()]);
    assert_eq!((wakes(applied.effects), shard.places("jobs")), (vec![], (2, 0, 0, 0)));
    audit(&shard.tables);
}

#[test]
fn a_full_queue_refuses_what_does_not_fit_as_a_whole() {
    let mut shard = Shard::with_room();
    shard.run(make(bounds(3, 0, Overflow::Reject)));
    shard.run(send(&["a", "b"]));
    shard.lease(1);
    let before = shard.tables.dump();
    assert_eq!(shard.run(send(&["c", "d"])), FULL);
    assert_eq!(shard.tables.dump(), before);
    assert_eq!(shard.run(send(&["c"])), sent(3, 5));
    assert_eq!(shard.run(send(&["d"])), FULL, "what is leased counts");
    shard.run(ack(&[(1, 1)]));
    assert_eq!(shard.run(send(&["d"])), sent(4, 7));
}

#[test]
fn a_queue_is_bounded_in_bytes() {
    let mut shard = Shard::with_room();
    shard.run(make(bounds(99, 10, Overflow::Reject)));
    assert_eq!(shard.run(send(&["12345", "67890"])), sent(1, 3));
    assert_eq!(shard.run(send(&["1"])), FULL);
    shard.run(cancel(&[1]));
    assert_eq!(shard.run(send(&["123456"])), FULL);
    assert_eq!(shard.run(send(&["12345"])), sent(3, 5));
    assert_eq!(shard.view("jobs").bytes, 10);
}

#[test]
fn duplicates_need_no_room() {
    let mut shard = Shard::with_room();
    shard.run(make(bounds(2, 0, Overflow::Reject)));
    shard.run(send_with(&["a"], || message("m")));
    let mixed = shard.run(send_each(&[("a", message("m")), ("b", priority(0))]));
    assert!(matches!(mixed, Outcome::Sent { first_item: 2, .. }), "{mixed:?}");
    let again = shard.run(send_with(&["a"], || message("m")));
    assert!(matches!(again, Outcome::Sent { first_item: 1, .. }), "full, and yet nothing is to be added: {again:?}");
    let refused = shard.run(send_each(&[("a", message("m")), ("c", message("n"))]));
    assert_eq!(refused, FULL);
    assert_eq!(shard.view("jobs").totals.duplicates, 2, "a refused send counts for nothing");
    shard.run(configure(bounds(9, 0, Overflow::Reject)));
    assert_eq!(shard.run(send_with(&["c"], || message("n"))), sent(3, 6), "and is not remembered");
}

#[test]
fn the_oldest_of_the_lowest_priority_make_room() {
    let mut shard = Shard::with_room();
    shard.run(make(bounds(4, 0, Overflow::DropOldest)));
    shard.run(send_each(&[("a", priority(5)), ("b", priority(1)), ("c", priority(1)), ("d", priority(9))]));
    assert_eq!(shard.run(send(&["e"])), sent(5, 4));
    assert_eq!(shard.run(send(&["f", "g"])), sent(6, 5), "items just sent are as old as any: 3 and 5 went");
    audit(&shard.tables);
    let totals = shard.view("jobs").totals;
    assert_eq!((totals.dropped, totals.sent), (3, 7));
    assert_eq!(ids(&shard.lease(9)), [(4, 1), (1, 1), (6, 1), (7, 1)]);
}

#[test]
fn only_what_waits_makes_room() {
    let mut shard = Shard::with_room();
    shard.run(make(bounds(3, 0, Overflow::DropOldest)));
    let late = ItemOptions { not_before: NotBefore::After(9_000), ..ItemOptions::default() };
    shard.run(send_each(&[("held", priority(0)), ("late", late), ("ready", priority(0))]));
    shard.lease(1);
    let before = shard.tables.dump();
    assert_eq!(shard.run(send(&["x", "y"])), FULL);
    assert_eq!(shard.tables.dump(), before, "nothing goes for a send that is refused");
    assert_eq!(shard.run(send(&["x"])), sent(4, 5));
    assert_eq!(shard.places("jobs"), (1, 1, 1, 0));
    audit(&shard.tables);
}

#[test]
fn bytes_make_room_as_items_do() {
    let mut shard = Shard::with_room();
    shard.run(make(bounds(99, 10, Overflow::DropOldest)));
    shard.run(send(&["1234", "5678", "90"]));
    assert_eq!(shard.run(send(&["12345"])), sent(4, 4));
    assert_eq!((shard.view("jobs").bytes, shard.view("jobs").totals.dropped), (7, 2));
    assert_eq!(shard.run(send(&["12345678901"])), FULL, "larger than all of it");
    assert_eq!(shard.sizes(), (2, 0));
    audit(&shard.tables);
}

#[test]
fn one_send_puts_out_a_bounded_number() {
    let mut shard = Shard::with_room();
    for _ in 0..10 {
        shard.run(send(&["x"; 128]));
    }
    shard.run(configure(bounds(100, 0, Overflow::DropOldest)));
    assert_eq!(shard.run(send(&["y"])), FULL, "it was made much smaller than it is");
    assert_eq!(shard.sizes(), (1_280, 0));
    shard.run(configure(bounds(300, 0, Overflow::DropOldest)));
    assert!(matches!(shard.run(send(&["y"])), Outcome::Sent { .. }));
    assert_eq!(shard.sizes(), (300, 0));
    audit(&shard.tables);
}

#[test]
fn a_wait_doubles_with_each_failure() {
    let mut shard = Shard::with_room();
    let settings = SettingsPatch {
        backoff_ms: Some(100),
        max_backoff_ms: Some(500),
        max_attempts: Some(0),
        ..SettingsPatch::default()
    };
    shard.run(make(settings));
    shard.run(send(&["a"]));
    for (attempt, wait) in [(1, 100), (2, 200), (3, 400), (4, 500), (5, 500)] {
        shard.run(lease_as(1, Receiver::Unnamed, false, 1_000));
        if attempt % 2 == 0 {
            shard.run(nack(&[(1, attempt)], None));
        } else {
            shard.wait(1_001);
            shard.advance();
        }
        assert_eq!(shard.places("jobs"), (0, 0, 1, 0), "after attempt {attempt}");
        shard.wait(wait - 1);
        shard.advance();
        assert_eq!(shard.sizes(), (0, 0), "after attempt {attempt}");
        shard.wait(1);
        shard.advance();
        assert_eq!(shard.sizes(), (1, 0), "after attempt {attempt}");
        audit(&shard.tables);
    }
    shard.lease(1);
    shard.run(nack(&[(1, 6)], Some(0)));
    assert_eq!(shard.sizes(), (1, 0), "its consumer says that it need not wait");
}

#[test]
fn a_bound_on_attempts_holds_from_now_on() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    for attempt in 1..=5 {
        shard.lease(1);
        shard.run(nack(&[(1, attempt)], None));
    }
    shard.run(configure(SettingsPatch { max_attempts: Some(3), ..SettingsPatch::default() }));
    assert_eq!(ids(&shard.lease(1)), [(1, 6)], "it has one more chance");
    shard.run(nack(&[(1, 6)], None));
    assert_eq!((shard.sizes(), shard.places("jobs.dead")), ((0, 0), (1, 0, 0, 0)));
    audit(&shard.tables);
}
