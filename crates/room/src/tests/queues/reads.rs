use conclave_types::{ParticipantName, Timestamp};

use super::super::audit::audit;
use super::super::harness::*;
use crate::read::{self, ItemPlace, ItemView};
use crate::{DeadReason, ItemOptions, NotBefore, Operation, Receiver, SettingsPatch};

type Page = (Vec<ItemView>, Option<Vec<u8>>);

fn page(shard: &Shard, place: ItemPlace, after: Option<&[u8]>, limits: (usize, usize)) -> Page {
    read::items(&shard.tables, GROUP, ROOM, &queue(), place, after, limits).unwrap().unwrap()
}

/// All items of a place, so many at a time.
fn all(shard: &Shard, place: ItemPlace, limit: usize) -> Vec<ItemView> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let (some, position) = page(shard, place, after.as_deref(), (limit, usize::MAX));
        assert!(some.len() <= limit);
        items.extend(some);
        match position {
            Some(position) => after = Some(position),
            None => return items,
        }
    }
}

fn ann() -> ParticipantName {
    "ann".parse().unwrap()
}

/// A queue with something in each place: 1 and 7 ready, 2 and 6 in flight, 3 and 8 delayed, 5 and 9 behind 4.
fn full_house() -> Shard {
    let mut shard = Shard::with_room();
    let late = |ms| ItemOptions { not_before: NotBefore::After(ms), ..ItemOptions::default() };
    shard.run(send_each(&[
        ("one", ttl(9_000_000)),
        ("two", priority(9)),
        ("three", late(9_000)),
        ("four", group("g")),
        ("five", group("g")),
        ("six", priority(8)),
        ("seven", priority(3)),
        ("eight", late(8_000)),
        ("nine", ItemOptions { priority: 2, ..group("g") }),
    ]));
    shard.run(lease_for("a", 1, 0));
    shard.run(lease_for("b", 1, 0));
    shard.wait(3);
    audit(&shard.tables);
    shard
}

#[test]
fn items_are_read_by_place_in_pages() {
    let shard = full_house();
    for limit in [1, 2, 9] {
        let numbers = |place| all(&shard, place, limit).iter().map(|item| item.number).collect::<Vec<_>>();
        assert_eq!(numbers(ItemPlace::Ready), [7, 1, 4], "in the order of delivery");
        assert_eq!(numbers(ItemPlace::InFlight), [2, 6]);
        assert_eq!(numbers(ItemPlace::Delayed), [8, 3], "in the order of time");
        assert_eq!(numbers(ItemPlace::Grouped), [5, 9]);
    }
    let (some, position) = page(&shard, ItemPlace::Ready, None, (9, 7));
    assert_eq!(some.iter().map(|item| item.number).collect::<Vec<_>>(), [7, 1], "bytes end a page, too");
    let rest = page(&shard, ItemPlace::Ready, position.as_deref(), (9, 1)).0;
    assert_eq!(rest.len(), 1, "one item always goes");
    let none = read::items(&shard.tables, GROUP, ROOM, &"none".parse().unwrap(), ItemPlace::Ready, None, (9, 9));
    assert_eq!(none, Ok(None));
}

#[test]
fn an_item_is_read_with_all_that_is_known_of_it() {
    let shard = full_house();
    let first = |place| all(&shard, place, 9).remove(0);
    let seven = first(ItemPlace::Ready);
    assert_eq!((&seven.item[..], seven.sender.as_str(), seven.send_time.0), (&b"seven"[..], "ann", START));
    assert_eq!((seven.revision.0, seven.priority, seven.attempts), (2, 3, 0));
    assert_eq!((seven.place, seven.due, seven.held, seven.dead), (ItemPlace::Ready, None, None, None));
    let one = all(&shard, ItemPlace::Ready, 9).remove(1);
    assert_eq!(one.expires, Some(Timestamp(START + 9_000_000)));
    let two = first(ItemPlace::InFlight);
    assert_eq!((two.attempts, two.held), (1, Some(("a".to_owned(), Timestamp(START + 30_000)))));
    assert_eq!(first(ItemPlace::Delayed).due, Some(Timestamp(START + 8_000)));
    let five = first(ItemPlace::Grouped);
    assert_eq!((five.group.as_deref(), five.attempts), (Some(&b"g"[..]), 0));
}

#[test]
fn attempts_and_deaths_are_read() {
    let mut shard = full_house();
    shard.run(nack(&[(2, 1)], None));
    shard.run(reject(&[(6, 1)]));
    let two = all(&shard, ItemPlace::Ready, 9).remove(0);
    assert_eq!((two.number, two.attempts), (2, 1));
    let dead = read::items(&shard.tables, GROUP, ROOM, &"jobs.dead".parse().unwrap(), ItemPlace::Ready, None, (9, 99));
    let dead = dead.unwrap().unwrap().0.remove(0).dead.unwrap();
    assert_eq!((dead.item, dead.reason, dead.failures.len()), (6, DeadReason::Rejected, 1));
}

#[test]
fn ready_items_are_read_in_order_however_they_came_to_be_ready() {
    let mut shard = Shard::with_room();
    let late = ItemOptions { not_before: NotBefore::After(10), ..ItemOptions::default() };
    shard.run(send(&["1", "2", "3"]));
    shard.run(send_each(&[("4", group("g")), ("5", priority(2)), ("6", late), ("7", priority(0))]));
    shard.lease(3);
    shard.run(nack(&[(1, 1), (2, 1)], None));
    shard.run(nack(&[(5, 1)], None));
    shard.wait(10);
    shard.advance();
    for limit in 1..9 {
        let numbers: Vec<_> = all(&shard, ItemPlace::Ready, limit).iter().map(|item| item.number).collect();
        assert_eq!(numbers, [5, 1, 2, 3, 4, 6, 7]);
    }
    assert_eq!(shard.lease(9).iter().map(|delivery| delivery.delivery.item).collect::<Vec<_>>(), [5, 1, 2, 3, 4, 6, 7]);
}

#[test]
fn a_page_goes_on_where_items_went_meanwhile() {
    let mut shard = Shard::with_room();
    shard.run(send(&["x"; 6]));
    let position = page(&shard, ItemPlace::Ready, None, (2, usize::MAX)).1;
    shard.run(cancel(&[2, 3]));
    let rest = page(&shard, ItemPlace::Ready, position.as_deref(), (9, usize::MAX)).0;
    assert_eq!(rest.iter().map(|item| item.number).collect::<Vec<_>>(), [4, 5, 6]);
}

#[test]
fn consumers_are_read_with_what_they_hold() {
    let mut shard = full_house();
    shard.run(lease_for("a", 1, 0));
    let consumers = |shard: &Shard, limit| {
        let views = read::consumers(&shard.tables, GROUP, ROOM, &queue(), limit).unwrap();
        views.into_iter().map(|view| (view.name, view.leased, view.last_lease.0)).collect::<Vec<_>>()
    };
    let (a, b) = (("a".to_owned(), 2, START + 3), ("b".to_owned(), 1, START));
    assert_eq!(consumers(&shard, 9), [a.clone(), b]);
    assert_eq!(consumers(&shard, 1), [a]);
    assert_eq!(read::held_by(&shard.tables, GROUP, ROOM, &queue(), "a"), Ok(2));
    shard.run(ack(&[(6, 1)]));
    assert_eq!(consumers(&shard, 9).len(), 1, "one that holds nothing is not listed");
    assert_eq!(read::held_by(&shard.tables, GROUP, ROOM, &queue(), "b"), Ok(0));
    assert_eq!(read::held_by(&shard.tables, GROUP, ROOM, &"none".parse().unwrap(), "a"), Ok(0));
    assert_eq!(read::consumers(&shard.tables, GROUP, ROOM, &"none".parse().unwrap(), 9), Ok(vec![]));
}

#[test]
fn what_a_consumer_holds_is_read_back_as_it_was_delivered() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c", "d", "e"]));
    let receiver = Receiver::Consumer { participant: ann() };
    let receive = |most, receiver, lease_ms| lease_as(most, receiver, false, lease_ms);
    let first = leased(shard.run(receive(2, receiver.clone(), 30_000)));
    shard.run(receive(1, Receiver::Unnamed, 30_000));
    let second = leased(shard.run(receive(1, receiver.clone(), 1_000)));
    let third = leased(shard.run(receive(1, receiver, 30_000)));
    let held = |shard: &Shard, by: &str, after, limits| {
        let by = by.parse().unwrap();
        read::held(&shard.tables, GROUP, ROOM, &queue(), &by, "worker", after, limits).unwrap()
    };
    let everything = (9, usize::MAX);
    assert_eq!(held(&shard, "ann", 0, everything), [&first[..], &second, &third].concat());
    assert_eq!(ids(&held(&shard, "ann", 1, (2, usize::MAX))), [(2, 1), (4, 1)]);
    assert_eq!(ids(&held(&shard, "ann", 2, (9, 1))), [(4, 1)], "one item always goes");
    assert_eq!(held(&shard, "bob", 0, everything), []);
    assert_eq!(held(&shard, "ann", u64::MAX, everything), []);
    let other = read::held(&shard.tables, GROUP, ROOM, &queue(), &ann(), "another", 0, everything);
    assert_eq!(other, Ok(vec![]), "a consumer is known by its name, too");

    shard.wait(1_001);
    shard.run(advance(1));
    assert_eq!(ids(&held(&shard, "ann", 0, everything)), [(1, 1), (2, 1), (5, 1)], "what is over is not held");
    shard.run(ack(&[(1, 1)]));
    assert_eq!(ids(&held(&shard, "ann", 0, everything)), [(2, 1), (5, 1)]);
}

#[test]
fn the_attempt_that_holds_an_item_is_read() {
    let shard = full_house();
    let attempt = |item| read::attempt_in_flight(&shard.tables, GROUP, ROOM, &queue(), item).unwrap();
    assert_eq!([1, 2, 5, 99].map(attempt), [None, Some(1), None, None]);
    let elsewhere = read::attempt_in_flight(&shard.tables, GROUP, ROOM, &"none".parse().unwrap(), 1);
    assert_eq!(elsewhere, Ok(None));
}

#[test]
fn stats_tell_age_rates_and_dead_letters() {
    let mut shard = Shard::with_room();
    // A stretch of the meter begins here.
    shard.now = 1_000_000;
    shard.run(make(SettingsPatch { max_attempts: Some(1), ..SettingsPatch::default() }));
    let stats =
        |shard: &Shard| read::queue_stats(&shard.tables, GROUP, ROOM, &queue(), Timestamp(shard.now)).unwrap().unwrap();
    assert_eq!((stats(&shard).oldest, stats(&shard).dead_letters), (None, 0));
    assert_eq!(stats(&shard).dead_letter_queue.as_str(), "jobs.dead");
    shard.run(send(&["x"; 30]));
    shard.wait(1_000);
    shard.run(send_with(&["y"; 10], || priority(9)));
    assert_eq!(stats(&shard).oldest, Some(Timestamp(1_000_000)), "whatever its priority");
    shard.lease(20);
    shard.run(ack(&[(31, 1), (32, 1), (33, 1), (1, 1), (2, 1)]));
    shard.run(nack(&[(3, 1), (4, 1)], None));
    let now = stats(&shard);
    assert_eq!((now.sent_rate, now.delivered_rate, now.acked_rate), (0.0, 0.0, 0.0), "the stretch is not over");
    assert_eq!(now.dead_letters, 2);
    shard.wait(9_000);
    let now = stats(&shard);
    assert_eq!((now.sent_rate, now.delivered_rate, now.acked_rate), (4.0, 2.0, 0.5));
    shard.run(take(10));
    shard.wait(10_000);
    let now = stats(&shard);
    assert_eq!((now.sent_rate, now.delivered_rate, now.acked_rate), (0.0, 1.0, 1.0));
    shard.wait(10_000);
    assert_eq!(stats(&shard).delivered_rate, 0.0);
    assert_eq!(stats(&shard).oldest, Some(Timestamp(1_000_000)));
    let none = read::queue_stats(&shard.tables, GROUP, ROOM, &"none".parse().unwrap(), Timestamp(0));
    assert_eq!(none, Ok(None));
}

#[test]
fn a_queue_tells_its_sizes() {
    let shard = full_house();
    let view = shard.view("jobs");
    assert_eq!((view.ready, view.leased, view.delayed, view.grouped), (3, 2, 2, 2));
    assert_eq!(view.bytes, "onetwothreefourfivesixseveneightnine".len() as u64);
    assert_eq!((view.totals.sent, view.totals.delivered), (9, 2));
    assert!(view.hands_out());
}

#[test]
fn reads_of_a_room_being_removed_find_less_and_never_fail() {
    let mut shard = full_house();
    shard.run(delete_room());
    let operations: Vec<Operation> = vec![advance(1); 200];
    for operation in operations {
        shard.run(operation);
        for place in [ItemPlace::Ready, ItemPlace::InFlight, ItemPlace::Delayed, ItemPlace::Grouped] {
            assert!(read::items(&shard.tables, GROUP, ROOM, &queue(), place, None, (9, 99)).is_ok());
        }
        assert!(read::consumers(&shard.tables, GROUP, ROOM, &queue(), 9).is_ok());
        assert!(read::held(&shard.tables, GROUP, ROOM, &queue(), &ann(), "a", 0, (9, 99)).is_ok());
        assert!(read::queue_stats(&shard.tables, GROUP, ROOM, &queue(), Timestamp(shard.now)).is_ok());
    }
    assert_eq!(shard.tables.dump().len(), 1, "the shard header alone");
}
