use conclave_types::Timestamp;

use super::super::audit::audit;
use super::super::harness::*;
use crate::{DeliveryResult, ItemOptions, NotBefore, Outcome, Receiver, SettingsPatch};

use DeliveryResult::{AlreadyDone, Done, Stale};

#[test]
fn a_lease_that_ended_returns_the_item_to_its_place() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c"]));
    shard.run(lease_as(1, Receiver::Unnamed, false, 1_000));
    shard.run(lease_as(1, Receiver::Unnamed, false, 50_000));
    assert_eq!(shard.next_due(), Some(START + 1_001));
    shard.wait(1_001);
    let applied = shard.entry(vec![advance(512).into()]);
    assert_eq!(applied.outcomes, [Outcome::Advanced { more: false }]);
    assert_eq!(wakes(applied.effects), ["jobs"]);
    assert_eq!(shard.next_due(), Some(START + 50_001));
    assert_eq!(ids(&shard.lease(9)), [(1, 2), (3, 1)]);
    assert_eq!(results(shard.run(ack(&[(1, 1), (1, 2)]))), [Stale, Done]);
    audit(&shard.tables);
}

#[test]
fn time_never_goes_back() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    shard.lease(1);
    shard.wait(30_001);
    shard.run(advance(1));
    shard.now = START;
    assert_eq!(shard.entry(vec![]).clock, Timestamp(START + 30_001));
    assert_eq!(results(shard.run(ack(&[(1, 1)]))), [Stale]);
}

#[test]
fn an_ack_is_forgotten_after_its_time() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c"]));
    shard.lease(3);
    shard.run(ack(&[(2, 1)]));
    shard.wait(10);
    shard.run(ack(&[(1, 1)]));
    assert_eq!(shard.next_due(), Some(START + 30_001), "leases are looked at first");
    shard.wait(10 * MINUTE - 10);
    shard.advance();
    assert_eq!(results(shard.run(ack(&[(1, 1), (2, 1)]))), [AlreadyDone, AlreadyDone], "in the order of items");
    shard.wait(20);
    shard.advance();
    assert_eq!(results(shard.run(ack(&[(1, 1), (2, 1), (3, 1)]))), [Stale, Stale, Stale]);
    audit(&shard.tables);
}

#[test]
fn ending_leases_keeps_to_its_limit() {
    let mut shard = Shard::with_room();
    shard.run(send(&["x"; 50]));
    shard.lease(50);
    shard.wait(30_001);
    assert_eq!(shard.run(advance(21)), Outcome::Advanced { more: true });
    assert_eq!(shard.sizes(), (20, 30));
    audit(&shard.tables);
    shard.advance();
    assert_eq!(shard.sizes(), (50, 0));
    assert_eq!(shard.next_due(), None);
}

#[test]
fn ending_delays_keeps_to_its_limit() {
    let mut shard = Shard::with_room();
    let late = || ItemOptions { not_before: NotBefore::After(100), ..ItemOptions::default() };
    shard.run(send_with(&["x"; 50], late));
    shard.wait(100);
    assert_eq!(shard.run(advance(21)), Outcome::Advanced { more: true });
    assert_eq!(shard.places("jobs"), (20, 0, 30, 0));
    audit(&shard.tables);
    shard.advance();
    assert_eq!(shard.places("jobs"), (50, 0, 0, 0));
    assert_eq!(shard.next_due(), None);
}

#[test]
fn ending_lives_keeps_to_its_limit() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["x"; 50], || ttl(100)));
    shard.wait(100);
    assert_eq!(shard.run(advance(21)), Outcome::Advanced { more: true });
    assert_eq!(shard.places("jobs"), (30, 0, 0, 0));
    audit(&shard.tables);
    shard.advance();
    assert_eq!(shard.places("jobs"), (0, 0, 0, 0));
    assert_eq!((shard.next_due(), shard.view("jobs").totals.expired), (None, 50));
}

#[test]
fn items_go_when_their_life_is_over_wherever_they_wait() {
    let mut shard = Shard::with_room();
    let short = |options| ItemOptions { ttl_ms: Some(100), ..options };
    shard.run(send_each(&[
        ("ready", short(priority(4))),
        ("delayed", ItemOptions { not_before: NotBefore::After(5_000), ..short(priority(0)) }),
        ("head", group("g")),
        ("behind", short(group("g"))),
        ("last", group("g")),
    ]));
    assert_eq!(shard.places("jobs"), (2, 0, 1, 2));
    assert_eq!(shard.next_due(), Some(START + 100));
    let before = shard.revision();
    shard.wait(99);
    shard.advance();
    assert_eq!(shard.places("jobs"), (2, 0, 1, 2));
    shard.wait(1);
    shard.advance();
    assert_eq!(shard.places("jobs"), (1, 0, 0, 1));
    assert_eq!((shard.revision(), shard.view("jobs").totals.expired), (before + 1, 3));
    audit(&shard.tables);
}

#[test]
fn an_item_that_is_held_outlives_its_time_until_it_is_given_back() {
    for (given_back, is_acked) in
        [(ack(&[(1, 1)]), true), (nack(&[(1, 1)], Some(50)), false), (reject(&[(1, 1)]), false)]
    {
        let mut shard = Shard::with_room();
        shard.run(send_with(&["a"], || ttl(100)));
        shard.lease(1);
        shard.wait(200);
        shard.advance();
        assert_eq!(shard.sizes(), (0, 1), "its receiver may still be done with it");
        audit(&shard.tables);
        assert_eq!(results(shard.run(given_back)), [Done]);
        assert_eq!(shard.places("jobs"), (0, 0, 0, 0));
        let totals = shard.view("jobs").totals;
        assert_eq!((totals.acked, totals.expired, totals.dead), (is_acked.into(), (!is_acked).into(), 0));
        audit(&shard.tables);
    }
}

#[test]
fn an_item_whose_lease_ends_after_its_life_is_gone() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["a"], || ttl(100)));
    shard.lease(1);
    shard.wait(30_001);
    shard.advance();
    assert_eq!(shard.places("jobs"), (0, 0, 0, 0));
    let totals = shard.view("jobs").totals;
    assert_eq!((totals.failed, totals.expired), (1, 1));
    audit(&shard.tables);
}

#[test]
fn an_item_given_back_lives_on_up_to_its_end() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["a"], || ttl(100)));
    shard.lease(1);
    shard.wait(50);
    shard.run(nack(&[(1, 1)], Some(5_000)));
    audit(&shard.tables);
    shard.wait(50);
    shard.advance();
    assert_eq!(shard.places("jobs"), (0, 0, 0, 0));
    shard.wait(30_000);
    shard.advance();
    assert_eq!(shard.next_due(), None);
    audit(&shard.tables);
}

#[test]
fn a_queue_bounds_the_life_of_its_items() {
    let mut shard = Shard::with_room();
    let keep = |ms| SettingsPatch { retention_ms: Some(ms), ..SettingsPatch::default() };
    shard.run(make(keep(Some(1_000))));
    shard.run(send_each(&[("short", ttl(100)), ("long", ttl(9_000)), ("none", priority(0))]));
    shard.run(configure(keep(None)));
    shard.run(send(&["for ever"]));
    for (wait, left) in [(100, 3), (900, 1), (1 << 40, 1)] {
        shard.wait(wait);
        shard.advance();
        assert_eq!(shard.sizes(), (left, 0));
        audit(&shard.tables);
    }
}

#[test]
fn what_is_due_in_many_queues_is_one_revision() {
    let mut shard = Shard::with_room();
    for name in ["a", "b", "c"] {
        shard.run(on(name, send(&["x"])));
        shard.run(on(name, lease(1)));
    }
    let before = shard.revision();
    shard.wait(30_001);
    let told = changes(shard.entry(vec![advance(512).into()]).effects);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|change| change.revision.0 == before + 1));
    assert_eq!(shard.revision(), before + 1);
}
