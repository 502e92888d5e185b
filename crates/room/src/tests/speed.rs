//! How many writes the hot path makes. A budget, not a stopwatch.

use conclave_types::Timestamp;

use super::harness::*;
use crate::{Batch, Writes};

fn writes_of(shard: &mut Shard, commands: Vec<crate::Command>) -> Writes {
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
    assert!(sent <= 256 * 2 + 8, "{sent} writes for 256 sends");

    let leased = writes_of(&mut shard, vec![lease(128).into(), lease(128).into()]).len();
    let acks = (1..=256u64).map(|item| ack(&[(item, 1)]).into()).collect();
    let acked = writes_of(&mut shard, acks).len();
    assert!(leased + acked <= 256 * 5 + 16, "{leased} writes for the leases, {acked} for the acks");
}
