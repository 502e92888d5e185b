use bytes::Bytes;
use conclave_types::Sequence;

use super::super::audit::audit;
use super::super::harness::*;
use crate::{DeliveryResult, Operation, Receiver, SettingsPatch};

use DeliveryResult::{Done, Stale};

fn session(sequence: u64) -> Receiver {
    Receiver::Session { session: SESSION, sequence: Sequence(sequence) }
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
    assert_eq!(wakes(applied.effects), ["jobs"], "who found it full waits for this");
    assert_eq!(ids(&shard.lease(500)), [(1_001, 1)]);
}

#[test]
fn a_queue_says_how_much_may_be_in_flight() {
    let mut shard = Shard::with_room();
    let most = |most| SettingsPatch { max_in_flight: Some(most), ..SettingsPatch::default() };
    shard.run(make(most(2)));
    shard.run(send(&["x"; 5]));
    assert_eq!(ids(&shard.lease(9)), [(1, 1), (2, 1)]);
    assert!(!shard.view("jobs").hands_out());
    let applied = shard.entry(vec![configure(most(3)).into()]);
    assert_eq!(wakes(applied.effects), ["jobs"], "who found it full looks again");
    assert_eq!(ids(&shard.lease(9)), [(3, 1)]);
    shard.run(configure(most(1)));
    assert_eq!(shard.lease(9), []);
    shard.run(ack(&[(1, 1), (2, 1)]));
    assert_eq!(shard.lease(9), [], "as much is out as may be now");
    shard.run(ack(&[(3, 1)]));
    assert_eq!(ids(&shard.lease(9)), [(4, 1)]);
}

#[test]
fn a_consumer_that_holds_less_is_told_of() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c", "d"]));
    let applied = shard.entry(vec![lease_for("a", 2, 2).into(), lease_for("b", 1, 0).into()]);
    assert_eq!(freed(applied.effects), [].into());
    let name = |consumer: &str| ("jobs".to_owned(), consumer.to_owned());
    let applied = shard.entry(vec![ack(&[(1, 1)]).into()]);
    assert_eq!(freed(applied.effects), [name("a")].into(), "it may have waited at its window");
    let applied = shard.entry(vec![nack(&[(2, 1), (3, 1)], None).into()]);
    assert_eq!(freed(applied.effects), [name("a"), name("b")].into());
    shard.run(lease_for("a", 1, 0));
    shard.run(lease_for("b", 1, 0));
    shard.wait(30_001);
    assert_eq!(freed(shard.entry(vec![advance(512).into()]).effects), [name("a"), name("b")].into());
}

#[test]
fn an_ack_wakes_only_if_there_is_something_to_receive() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    assert!(wakes(shard.entry(vec![ack(&[(1, 1)]).into()]).effects).is_empty());
    shard.run(send(&["c"]));
    assert_eq!(wakes(shard.entry(vec![ack(&[(2, 1)]).into()]).effects), ["jobs"]);
}

#[test]
fn a_consumer_holds_no_more_than_its_window() {
    let mut shard = Shard::with_room();
    shard.run(send(&["x"; 9]));
    assert_eq!(ids(&leased(shard.run(lease_for("a", 9, 3)))), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(leased(shard.run(lease_for("a", 9, 3))), []);
    assert_eq!(leased(shard.run(lease_for("a", 9, 2))), [], "a smaller window than it holds");
    assert_eq!(ids(&leased(shard.run(lease_for("a", 9, 4)))), [(4, 1)]);
    assert_eq!(ids(&leased(shard.run(lease_for("b", 1, 3)))), [(5, 1)], "the window is one consumer's");
    shard.run(ack(&[(1, 1), (2, 1)]));
    shard.run(nack(&[(3, 1)], Some(1_000)));
    assert_eq!(ids(&leased(shard.run(lease_for("a", 9, 3)))), [(6, 1), (7, 1)]);
    shard.wait(30_001);
    shard.advance();
    assert_eq!(leased(shard.run(lease_for("a", 9, 3))).len(), 3, "leases that ended do not count");
    audit(&shard.tables);
}

#[test]
fn a_queue_bounds_what_each_consumer_holds() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch { max_in_flight_per_consumer: Some(2), ..SettingsPatch::default() }));
    shard.run(send(&["x"; 9]));
    assert_eq!(leased(shard.run(lease_for("a", 9, 0))).len(), 2);
    assert_eq!(leased(shard.run(lease_for("a", 9, 5))), []);
    assert_eq!(leased(shard.run(lease_for("b", 9, 1))).len(), 1, "the smaller bound counts");
    assert_eq!(leased(shard.run(lease_for("b", 9, 5))).len(), 1);
    assert_eq!(shard.sizes(), (5, 4));
    assert_eq!(leased(shard.run(take(9))).len(), 5, "what is taken is held by nobody");
    audit(&shard.tables);
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
    audit(&shard.tables);
}

#[test]
fn a_lease_runs_as_long_as_the_queue_says_unless_the_receive_does() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch { lease_ms: Some(7_000), ..SettingsPatch::default() }));
    shard.run(send(&["a", "b"]));
    let deadline = |outcome| leased(outcome)[0].deadline.0;
    assert_eq!(deadline(shard.run(lease_as(1, Receiver::Unnamed, false, 0))), START + 7_000);
    assert_eq!(deadline(shard.run(lease_as(1, Receiver::Unnamed, false, 9_000))), START + 9_000);
}

#[test]
fn a_receive_sent_again_gets_what_it_still_holds() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c", "d"]));
    let first = leased(shard.run(lease_as(2, session(1), false, 30_000)));
    shard.run(lease_as(1, session(2), false, 30_000));
    shard.wait(5);
    let revision = shard.revision();
    let again = leased(shard.run(lease_as(2, session(1), true, 30_000)));
    assert_eq!(again, first, "same attempts, same deadlines");
    assert_eq!(shard.revision(), revision);
    shard.run(ack(&[(1, 1)]));
    assert_eq!(ids(&leased(shard.run(lease_as(2, session(1), true, 30_000)))), [(2, 1)]);
    shard.run(ack(&[(2, 1)]));
    assert_eq!(ids(&leased(shard.run(lease_as(2, session(1), true, 30_000)))), [(4, 1)]);
    assert_eq!(leased(shard.run(lease_as(2, session(3), true, 30_000))), []);
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
fn what_is_taken_is_gone_at_once() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[("a", priority(0)), ("b", ttl(9_000)), ("c", priority(5)), ("d", priority(0))]));
    let taken = leased(shard.run(take(3)));
    assert_eq!(ids(&taken), [(3, 1), (1, 1), (2, 1)]);
    assert!(taken.iter().all(|delivery| delivery.deadline.0 == START));
    assert_eq!(shard.sizes(), (1, 0));
    let totals = shard.view("jobs").totals;
    assert_eq!((totals.delivered, totals.acked), (3, 3));
    audit(&shard.tables);
    assert_eq!(results(shard.run(ack(&[(1, 1), (2, 1)]))), [Stale, Stale], "nobody holds it");
    shard.wait(MINUTE);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(4, 1)]);
    shard.run(nack(&[(4, 1)], None));
    assert_eq!(ids(&leased(shard.run(take(9)))), [(4, 2)], "the attempts go on");
}

#[test]
fn a_receive_that_takes_is_not_bound_by_what_others_hold() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch { max_in_flight: Some(1), ..SettingsPatch::default() }));
    shard.run(send(&["a", "b", "c"]));
    shard.lease(1);
    assert_eq!(ids(&leased(shard.run(take(9)))), [(2, 1), (3, 1)]);
}

#[test]
fn what_outlived_its_time_is_not_delivered() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[("a", ttl(10)), ("b", ttl(20)), ("c", ttl(10)), ("d", priority(0))]));
    shard.wait(10);
    assert_eq!(ids(&shard.lease(2)), [(2, 1), (4, 1)], "it lives up to, not including, its end");
    assert_eq!(shard.view("jobs").totals.expired, 2);
    audit(&shard.tables);
}

#[test]
fn a_lease_that_removed_all_it_may_lets_the_receiver_look_again() {
    let mut shard = Shard::with_room();
    for _ in 0..3 {
        shard.run(send_with(&["short"; 100], || ttl(10)));
    }
    shard.run(send(&["long"]));
    shard.wait(10);
    let applied = shard.entry(vec![lease(1).into()]);
    assert_eq!(leased(applied.outcomes[0].clone()), []);
    assert_eq!(wakes(applied.effects), ["jobs"]);
    assert_eq!(ids(&shard.lease(1)), [(301, 1)]);
    audit(&shard.tables);
}

#[test]
fn a_lease_reads_no_item_behind_those_it_may_take() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[("low", priority(0)), ("high", priority(1)), ("high too", priority(1))]));
    let low = crate::keys::Keys::new(GROUP).item(ROOM, crate::keys::QueueNumber(1), 1);
    shard.tables.write(vec![(low, None)]);
    assert_eq!(ids(&shard.lease(2)), [(2, 1), (3, 1)]);
}

#[test]
fn leases_by_priority_leave_nothing_behind() {
    let mut shard = Shard::with_room();
    for round in 0..20u8 {
        shard.run(send_with(&["x", "y"], || priority(round % 10)));
        let taken = shard.lease(1);
        assert_eq!(taken.len(), 1);
        if round % 2 == 0 {
            assert_eq!(results(shard.run(nack(&ids(&taken), None))), [Done]);
        }
        audit(&shard.tables);
    }
    shard.wait(MINUTE);
    shard.advance();
    let all = shard.lease(128);
    assert_eq!(all.len(), 40);
    assert!(all.is_sorted_by_key(|delivery| (std::cmp::Reverse(delivery.priority), delivery.delivery.item)));
}

#[test]
fn a_lease_leaves_the_queue_as_it_was_when_there_is_nothing() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    shard.lease(1);
    let before = shard.tables.dump();
    let receive: [Operation; 3] = [lease(5), take(5), lease_for("other", 5, 5)];
    for operation in receive {
        assert_eq!(leased(shard.run(operation)), []);
        assert_eq!(shard.tables.dump(), before);
    }
}
