//! How many writes the hot path makes: a budget, which is checked; and how long it takes, which is only told.

use conclave_types::Timestamp;

use super::harness::*;
use crate::{Batch, Command, Writes};

fn writes_of(shard: &mut Shard, commands: Vec<Command>) -> Writes {
    let mut batch = Batch::new(GROUP, &shard.tables).unwrap();
    batch.apply(Timestamp(shard.now), commands).unwrap();
    let writes = batch.into_writes();
    shard.tables.write(writes.clone());
    writes
}

#[test]
fn sends_leases_and_acks_keep_to_their_write_budget() {
    let mut shard = Shard::with_room();
    shard.run(send(&["first"]));
    let sends = (1..=256).map(|sequence| frame(sequence, 0, send(&["x"]))).collect();
    let sent = writes_of(&mut shard, sends).len();
    assert!(sent <= 256 + 8, "{sent} writes for 256 sends");

    let leased = writes_of(&mut shard, vec![lease(128).into(), lease(128).into()]).len();
    let acks = (1..=256u64).map(|item| ack(&[(item, 1)]).into()).collect();
    let acked = writes_of(&mut shard, acks).len();
    assert!(leased + acked <= 256 * 4 + 16, "{leased} writes for the leases, {acked} for the acks");
}

#[test]
fn pushes_and_posts_keep_to_their_write_budget() {
    let mut shard = Shard::with_room();
    shard.run(push("d", &[(1, 0, 1)]));
    let pushes = (1..=256).map(|clock| frame(clock, 0, push("d", &[(1, clock, clock + 1)]))).collect();
    let pushed = writes_of(&mut shard, pushes).len();
    assert!(pushed <= 256 + 8, "{pushed} writes for 256 pushes");

    let posts = (257..=512).map(|sequence| frame(sequence, 256, post("x"))).collect();
    let posted = writes_of(&mut shard, posts).len();
    assert!(posted <= 256 + 8, "{posted} writes for 256 posts");
}

/// Batches of 256 commands of a session, over and over; the fastest is told, because others share the machine.
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a stopwatch beside the state machine, not in it"
)]
#[expect(clippy::print_stdout, reason = "a number for whoever runs it with --nocapture")]
fn tell_speed(what: &str, mut operation: impl FnMut(u64) -> crate::Operation) {
    let mut shard = Shard::with_room();
    let mut fastest = f64::MAX;
    for batch in 0..60u64 {
        let first = batch * 256 + 1;
        let commands = (first..first + 256).map(|number| frame(number, first - 1, operation(number - 1))).collect();
        let start = std::time::Instant::now();
        let mut open = Batch::new(GROUP, &shard.tables).unwrap();
        let applied = open.apply(Timestamp(shard.now), commands).unwrap();
        let writes = open.into_writes();
        fastest = fastest.min(start.elapsed().as_secs_f64() * 1e6 / 256.0);
        assert!(applied.outcomes.iter().all(|outcome| !matches!(outcome, crate::Outcome::Refused(_))));
        shard.tables.write(writes);
    }
    println!("{what}: {fastest:.2} µs");
}

#[test]
fn speed_of_each_operation_is_told() {
    tell_speed("push, one document, one client", |clock| push("d", &[(1, clock, clock + 1)]));
    tell_speed("push, one document, 16 clients", |number| {
        let clock = number / 16;
        push("d", &[(number % 16, clock, clock + 1)])
    });
    tell_speed("push, 256 documents", |number| {
        let clock = number / 256;
        push(&format!("folder/document-{}", number % 256), &[(1, clock, clock + 1)])
    });
    tell_speed("post", |_| post("a message of some thirty bytes"));
    tell_speed("send", |_| send(&["an item of some thirty bytes.."]));
}
