//! A node comes back with an empty store in place of one that it lost.
//!
//! Its replicas had voted and acknowledged, so none of them may go on under its id: each gets a new one, in the same
//! place of its row, and is rebuilt from its peers. Ids are never used again, so whatever still speaks to the old ones is
//! answered by nobody.
//!
//! A shard that is still being created keeps its row until it is active. Whoever gives its group the first members takes
//! them from this row, and two of them with different members would make two groups; so the first members are the same
//! for ever, and what was lost meanwhile is replaced when the group is known to have begun. Until then the shard has
//! acknowledged nothing.

use std::collections::BTreeMap;

use conclave_types::{Epoch, NodeUuid, ReplicaId};

use super::{LostGroup, MetaRefusal};
use crate::table::{ClusterTable, Node, Replica, Shard, ShardState};

/// Replaces everything that `node` held in its store `lost`.
pub(super) fn take(table: &mut ClusterTable, node: NodeUuid, lost: u32, given: u32) -> Result<(), MetaRefusal> {
    if let Some(group) = only_replica(table, node) {
        return Err(MetaRefusal::OnlyReplica { node, lost, group });
    }
    table.nodes.entry(node).and_modify(|known| known.store = given);
    renew(&mut table.meta_replicas, &table.nodes, &mut table.next_replica);
    for shard in table.shards.iter_mut().filter(|shard| shard.state == ShardState::Active) {
        renew_shard(shard, &table.nodes, &mut table.next_replica);
    }
    Ok(())
}

/// Replaces the shard's replicas whose stores are gone; a row that changes gets a new epoch.
pub(super) fn renew_shard(shard: &mut Shard, nodes: &BTreeMap<NodeUuid, Node>, next_replica: &mut ReplicaId) {
    let renewed = renew(&mut shard.replicas, nodes, next_replica);
    if let Some(new) = renewed.get(&shard.preferred_leader) {
        shard.preferred_leader = *new;
    }
    if !renewed.is_empty() {
        shard.epoch = Epoch(shard.epoch.0 + 1);
    }
}

/// The old ids with the new ones.
fn renew(
    replicas: &mut [Replica],
    nodes: &BTreeMap<NodeUuid, Node>,
    next_replica: &mut ReplicaId,
) -> BTreeMap<ReplicaId, ReplicaId> {
    let mut renewed = BTreeMap::new();
    for replica in replicas {
        let Some(present) = nodes.get(&replica.node).map(|node| node.store) else { continue };
        if replica.store < present {
            renewed.insert(replica.replica, *next_replica);
            *replica = Replica { replica: *next_replica, node: replica.node, store: present };
            next_replica.0 += 1;
        }
    }
    renewed
}

/// A group that `node` alone holds a replica of.
fn only_replica(table: &ClusterTable, node: NodeUuid) -> Option<LostGroup> {
    if table.meta_replicas.len() == 1 && table.meta_replica_of(node).is_some() {
        return Some(LostGroup::Metadata);
    }
    let mut held = table.shards_of(node);
    held.find(|(_, shard, _)| shard.replicas.len() == 1).map(|(id, ..)| LostGroup::Shard(id))
}

#[cfg(test)]
mod tests {
    use conclave_types::ShardId;

    use super::*;
    use crate::apply::tests::{changed, founded};
    use crate::apply::{Applied, apply};
    use crate::command::MetaCommand;

    const LOST: NodeUuid = NodeUuid([2; 16]);

    fn register(store: u32) -> MetaCommand {
        MetaCommand::RegisterNode { node: LOST, address: "host-2:7000".into(), zone: String::new(), store }
    }

    /// The sample cluster with its shards in service.
    fn active() -> ClusterTable {
        (0..4).fold(founded(), |table, shard| {
            changed(Some(&table), &MetaCommand::ActivateShard { shard: ShardId(shard) })
        })
    }

    fn ids(replicas: &[Replica]) -> Vec<(u64, u32)> {
        replicas.iter().map(|replica| (replica.replica.0, replica.store)).collect()
    }

    #[test]
    fn every_replica_of_the_lost_store_gets_a_new_id_in_its_place() {
        let before = active();
        assert_eq!(before.shards[1].preferred_leader, ReplicaId(1_004), "the sample has the lost node lead");
        let after = changed(Some(&before), &register(2));
        assert_eq!(ids(&after.meta_replicas), [(1, 1), (1_012, 2), (3, 1)]);
        assert_eq!(ids(&after.shards[0].replicas), [(1_000, 1), (1_013, 2), (1_002, 1)]);
        assert_eq!(ids(&after.shards[3].replicas), [(1_009, 1), (1_016, 2), (1_011, 1)]);
        assert_eq!(after.shards[1].preferred_leader, ReplicaId(1_014));
        assert!(after.shards.iter().all(|shard| shard.epoch == Epoch(2)));
        assert_eq!((after.next_replica, after.node(LOST).unwrap().store), (ReplicaId(1_017), 2));
        assert_eq!(after.meta_replica_of(LOST).unwrap().replica, ReplicaId(1_012));

        assert_eq!(apply(Some(&after), &register(2)), Ok(Applied::Unchanged), "once a store");
        let again = changed(Some(&after), &register(4));
        assert_eq!(ids(&again.shards[0].replicas), [(1_000, 1), (1_018, 4), (1_002, 1)]);
        assert_eq!(again.shards[0].epoch, Epoch(3));
    }

    #[test]
    fn an_older_store_is_refused_with_what_to_do() {
        let table = changed(Some(&active()), &register(3));
        let refused = apply(Some(&table), &register(2)).unwrap_err();
        assert_eq!(refused, MetaRefusal::OldStore { node: LOST, known: 3, given: 2 });
        let message = refused.to_string();
        assert!(message.contains("older copy") && message.contains("bring the newest folder back"), "{message}");
    }

    #[test]
    fn what_nobody_else_holds_is_not_given_up_silently() {
        let mut table = active();
        table.shards[2].replicas.retain(|replica| replica.node == LOST);
        table.shards[2].preferred_leader = table.shards[2].replicas[0].replica;
        let refused = apply(Some(&table), &register(2)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "node 02020202020202020202020202020202 lost its store 1, which held the only replica of shard 2: nobody \
             can give it back; restore that store (the node's log says where it lies), or found a new cluster"
        );
        let mut table = active();
        table.meta_replicas.retain(|replica| replica.node == LOST);
        let refused = apply(Some(&table), &register(2)).unwrap_err();
        assert_eq!(refused, MetaRefusal::OnlyReplica { node: LOST, lost: 1, group: LostGroup::Metadata });
    }

    #[test]
    fn a_group_that_may_not_have_begun_keeps_its_first_members() {
        let before = founded();
        let lost = changed(Some(&before), &register(2));
        assert_eq!(lost.shards, before.shards, "whoever gives the groups their members sees one list only");
        assert_eq!(ids(&lost.meta_replicas), [(1, 1), (1_012, 2), (3, 1)]);
        let begun = changed(Some(&lost), &MetaCommand::ActivateShard { shard: ShardId(1) });
        assert_eq!(ids(&begun.shards[1].replicas), [(1_003, 1), (1_013, 2), (1_005, 1)]);
        assert_eq!((begun.shards[1].epoch, begun.shards[1].preferred_leader), (Epoch(2), ReplicaId(1_013)));
        assert_eq!(begun.shards[0], before.shards[0]);
        let again = MetaCommand::ActivateShard { shard: ShardId(1) };
        assert_eq!(apply(Some(&begun), &again), Ok(Applied::Unchanged));
    }
}
