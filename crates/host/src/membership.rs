//! Makes the members of every shard that this host leads what the table lists.
//!
//! How one group gets there is `conclave-cluster`'s affair; here is decided which groups are worked on. Few at once, since
//! each that is rebuilt reads a whole replica; and none holds its place for long, so a new member that does not answer
//! keeps nobody else waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use conclave_cluster::ClusterTable;
use conclave_cluster::membership::{Reconciled, Step, listed, next_step, reconcile};
use conclave_raft::Leadership;
use conclave_types::ShardId;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::service::Serving;
use crate::shard::Shard;

/// Groups that are changed at once.
const AT_ONCE: usize = 2;
/// How long a group is worked on before others have their turn; its new member goes on catching up meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a group is tried again, and how often what nobody is told of is looked at.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs until the host stops.
pub async fn keep_members(serving: Arc<Serving>, keep: CancellationToken) {
    let mut leadership = serving.leadership_changed.subscribe();
    let mut table = serving.table.clone();
    let mut work = FuturesUnordered::new();
    let mut turns = Turns::default();
    loop {
        leadership.borrow_and_update();
        let due = match table.borrow_and_update().clone() {
            Some(table) => differing(&serving, &table),
            None => BTreeMap::new(),
        };
        let is_due = !due.is_empty();
        for id in turns.next(due.keys().copied(), Instant::now()) {
            let (shard, serving) = (due[&id].clone(), serving.clone());
            work.push(async move {
                attempt(&serving, &shard).await;
                id
            });
        }
        tokio::select! {
            () = keep.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            changed = table.changed() => if changed.is_err() { return },
            Some(id) = work.next() => turns.ended(id, Instant::now()),
            () = tokio::time::sleep(AGAIN), if is_due => {}
        }
    }
}

/// The shards led here whose members are not those of the table.
fn differing(serving: &Serving, table: &ClusterTable) -> BTreeMap<ShardId, Arc<Shard>> {
    let shards = serving.shards.read();
    let differs = |shard: &Shard| {
        let leads = matches!(*shard.group().leadership().borrow(), Leadership::Leader { .. });
        leads && next_step(&shard.group().status(), &listed(table, shard.group_id())) != Step::Done
    };
    shards.iter().filter(|(_, shard)| differs(shard)).map(|(id, shard)| (*id, shard.clone())).collect()
}

async fn attempt(serving: &Serving, shard: &Shard) {
    let shard_id = shard.id().0;
    match reconcile(shard.group(), &serving.table, PATIENCE).await {
        Reconciled::Equal { changes } => {
            serving.rebuilds.fetch_add(changes, Ordering::Relaxed);
        }
        Reconciled::NotLeading => {}
        Reconciled::NotYet => info!(shard = shard_id, "a new member does not have the log yet"),
        Reconciled::Refused(reason) => debug!(shard = shard_id, %reason, "the members could not be changed yet"),
    }
}

/// Who is worked on, and who was last: those who waited longest come first.
#[derive(Default)]
struct Turns {
    working: BTreeSet<ShardId>,
    ended: BTreeMap<ShardId, Instant>,
}

impl Turns {
    /// Those whose turn it is now; they count as worked on until they are said to have ended.
    fn next(&mut self, due: impl Iterator<Item = ShardId>, now: Instant) -> Vec<ShardId> {
        let due: BTreeSet<ShardId> = due.collect();
        self.ended.retain(|id, _| due.contains(id));
        let rests = |id: &ShardId| self.ended.get(id).is_some_and(|ended| now.duration_since(*ended) < AGAIN);
        let mut waiting: Vec<_> = due.into_iter().filter(|id| !self.working.contains(id) && !rests(id)).collect();
        waiting.sort_by_key(|id| self.ended.get(id).copied());
        waiting.truncate(AT_ONCE.saturating_sub(self.working.len()));
        self.working.extend(&waiting);
        waiting
    }

    fn ended(&mut self, id: ShardId, now: Instant) {
        self.working.remove(&id);
        self.ended.insert(id, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_never_gets_there_keeps_nobody_waiting() {
        let mut turns = Turns::default();
        let start = Instant::now();
        let all = || (0..4).map(ShardId);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(turns.next(all(), at(0)), [ShardId(0), ShardId(1)]);
        assert_eq!(turns.next(all(), at(0)), [], "no more at once");
        turns.ended(ShardId(0), at(10));
        assert_eq!(turns.next(all(), at(10)), [ShardId(2)], "the first rests");
        turns.ended(ShardId(1), at(11));
        turns.ended(ShardId(2), at(12));
        assert_eq!(turns.next(all(), at(20)), [ShardId(3), ShardId(0)], "who never had a turn comes first");
    }
}
