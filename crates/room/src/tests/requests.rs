use super::audit::audit;
use super::harness::*;
use crate::{Outcome, Refusal};

#[test]
fn a_request_sent_again_gets_the_first_outcome() {
    let mut shard = Shard::with_room();
    let first = shard.run(request("r1", send(&["a"])));
    assert_eq!(first, sent(1, 2));
    shard.run(send(&["b"]));
    shard.wait(9 * MINUTE);
    assert_eq!(shard.run(request("r1", send(&["a"]))), first);
    assert_eq!(shard.sizes(), (2, 0));
    let both = shard.entry(vec![request("r2", send(&["c"])), request("r2", send(&["c"]))]).outcomes;
    assert_eq!(both[0], both[1]);
    assert_eq!(shard.sizes(), (3, 0));
}

#[test]
fn a_refusal_is_an_outcome_that_is_kept() {
    let mut shard = Shard::new();
    assert_eq!(shard.run(request("r1", send(&["a"]))), Outcome::Refused(Refusal::RoomNotFound));
    shard.run(create_room("room"));
    assert_eq!(shard.run(request("r1", send(&["a"]))), Outcome::Refused(Refusal::RoomNotFound));
}

#[test]
fn a_request_id_stands_for_one_operation() {
    let mut shard = Shard::with_room();
    shard.run(request("r1", send(&["a"])));
    assert_eq!(shard.run(request("r1", ack(&[(1, 1)]))), Outcome::Refused(Refusal::RequestIdReused));
    assert_eq!(shard.run(request("r1", create_room("other"))), Outcome::Refused(Refusal::RequestIdReused));
    // Items of both queues have the same numbers: the answer of one would be believed of the other.
    shard.run(on("other", send(&["a"])));
    assert_eq!(shard.run(request("r1", on("other", send(&["a"])))), Outcome::Refused(Refusal::RequestIdReused));
    shard.run(request("r2", create_room("third")));
    assert_eq!(shard.run(request("r2", create_room("fourth"))), Outcome::Refused(Refusal::RequestIdReused));
}

#[test]
fn a_request_id_is_forgotten_after_its_time() {
    let mut shard = Shard::with_room();
    let before = shard.tables.dump().len();
    shard.run(request("r1", create_room("room")));
    assert_eq!(shard.tables.dump().len(), before + 2);
    assert_eq!(shard.next_due(), Some(START + 10 * MINUTE));
    audit(&shard.tables);
    shard.wait(10 * MINUTE);
    shard.advance();
    assert_eq!(shard.tables.dump().len(), before);
}
