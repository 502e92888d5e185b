use conclave_types::{QueueName, Revision, Timestamp};

use super::super::audit::audit;
use super::super::harness::*;
use crate::{ItemOptions, NotBefore, Operation, Outcome, Refusal, SettingsPatch, read};

fn duplicates(outcome: &Outcome) -> &[u32] {
    match outcome {
        Outcome::Sent { duplicates, .. } => duplicates,
        other => panic!("not sent: {other:?}"),
    }
}

#[test]
fn items_are_delivered_in_the_order_they_were_sent() {
    let mut shard = Shard::with_room();
    assert_eq!(shard.run(send(&["a", "b"])), sent(1, 2));
    shard.wait(3);
    assert_eq!(shard.run(send(&["c"])), sent(3, 3));
    assert_eq!(shard.sizes(), (3, 0));
    let deliveries = shard.lease(2);
    assert_eq!(ids(&deliveries), [(1, 1), (2, 1)]);
    assert_eq!(deliveries[0].item, "a");
    assert_eq!((deliveries[1].send_time.0, deliveries[1].revision), (START, Revision(2)));
    assert_eq!(deliveries[0].deadline.0, START + 3 + 30_000);
    assert_eq!(deliveries[0].sender.as_str(), "ann");
    assert_eq!(shard.sizes(), (1, 2));
    assert_eq!(ids(&shard.lease(9)), [(3, 1)]);
    assert_eq!(shard.lease(9), []);
}

#[test]
fn items_of_a_higher_priority_go_first() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[
        ("low", priority(0)),
        ("high", priority(9)),
        ("middle", priority(4)),
        ("high too", priority(9)),
    ]));
    audit(&shard.tables);
    let first = shard.lease(3);
    assert_eq!(ids(&first), [(2, 1), (4, 1), (3, 1)]);
    assert_eq!((first[0].priority, &first[0].item[..]), (9, &b"high"[..]));
    shard.run(send_with(&["late, but higher"], || priority(1)));
    assert_eq!(ids(&shard.lease(1)), [(5, 1)]);
    shard.run(nack(&[(3, 1), (4, 1)], None));
    assert_eq!(ids(&shard.lease(9)), [(4, 2), (3, 2), (1, 1)], "given back, an item keeps its priority");
    audit(&shard.tables);
}

#[test]
fn a_queue_is_made_only_if_asked_for() {
    let mut shard = Shard::with_room();
    let without_create = |mut operation: Operation| {
        match &mut operation {
            Operation::SendItems { create, .. } | Operation::LeaseItems { create, .. } => *create = false,
            _ => {}
        }
        operation
    };
    for operation in [
        without_create(send(&["a"])),
        without_create(lease(1)),
        ack(&[(1, 1)]),
        nack(&[(1, 1)], None),
        reject(&[(1, 1)]),
        extend(&[(1, 1)], 1_000),
        configure(SettingsPatch::default()),
        cancel(&[1]),
        move_items(Some("other"), 9),
        move_items(None, 9),
        purge(9),
    ] {
        assert_eq!(shard.run(operation.clone()), Outcome::Refused(Refusal::QueueNotFound), "{operation:?}");
    }
    assert_eq!(shard.run(lease(1)), Outcome::Leased { deliveries: vec![], revision: Revision(2) });
    assert_eq!(shard.view("jobs").create_time.0, START);
    assert_eq!(shard.run(without_create(send(&["a"]))), sent(1, 3));
}

#[test]
fn a_room_that_is_gone_has_no_queues() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    shard.run(delete_room());
    for operation in [
        nack(&[(1, 1)], None),
        extend(&[(1, 1)], 1_000),
        make(SettingsPatch::default()),
        configure(SettingsPatch::default()),
        cancel(&[1]),
        move_items(Some("other"), 9),
        purge(9),
    ] {
        assert_eq!(shard.run(operation), Outcome::Refused(Refusal::RoomNotFound));
    }
}

#[test]
fn a_room_holds_a_bounded_number_of_queues() {
    let mut shard = Shard::with_room();
    let named = |index: u32| on(&format!("q{index:05}"), send(&["a"]));
    for first in (0..crate::MAX_QUEUES_PER_ROOM).step_by(250) {
        shard.entry((first..first + 250).map(|index| named(index).into()).collect());
    }
    let full = Outcome::Refused(Refusal::QueueLimit);
    assert_eq!(shard.run(named(99_999)), full);
    assert_eq!(shard.run(make(SettingsPatch::default())), full);
    let before = shard.tables.dump();
    assert_eq!(shard.run(on("q00001", move_items(Some("one-more"), 9))), full);
    assert_eq!(shard.tables.dump(), before, "what cannot go stays");
    assert!(matches!(shard.run(named(17)), Outcome::Sent { first_item: 2, .. }));

    shard.run(on("q00000", lease(1)));
    shard.run(on("q00000", reject(&[(1, 1)])));
    assert_eq!(shard.places("q00000.dead"), (1, 0, 0, 0), "dead letters always have a place");
    assert_eq!(shard.run(named(99_999)), full);

    let list = |after: Option<&str>, limit| {
        let after = after.map(|name| name.parse::<QueueName>().unwrap());
        let queues = read::list_queues(&shard.tables, GROUP, ROOM, after, limit).unwrap();
        queues.into_iter().map(|queue| (queue.name.to_string(), queue.ready)).collect::<Vec<_>>()
    };
    assert_eq!(list(Some("q00000.dead"), 1), [("q00001".to_owned(), 1)]);
    assert_eq!(list(None, 2), [("q00000".to_owned(), 0), ("q00000.dead".to_owned(), 1)]);
    assert_eq!(list(Some("q00016"), 1), [("q00017".to_owned(), 2)]);
    assert_eq!(list(Some("q09999"), 5), []);
    audit(&shard.tables);
}

#[test]
fn a_delayed_item_waits_for_its_time() {
    let mut shard = Shard::with_room();
    let after = |ms| ItemOptions { not_before: NotBefore::After(ms), ..priority(3) };
    let at = |time| ItemOptions { not_before: NotBefore::At(Timestamp(time)), ..ItemOptions::default() };
    shard.run(send_each(&[
        ("late", after(500)),
        ("soon", at(START + 100)),
        ("at once", after(0)),
        ("past", at(START - 1)),
    ]));
    assert_eq!(shard.places("jobs"), (2, 0, 2, 0));
    assert_eq!(shard.next_due(), Some(START + 100));
    audit(&shard.tables);
    shard.wait(99);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(3, 1), (4, 1)]);
    let revision = shard.revision();
    shard.wait(1);
    let applied = shard.entry(vec![advance(512).into()]);
    assert_eq!(wakes(applied.effects), ["jobs"]);
    assert_eq!(shard.revision(), revision + 1, "more can be received");
    assert_eq!(ids(&shard.lease(9)), [(2, 1)]);
    assert_eq!(shard.next_due(), Some(START + 500));
    shard.wait(400);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(1, 1)]);
    audit(&shard.tables);
}

#[test]
fn an_earlier_item_is_not_held_up_by_a_later_one() {
    let mut shard = Shard::with_room();
    let after = |ms| move || ItemOptions { not_before: NotBefore::After(ms), ..ItemOptions::default() };
    shard.run(send_with(&["late"], after(5_000)));
    shard.run(send_with(&["soon"], after(50)));
    shard.run(send_with(&["soon after"], after(60)));
    assert_eq!(shard.next_due(), Some(START + 50));
    shard.wait(50);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(2, 1)]);
    assert_eq!(shard.places("jobs"), (0, 1, 2, 0));
    audit(&shard.tables);
    assert_eq!(shard.next_due(), Some(START + 70), "looks follow each other at some distance");
    shard.wait(20);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(3, 1)]);
    audit(&shard.tables);
}

#[test]
fn a_message_sent_again_is_no_second_item() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[("a", message("m1")), ("b", message("m2")), ("c", ItemOptions::default())]));
    let before = shard.revision();
    let again = shard.run(send_each(&[("b", message("m2")), ("a", message("m1"))]));
    assert_eq!(again, Outcome::Sent { first_item: 2, revision: Revision(before), duplicates: vec![0, 1] });
    assert_eq!((shard.revision(), shard.sizes()), (before, (3, 0)));

    let mixed = shard.run(send_each(&[
        ("a", message("m1")),
        ("d", message("m4")),
        ("e", ItemOptions::default()),
        ("d", message("m4")),
    ]));
    assert_eq!(mixed, Outcome::Sent { first_item: 4, revision: Revision(before + 1), duplicates: vec![0, 3] });
    let view = shard.view("jobs");
    assert_eq!((view.ready, view.totals.sent, view.totals.duplicates), (5, 5, 4));
    assert_eq!(
        shard.lease(9).iter().map(|delivery| delivery.item.clone()).collect::<Vec<_>>(),
        ["a", "b", "c", "d", "e"]
    );
    audit(&shard.tables);
}

#[test]
fn a_message_is_known_in_one_queue_and_whatever_became_of_it() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["a"], || message("m")));
    assert_eq!(shard.run(on("other", send_with(&["a"], || message("m")))), sent(1, 3));
    shard.lease(1);
    shard.run(ack(&[(1, 1)]));
    shard.wait(MINUTE);
    shard.advance();
    let again = shard.run(send_with(&["a"], || message("m")));
    assert_eq!(again, Outcome::Sent { first_item: 1, revision: Revision(shard.revision()), duplicates: vec![0] });
    assert_eq!(shard.sizes(), (0, 0));
}

#[test]
fn a_message_is_forgotten_when_its_window_ends() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch { deduplication_window_ms: Some(1_000), ..SettingsPatch::default() }));
    shard.run(send_with(&["a"], || message("m")));
    assert_eq!(shard.next_due(), Some(START + 1_000));
    let again = || send_with(&["again"], || message("m"));
    shard.wait(999);
    assert_eq!(duplicates(&shard.run(again())), [0]);
    shard.wait(1);
    assert_eq!(duplicates(&shard.run(again())), [0; 0], "over, though nobody removed it yet");
    audit(&shard.tables);
    shard.wait(10);
    shard.advance();
    assert_eq!(duplicates(&shard.run(again())), [0], "the window is the second one's");
    shard.wait(990);
    shard.advance();
    assert_eq!(duplicates(&shard.run(again())), [0; 0]);
    shard.run(purge(9));
    shard.wait(2_000);
    shard.advance();
    assert_eq!(shard.next_due(), None);
    audit(&shard.tables);
}

#[test]
fn a_queue_without_a_window_knows_no_messages() {
    let mut shard = Shard::with_room();
    let window = |ms| SettingsPatch { deduplication_window_ms: Some(ms), ..SettingsPatch::default() };
    shard.run(make(window(0)));
    for _ in 0..2 {
        assert_eq!(duplicates(&shard.run(send_each(&[("a", message("m")), ("b", message("m"))]))), [0; 0]);
    }
    assert_eq!(shard.sizes(), (4, 0));
    shard.run(configure(window(1_000)));
    assert_eq!(duplicates(&shard.run(send_with(&["a"], || message("m")))), [0; 0]);
    assert_eq!(duplicates(&shard.run(send_with(&["a"], || message("m")))), [0]);
    audit(&shard.tables);
}

#[test]
fn forgetting_messages_keeps_to_its_limit() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch { deduplication_window_ms: Some(1_000), ..SettingsPatch::default() }));
    for first in 0..3 {
        let messages: Vec<_> = (0..10).map(|index| ("x", message(&format!("{first} {index}")))).collect();
        shard.run(send_each(&messages));
        shard.wait(1);
    }
    shard.wait(1_000);
    assert_eq!(shard.run(advance(21)), Outcome::Advanced { more: true });
    audit(&shard.tables);
    shard.advance();
    assert_eq!(shard.next_due(), None);
    audit(&shard.tables);
}

#[test]
fn a_send_of_nothing_makes_a_whole_queue() {
    let mut shard = Shard::with_room();
    shard.run(send(&[]));
    audit(&shard.tables);
    assert_eq!(shard.view("jobs").ready, 0);
    assert_eq!(shard.run(on("other", send(&["a"]))), sent(1, 3));
    audit(&shard.tables);
}

#[test]
fn each_visible_change_is_one_revision() {
    let mut shard = Shard::with_room();
    let steps: Vec<(Operation, u64)> = vec![
        (send(&["a", "b"]), 1),
        (lease(1), 1),
        (lease(0), 0),
        (ack(&[(1, 1)]), 1),
        (ack(&[(1, 1)]), 0),
        (advance(512), 0),
        (lease(9), 1),
        (lease(9), 0),
        (ack(&[(7, 1)]), 0),
        (extend(&[(2, 1)], 40_000), 0),
        (nack(&[(2, 1)], None), 1),
        (nack(&[(2, 1)], None), 0),
        (reject(&[(2, 1)]), 0),
        (configure(SettingsPatch::default()), 1),
        (make(SettingsPatch::default()), 0),
        (send_with(&["c"], || message("m")), 1),
        (send_with(&["c"], || message("m")), 0),
        (move_items(None, 9), 0),
        (move_items(Some("jobs"), 9), 0),
        (move_items(Some("other"), 1), 1),
        (cancel(&[2, 9]), 0),
        (cancel(&[3]), 1),
        (purge(9), 0),
        (send(&["d"]), 1),
        (purge(9), 1),
        (send(&["e", "f"]), 1),
        (take(9), 1),
        (take(9), 0),
        (on("other", lease(9)), 1),
        (on("other", reject(&[(1, 1)])), 1),
    ];
    for (index, (operation, step)) in steps.into_iter().enumerate() {
        let before = shard.revision();
        shard.run(operation.clone());
        assert_eq!(shard.revision() - before, step, "step {index}: {operation:?}");
        audit(&shard.tables);
    }
    shard.run(send(&["g"]));
    shard.lease(1);
    let before = shard.revision();
    shard.wait(30_001);
    shard.advance();
    assert_eq!(shard.revision() - before, 1, "leases that ended");
}

#[test]
fn a_queue_is_woken_once_an_entry() {
    let mut shard = Shard::with_room();
    let applied = shard.entry(vec![send(&["a"]).into(), send(&["b"]).into(), ack(&[(9, 9)]).into()]);
    assert_eq!(wakes(applied.effects), ["jobs"]);
    assert_eq!(wakes(shard.entry(vec![send(&["c"]).into()]).effects).len(), 1);
    let late = ItemOptions { not_before: NotBefore::After(9), ..ItemOptions::default() };
    let mut shard = Shard::with_room();
    assert_eq!(wakes(shard.entry(vec![send_each(&[("d", late)]).into()]).effects), [""; 0], "nothing to receive yet");
}

#[test]
fn a_missing_record_stops_the_replica() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    let item = crate::keys::Keys::new(GROUP).item(ROOM, crate::keys::QueueNumber(1), 1);
    shard.tables.write(vec![(item, None)]);
    assert!(crate::apply(GROUP, Timestamp(START), vec![lease(1).into()], &shard.tables).is_err());
}
