use super::super::audit::audit;
use super::super::harness::*;
use crate::{DeliveryResult, Operation, Outcome, Receiver, Refusal, SettingsPatch};

use DeliveryResult::{AlreadyDone, Done, Stale};

type Settle = fn(&[(u64, u32)]) -> Operation;

#[test]
fn acked_item_is_never_redelivered() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    assert_eq!(results(shard.run(ack(&[(1, 1)]))), [Done]);
    assert_eq!(results(shard.run(ack(&[(1, 1), (2, 1), (2, 1)]))), [AlreadyDone, Done, AlreadyDone]);
    shard.wait(MINUTE);
    shard.advance();
    assert_eq!((shard.sizes(), shard.lease(9)), ((0, 0), vec![]));
    audit(&shard.tables);
}

#[test]
fn a_delivery_counts_up_to_its_deadline_and_not_a_millisecond_longer() {
    let operations: [fn() -> Operation; 4] =
        [|| ack(&[(1, 1)]), || nack(&[(1, 1)], None), || reject(&[(1, 1)]), || extend(&[(1, 1)], 1_000)];
    for (wait, expected) in [(30_000, Done), (30_001, Stale)] {
        for operation in operations {
            let mut shard = Shard::with_room();
            shard.run(send(&["a"]));
            shard.lease(1);
            shard.wait(wait);
            assert_eq!(results(shard.run(operation())), [expected], "{:?}", operation());
        }
    }
}

#[test]
fn a_delivery_that_was_never_issued_spoils_the_whole_command() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[("a", group("g")), ("b", group("g")), ("c", group("h")), ("d", priority(0))]));
    shard.lease(2);
    shard.run(nack(&[(3, 1)], Some(1_000)));
    let operations: [Settle; 4] = [ack, |of| nack(of, None), reject, |of| extend(of, 1_000)];
    for bad in [(0, 1), (1, 0), (1, 2), (2, 1), (3, 2), (4, 1), (5, 1)] {
        for operation in operations {
            let before = shard.tables.dump();
            let outcome = shard.run(operation(&[(1, 1), bad]));
            assert_eq!(outcome, Outcome::Refused(Refusal::DeliveryUnknown { index: 1 }), "{bad:?}");
            assert_eq!(shard.tables.dump(), before);
        }
    }
    assert_eq!(results(shard.run(ack(&[(1, 1)]))), [Done]);
    let outcome = shard.run(ack(&[(1, 2)]));
    assert_eq!(outcome, Outcome::Refused(Refusal::DeliveryUnknown { index: 0 }));
}

#[test]
fn an_item_given_back_is_ready_at_once_or_after_a_wait() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c"]));
    shard.lease(3);
    let applied = shard.entry(vec![nack(&[(1, 1), (2, 1)], None).into(), nack(&[(3, 1)], Some(500)).into()]);
    assert_eq!(wakes(applied.effects), ["jobs"]);
    assert_eq!(shard.places("jobs"), (2, 0, 1, 0));
    assert_eq!(shard.view("jobs").totals.failed, 3);
    audit(&shard.tables);
    assert_eq!(ids(&shard.lease(9)), [(1, 2), (2, 2)]);
    shard.wait(499);
    shard.advance();
    assert_eq!(shard.lease(9), []);
    shard.wait(1);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(3, 2)]);
    audit(&shard.tables);
}

#[test]
fn a_second_word_on_a_delivery_changes_nothing() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c"]));
    shard.lease(2);
    shard.run(nack(&[(1, 1)], Some(50)));
    shard.run(ack(&[(2, 1)]));
    let before = shard.tables.dump();
    let operations: [Settle; 4] = [ack, |of| nack(of, Some(9)), reject, |of| extend(of, 1_000)];
    for operation in operations {
        assert_eq!(results(shard.run(operation(&[(1, 1), (2, 1)]))), [Stale, AlreadyDone]);
        assert_eq!(shard.tables.dump(), before);
    }
    shard.wait(50);
    shard.advance();
    shard.lease(1);
    let before = shard.tables.dump();
    for operation in operations {
        assert_eq!(results(shard.run(operation(&[(1, 1)]))), [Stale], "another attempt holds it");
        assert_eq!(shard.tables.dump(), before);
    }
    assert_eq!(results(shard.run(ack(&[(1, 2)]))), [Done]);
}

#[test]
fn one_command_settles_each_delivery_once() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    assert_eq!(results(shard.run(nack(&[(1, 1), (2, 1), (1, 1)], None))), [Done, Done, AlreadyDone]);
    assert_eq!(shard.places("jobs"), (2, 0, 0, 0));
    shard.lease(2);
    assert_eq!(results(shard.run(reject(&[(2, 2), (2, 2)]))), [Done, AlreadyDone]);
    assert_eq!(shard.places("jobs.dead"), (1, 0, 0, 0));
    audit(&shard.tables);
}

#[test]
fn a_lease_may_be_made_longer_and_shorter() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    let before = shard.revision();
    let applied = shard.entry(vec![extend(&[(1, 1)], 90_000).into(), extend(&[(2, 1)], 1_000).into()]);
    assert_eq!(applied.effects, [], "participants see nothing of it");
    assert_eq!(shard.revision(), before);
    assert_eq!(shard.next_due(), Some(START + 1_001));
    audit(&shard.tables);
    shard.wait(1_001);
    shard.advance();
    assert_eq!(shard.places("jobs"), (1, 1, 0, 0));
    shard.wait(90_000 - 1_001);
    shard.advance();
    assert_eq!(results(shard.run(ack(&[(1, 1)]))), [Done], "up to its new deadline");
    audit(&shard.tables);
}

#[test]
fn a_lease_is_extended_from_now_and_by_default_as_the_queue_says() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch { lease_ms: Some(2_000), ..SettingsPatch::default() }));
    shard.run(send(&["a"]));
    shard.run(lease_as(1, Receiver::Unnamed, false, 0));
    for _ in 0..5 {
        shard.wait(1_500);
        shard.advance();
        assert_eq!(results(shard.run(extend(&[(1, 1)], 0))), [Done]);
        audit(&shard.tables);
    }
    assert_eq!(shard.sizes(), (0, 1));
    shard.wait(2_001);
    shard.advance();
    assert_eq!(ids(&shard.lease(1)), [(1, 2)]);
}

#[test]
fn what_happened_is_counted() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b", "c"]));
    shard.lease(3);
    shard.run(ack(&[(1, 1)]));
    shard.run(nack(&[(2, 1)], None));
    shard.wait(30_001);
    shard.advance();
    shard.lease(1);
    let totals = shard.view("jobs").totals;
    assert_eq!((totals.sent, totals.delivered, totals.acked, totals.failed, totals.dead), (3, 4, 1, 2, 0));
    audit(&shard.tables);
}
