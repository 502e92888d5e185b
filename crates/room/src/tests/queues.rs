use bytes::Bytes;
use conclave_types::{QueueName, Revision, Sequence, Timestamp};

use super::audit::audit;
use super::harness::*;
use crate::{DeliveryResult, Effect, Operation, Outcome, Receiver, Refusal, read};

use DeliveryResult::{Acked, AlreadyAcked, Stale};

fn results(outcome: Outcome) -> Vec<DeliveryResult> {
    match outcome {
        Outcome::Acked { results, .. } => results,
        other => panic!("not acked: {other:?}"),
    }
}

#[test]
fn items_are_delivered_in_the_order_they_were_sent() {
    let mut shard = Shard::with_room();
    assert_eq!(shard.run(send(&["a", "b"])), Outcome::Sent { first_item: 1, revision: Revision(2) });
    shard.wait(3);
    assert_eq!(shard.run(send(&["c"])), Outcome::Sent { first_item: 3, revision: Revision(3) });
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
fn acked_item_is_never_redelivered() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    assert_eq!(results(shard.run(ack(&[(1, 1)]))), [Acked]);
    assert_eq!(results(shard.run(ack(&[(1, 1), (2, 1), (2, 1)]))), [AlreadyAcked, Acked, AlreadyAcked]);
    shard.wait(MINUTE);
    shard.advance();
    assert_eq!((shard.sizes(), shard.lease(9)), ((0, 0), vec![]));
    audit(&shard.tables);
}

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
    assert_eq!(hints(applied.effects), [Effect::QueueReady { room: ROOM, queue: queue() }]);
    assert_eq!(shard.next_due(), Some(START + 50_001));
    assert_eq!(ids(&shard.lease(9)), [(1, 2), (3, 1)]);
    assert_eq!(results(shard.run(ack(&[(1, 1), (1, 2)]))), [Stale, Acked]);
    audit(&shard.tables);
}

#[test]
fn an_ack_counts_up_to_the_deadline_and_not_a_millisecond_longer() {
    for (wait, expected) in [(30_000, Acked), (30_001, Stale)] {
        let mut shard = Shard::with_room();
        shard.run(send(&["a"]));
        shard.lease(1);
        shard.wait(wait);
        assert_eq!(results(shard.run(ack(&[(1, 1)]))), [expected]);
    }
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
fn a_delivery_that_was_never_issued_spoils_the_whole_ack() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(1);
    for (bad, index) in [((0, 1), 1), ((1, 0), 1), ((1, 2), 1), ((2, 1), 1), ((3, 1), 1)] {
        let before = shard.tables.dump();
        let outcome = shard.run(ack(&[(1, 1), bad]));
        assert_eq!(outcome, Outcome::Refused(Refusal::DeliveryUnknown { index }), "{bad:?}");
        assert_eq!(shard.tables.dump(), before);
    }
    assert_eq!(results(shard.run(ack(&[(1, 1)]))), [Acked]);
    let outcome = shard.run(ack(&[(1, 2)]));
    assert_eq!(outcome, Outcome::Refused(Refusal::DeliveryUnknown { index: 0 }));
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
    assert_eq!(results(shard.run(ack(&[(1, 1), (2, 1)]))), [AlreadyAcked, AlreadyAcked], "in the order of items");
    shard.wait(20);
    shard.advance();
    assert_eq!(results(shard.run(ack(&[(1, 1), (2, 1), (3, 1)]))), [Stale, Stale, Stale]);
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
    for operation in [without_create(send(&["a"])), without_create(lease(1)), ack(&[(1, 1)])] {
        assert_eq!(shard.run(operation), Outcome::Refused(Refusal::QueueNotFound));
    }
    assert_eq!(shard.run(lease(1)), Outcome::Leased { deliveries: vec![], revision: Revision(2) });
    assert_eq!(read::queue(&shard.tables, GROUP, ROOM, &queue()).unwrap().unwrap().create_time.0, START);
    assert_eq!(shard.run(without_create(send(&["a"]))), Outcome::Sent { first_item: 1, revision: Revision(3) });
}

#[test]
fn a_room_holds_a_bounded_number_of_queues() {
    let mut shard = Shard::with_room();
    let named = |index: u32| match send(&["a"]) {
        Operation::SendItems { room, create, sender, items, .. } => {
            Operation::SendItems { room, queue: format!("q{index:05}").parse().unwrap(), create, sender, items }
        }
        other => other,
    };
    for first in (0..crate::MAX_QUEUES_PER_ROOM).step_by(250) {
        shard.entry((first..first + 250).map(|index| named(index).into()).collect());
    }
    assert_eq!(shard.run(named(99_999)), Outcome::Refused(Refusal::QueueLimit));
    assert!(matches!(shard.run(named(17)), Outcome::Sent { first_item: 2, .. }));

    let list = |after: Option<&str>, limit| {
        let after = after.map(|name| name.parse::<QueueName>().unwrap());
        let queues = read::list_queues(&shard.tables, GROUP, ROOM, after, limit).unwrap();
        queues.into_iter().map(|queue| (queue.name.to_string(), queue.ready)).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 2), [("q00000".to_owned(), 1), ("q00001".to_owned(), 1)]);
    assert_eq!(list(Some("q00016"), 1), [("q00017".to_owned(), 2)]);
    assert_eq!(list(Some("q09999"), 5), []);
}

#[test]
fn no_more_is_leased_than_may_be_in_flight() {
    let mut shard = Shard::with_room();
    for _ in 0..9 {
        shard.run(send(&["x"; 128]));
    }
    let taken: usize = (0..9).map(|_| shard.lease(500).len()).sum();
    assert_eq!((taken, shard.sizes()), (1_000, (152, 1_000)));
    let applied = shard.entry(vec![ack(&[(500, 1)]).into()]);
    assert_eq!(
        hints(applied.effects),
        [Effect::QueueReady { room: ROOM, queue: queue() }],
        "who found it full waits for this"
    );
    assert_eq!(ids(&shard.lease(500)), [(1_001, 1)]);
}

#[test]
fn an_ack_wakes_nobody_while_more_may_be_in_flight() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(1);
    assert_eq!(hints(shard.entry(vec![ack(&[(1, 1)]).into()]).effects), []);
}

#[test]
fn a_lease_fits_a_frame_but_one_item_always_goes() {
    let mut shard = Shard::with_room();
    let large = "x".repeat(256 << 10);
    shard.run(send(&[&large, &large, &large, &large]));
    assert_eq!(ids(&shard.lease(128)), [(1, 1), (2, 1)]);
    let over = "x".repeat(800 << 10);
    shard.run(send(&[&over]));
    assert_eq!(ids(&shard.lease(128)), [(3, 1), (4, 1)]);
    assert_eq!(ids(&shard.lease(128)), [(5, 1)]);
}

#[test]
fn a_receive_sent_again_gets_what_it_still_holds() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c", "d"]));
    let receiver = |sequence| Receiver::Session { session: SESSION, sequence: Sequence(sequence) };
    let first = leased(shard.run(lease_as(2, receiver(1), false, 30_000)));
    shard.run(lease_as(1, receiver(2), false, 30_000));
    shard.wait(5);
    let revision = shard.revision();
    let again = leased(shard.run(lease_as(2, receiver(1), true, 30_000)));
    assert_eq!(again, first, "same attempts, same deadlines");
    assert_eq!(shard.revision(), revision);
    shard.run(ack(&[(1, 1)]));
    assert_eq!(ids(&leased(shard.run(lease_as(2, receiver(1), true, 30_000)))), [(2, 1)]);
    shard.run(ack(&[(2, 1)]));
    assert_eq!(ids(&leased(shard.run(lease_as(2, receiver(1), true, 30_000)))), [(4, 1)]);
    assert_eq!(leased(shard.run(lease_as(2, receiver(3), true, 30_000))), []);
}

#[test]
fn a_lost_lease_is_not_returned_to_the_receive_sent_again() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    let receiver = Receiver::Request { participant: "ann".parse().unwrap(), request_id: Bytes::from_static(b"r1") };
    let receive = || lease_as(1, receiver.clone(), false, 1_000);
    assert_eq!(ids(&leased(shard.run(receive()))), [(1, 1)]);
    assert_eq!(ids(&leased(shard.run(receive()))), [(1, 1)], "a request id is always looked up");
    shard.wait(1_001);
    assert_eq!(leased(shard.run(receive())), [], "over, and not yet ready again");
    shard.advance();
    assert_eq!(ids(&leased(shard.run(receive()))), [(1, 2)]);
}

#[test]
fn each_visible_change_is_one_revision() {
    let mut shard = Shard::with_room();
    let steps: [(Operation, u64); 9] = [
        (send(&["a", "b"]), 1),
        (lease(1), 1),
        (lease(0), 0),
        (ack(&[(1, 1)]), 1),
        (ack(&[(1, 1)]), 0),
        (advance(512), 0),
        (lease(9), 1),
        (lease(9), 0),
        (ack(&[(7, 1)]), 0),
    ];
    for (index, (operation, step)) in steps.into_iter().enumerate() {
        let before = shard.revision();
        shard.run(operation);
        assert_eq!(shard.revision() - before, step, "step {index}");
    }
    let before = shard.revision();
    shard.wait(30_001);
    shard.advance();
    assert_eq!(shard.revision() - before, 1, "leases that ended");
}

#[test]
fn a_queue_is_woken_once_an_entry() {
    let mut shard = Shard::with_room();
    let applied = shard.entry(vec![send(&["a"]).into(), send(&["b"]).into(), ack(&[(9, 9)]).into()]);
    assert_eq!(hints(applied.effects), [Effect::QueueReady { room: ROOM, queue: queue() }]);
    assert_eq!(hints(shard.entry(vec![send(&["c"]).into()]).effects).len(), 1);
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
fn a_missing_record_stops_the_replica() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    let item = crate::keys::Keys::new(GROUP).item(ROOM, crate::keys::QueueNumber(1), 1);
    shard.tables.write(vec![(item, None)]);
    assert!(crate::apply(GROUP, Timestamp(START), vec![lease(1).into()], &shard.tables).is_err());
}
