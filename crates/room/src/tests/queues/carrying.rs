use conclave_types::Revision;

use super::super::audit::audit;
use super::super::harness::*;
use crate::{
    CancelResult, ItemOptions, NotBefore, Operation, Outcome, Overflow, QueueState, Receiver, Refusal, SettingsPatch,
};

use CancelResult::{Cancelled, Gone, InFlight};

fn moved(moved: u64, left: u64, revision: u64) -> Outcome {
    Outcome::ItemsMoved { moved, left, revision: Revision(revision) }
}

fn purged(purged: u64, left: u64, revision: u64) -> Outcome {
    Outcome::ItemsPurged { purged, left, revision: Revision(revision) }
}

#[test]
fn items_that_wait_can_be_cancelled() {
    let mut shard = Shard::with_room();
    let late = ItemOptions { not_before: NotBefore::After(500), ..ItemOptions::default() };
    shard.run(send_each(&[
        ("held", priority(9)),
        ("ready", priority(4)),
        ("late", late),
        ("head", group("g")),
        ("behind", group("g")),
        ("stays", priority(4)),
    ]));
    shard.lease(1);
    let outcome = shard.run(cancel(&[1, 2, 3, 5, 4, 2, 7, 0]));
    let results = vec![InFlight, Cancelled, Cancelled, Cancelled, Cancelled, Gone, Gone, Gone];
    assert_eq!(outcome, Outcome::ItemsCancelled { results, revision: Revision(4) });
    assert_eq!(shard.places("jobs"), (1, 1, 0, 0));
    assert_eq!(shard.view("jobs").totals.removed, 4);
    audit(&shard.tables);
    shard.wait(500);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(6, 1)]);
}

#[test]
fn cancelling_nothing_changes_nothing() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    shard.lease(1);
    let before = shard.tables.dump();
    let outcome = shard.run(cancel(&[1, 2]));
    assert_eq!(outcome, Outcome::ItemsCancelled { results: vec![InFlight, Gone], revision: Revision(3) });
    assert_eq!(shard.tables.dump(), before);
}

#[test]
fn ready_items_move_behind_the_last_of_another_queue() {
    let mut shard = Shard::with_room();
    shard.run(on("other", send(&["before"])));
    shard.run(send_each(&[("a", priority(0)), ("b", priority(9)), ("c", ttl(1_000)), ("d", priority(0))]));
    shard.lease(1);
    shard.run(nack(&[(2, 1)], None));
    shard.wait(5);
    let applied = shard.entry(vec![move_items(Some("other"), 3).into()]);
    assert_eq!(applied.outcomes, [moved(3, 1, 6)]);
    assert_eq!(wakes(applied.effects.clone()), ["other"]);
    assert!(changes(applied.effects).iter().all(|change| change.revision == Revision(6)));
    audit(&shard.tables);
    assert_eq!((shard.view("jobs").totals.removed, shard.view("other").totals.sent), (3, 4));

    let got = leased(shard.run(on("other", lease(9))));
    let bodies: Vec<_> = got.iter().map(|delivery| (&delivery.item[..], delivery.delivery.item)).collect();
    assert_eq!(bodies, [(&b"b"[..], 2), (b"before", 1), (b"a", 3), (b"c", 4)]);
    assert_eq!(got[0].delivery.attempt, 1, "attempts are counted anew");
    assert_eq!((got[0].send_time.0, got[0].revision), (START, Revision(6)));
    shard.run(on("other", nack(&[(4, 1)], None)));
    shard.wait(995);
    shard.advance();
    assert_eq!(shard.view("other").totals.expired, 1, "its time to live goes on");
    assert_eq!(ids(&shard.lease(9)), [(4, 1)]);
    audit(&shard.tables);
}

#[test]
fn items_move_into_a_queue_that_is_made_for_them() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    assert_eq!(shard.run(move_items(Some("new"), 9)), moved(1, 0, 3));
    assert_eq!(shard.places("new"), (1, 0, 0, 0));
    assert_eq!(shard.run(move_items(Some("newer"), 9)), moved(0, 0, 3));
    let queues = crate::read::list_queues(&shard.tables, GROUP, ROOM, None, 9).unwrap();
    assert_eq!(queues.len(), 2, "none is made for nothing");
    audit(&shard.tables);
}

#[test]
fn items_do_not_move_to_where_they_are() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    assert_eq!(shard.run(move_items(Some("jobs"), 9)), Outcome::Refused(Refusal::SameQueue));
    assert_eq!(shard.run(on("none", move_items(Some("none"), 9))), Outcome::Refused(Refusal::SameQueue));
}

#[test]
fn a_queue_takes_what_is_moved_as_it_takes_a_send() {
    let mut shard = Shard::with_room();
    let two = SettingsPatch { max_items: Some(2), ..SettingsPatch::default() };
    shard.run(on("other", make(two)));
    shard.run(on("other", send(&["before"])));
    shard.run(send(&["a", "b"]));
    let before = shard.tables.dump();
    assert_eq!(shard.run(move_items(Some("other"), 2)), Outcome::Refused(Refusal::QueueFull));
    assert_eq!(shard.tables.dump(), before, "all or none");

    let closed = SettingsPatch { state: Some(QueueState::Closed), ..SettingsPatch::default() };
    shard.run(on("other", configure(closed)));
    assert_eq!(shard.run(move_items(Some("other"), 1)), Outcome::Refused(Refusal::QueueClosed));

    let drops = SettingsPatch {
        state: Some(QueueState::Active),
        overflow: Some(Overflow::DropOldest),
        ..SettingsPatch::default()
    };
    shard.run(on("other", configure(drops)));
    let outcome = shard.run(move_items(Some("other"), 2));
    assert!(matches!(outcome, Outcome::ItemsMoved { moved: 2, left: 0, .. }), "{outcome:?}");
    let other = shard.view("other");
    assert_eq!((other.ready, other.totals.dropped), (2, 1));
    audit(&shard.tables);
}

#[test]
fn a_group_moves_in_its_order() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["1", "2", "3"], || group("g")));
    assert_eq!(shard.run(move_items(Some("other"), 9)), moved(1, 1, 3), "the next is ready once the head has gone");
    assert_eq!(shard.run(move_items(Some("other"), 9)), moved(1, 1, 4));
    audit(&shard.tables);
    assert_eq!(shard.places("other"), (1, 0, 0, 1));
    assert_eq!(shard.run(move_items(Some("other"), 9)), moved(1, 0, 5));
    for body in ["1", "2", "3"] {
        let got = leased(shard.run(on("other", lease(9))));
        assert_eq!((got.len(), &got[0].item[..]), (1, body.as_bytes()));
        shard.run(on("other", ack(&ids(&got))));
    }
    audit(&shard.tables);
}

#[test]
fn one_move_carries_a_bounded_number_of_bytes() {
    let mut shard = Shard::with_room();
    let large = "x".repeat(300 << 10);
    for _ in 0..5 {
        shard.run(send(&[&large]));
    }
    shard.run(send(&[&"y".repeat(2 << 20)]));
    assert_eq!(shard.run(move_items(Some("other"), 99)), moved(3, 3, 8));
    assert_eq!(shard.run(move_items(Some("other"), 99)), moved(2, 1, 9));
    assert_eq!(shard.run(move_items(Some("other"), 99)), moved(1, 0, 10), "one always goes");
    audit(&shard.tables);
}

#[test]
fn dead_letters_go_back_to_where_they_died() {
    let mut shard = Shard::with_room();
    let graves =
        || SettingsPatch { dead_letter_queue: Some(Some("graves".parse().unwrap())), ..SettingsPatch::default() };
    for name in ["jobs", "other"] {
        shard.run(on(name, make(graves())));
        shard.run(on(name, send_each(&[("a", ItemOptions { priority: 6, ..group("g") }), ("b", group("g"))])));
        shard.run(on(name, lease(1)));
        shard.run(on(name, reject(&[(1, 1)])));
    }
    shard.run(on("graves", send(&["ordinary"])));
    assert_eq!(shard.places("graves"), (3, 0, 0, 0));
    let before = shard.revision();
    let applied = shard.entry(vec![on("graves", move_items(None, 9)).into()]);
    assert_eq!(applied.outcomes, [moved(2, 1, before + 1)], "what never died stays");
    let told: Vec<_> = changes(applied.effects).iter().map(|change| change.revision.0).collect();
    assert_eq!(told, [before + 1; 3]);
    audit(&shard.tables);
    for name in ["jobs", "other"] {
        assert_eq!(shard.places(name), (1, 0, 0, 1), "behind the others of its group");
        shard.run(on(name, lease(9)));
        shard.run(on(name, ack(&[(2, 1)])));
        let back = leased(shard.run(on(name, lease(9)))).remove(0);
        assert_eq!((&back.item[..], back.priority, back.group.as_deref()), (&b"a"[..], 6, Some(&b"g"[..])));
        assert_eq!((back.delivery.item, back.delivery.attempt, back.dead), (3, 1, None));
        shard.run(on(name, reject(&[(3, 1)])));
    }
    assert_eq!(shard.places("graves"), (3, 0, 0, 0), "it can die once more");
    audit(&shard.tables);
}

#[test]
fn ordinary_items_do_not_hold_up_dead_letters() {
    let mut shard = Shard::with_room();
    shard.run(on("jobs.dead", send_with(&["ordinary"; 5], || priority(9))));
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    shard.run(reject(&[(1, 1), (2, 1)]));
    let before = shard.revision();
    assert_eq!(shard.run(on("jobs.dead", move_items(None, 1))), moved(1, 6, before + 1));
    assert_eq!(shard.run(on("jobs.dead", move_items(None, 9))), moved(1, 5, before + 2));
    assert_eq!(ids(&shard.lease(9)), [(3, 1), (4, 1)]);
    assert_eq!(shard.run(on("jobs.dead", move_items(None, 9))), moved(0, 5, before + 3));
    audit(&shard.tables);
}

#[test]
fn a_dead_letter_that_is_tried_again_has_a_new_life() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch { retention_ms: Some(Some(700)), ..SettingsPatch::default() }));
    shard.run(send_with(&["a"], || ttl(100)));
    shard.lease(1);
    shard.run(reject(&[(1, 1)]));
    shard.wait(5_000);
    shard.advance();
    shard.run(on("jobs.dead", move_items(None, 9)));
    shard.wait(699);
    shard.advance();
    assert_eq!(shard.sizes(), (1, 0));
    shard.wait(1);
    shard.advance();
    assert_eq!(shard.sizes(), (0, 0));
    audit(&shard.tables);
}

#[test]
fn what_is_held_or_waits_for_its_time_does_not_move() {
    let mut shard = Shard::with_room();
    let late = ItemOptions { not_before: NotBefore::After(500), ..ItemOptions::default() };
    shard.run(send_each(&[("held", priority(9)), ("late", late), ("head", group("g")), ("behind", group("g"))]));
    shard.lease(1);
    assert_eq!(shard.run(move_items(Some("other"), 9)), moved(1, 1, 4));
    assert_eq!(shard.places("jobs"), (1, 1, 1, 0));
    assert_eq!(shard.run(move_items(None, 9)), moved(0, 1, 4), "no dead letter is here");
    audit(&shard.tables);
}

#[test]
fn a_purge_discards_what_waits_and_leaves_what_is_held() {
    let mut shard = Shard::with_room();
    let late = ItemOptions { not_before: NotBefore::After(500), ..ItemOptions::default() };
    shard.run(send_each(&[
        ("held", group("g")),
        ("behind", group("g")),
        ("behind too", group("g")),
        ("ready", ttl(9_000)),
        ("high", priority(9)),
        ("late", late),
    ]));
    let receive = |shard: &mut Shard| shard.run(lease_as(1, Receiver::Unnamed, false, 30_000));
    receive(&mut shard);
    receive(&mut shard);
    assert_eq!(shard.places("jobs"), (1, 2, 1, 2));
    let mut left = 4;
    for revision in 5.. {
        let Outcome::ItemsPurged { purged, left: now_left, revision: at } = shard.run(purge(2)) else { panic!() };
        assert!((1..=2).contains(&purged) && now_left == left - purged && at.0 == revision);
        audit(&shard.tables);
        left = now_left;
        if left == 0 {
            break;
        }
    }
    assert_eq!(shard.places("jobs"), (0, 2, 0, 0));
    assert_eq!(shard.view("jobs").totals.removed, 4);
    let before = shard.tables.dump();
    assert_eq!(shard.run(purge(9)), purged(0, 0, shard.revision()));
    assert_eq!(shard.tables.dump(), before);
    shard.run(nack(&[(1, 1), (5, 1)], None));
    assert_eq!(ids(&shard.lease(9)), [(5, 2), (1, 2)]);
}

#[test]
fn one_purge_discards_a_bounded_number_of_bytes() {
    let mut shard = Shard::with_room();
    let large = "x".repeat(1 << 20);
    for _ in 0..6 {
        shard.run(send(&[&large]));
    }
    assert_eq!(shard.run(purge(1_000)), purged(4, 2, 8));
    assert_eq!(shard.run(purge(1_000)), purged(2, 0, 9));
    audit(&shard.tables);
}

#[test]
fn a_purge_removes_a_group_without_waking_anyone() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["a", "b", "c"], || group("g")));
    let mut effects = Vec::new();
    let steps: [Operation; 3] = [purge(1), purge(9), purge(9)];
    for operation in steps {
        effects.extend(wakes(shard.entry(vec![operation.into()]).effects));
        audit(&shard.tables);
    }
    assert_eq!((shard.places("jobs"), effects), ((0, 0, 0, 0), vec![]));
    shard.run(send_with(&["d"], || group("g")));
    assert_eq!(ids(&shard.lease(9)), [(4, 1)]);
}
