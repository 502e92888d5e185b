//! The first placement. The planner decides; the table only stores what it decided.

use conclave_placement::{NodeState, PlanInput, PlanNode, plan};

use super::FoundingError;
use crate::command::PlannedShard;
use crate::table::Node;

pub(super) fn plan_shards(
    nodes: &[Node],
    shard_count: u16,
    replication: usize,
) -> Result<Vec<PlannedShard>, FoundingError> {
    let input = PlanInput {
        nodes: nodes
            .iter()
            .map(|node| PlanNode { node: node.node, zone: node.zone.clone(), weight: 1, state: NodeState::Up })
            .collect(),
        shard_count,
        replication: u16::try_from(replication).unwrap_or(u16::MAX),
        current: Vec::new(),
    };
    let planned = plan(&input).map_err(|error| FoundingError::Plan(error.to_string()))?;
    let shard = |shard: conclave_placement::PlannedShard| {
        let preferred = shard.replicas.iter().position(|node| *node == shard.preferred_leader);
        let preferred_leader = preferred.expect("the planner names a leader among the replicas");
        PlannedShard { nodes: shard.replicas, preferred_leader }
    };
    Ok(planned.shards.into_iter().map(shard).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use conclave_types::NodeUuid;

    use super::*;
    use crate::table::NodeState as TableNodeState;

    #[test]
    fn every_shard_gets_different_nodes_and_a_leader_among_them() {
        let nodes: Vec<Node> = (1..=4)
            .map(|n| Node {
                node: NodeUuid([n; 16]),
                address: format!("host-{n}:7000"),
                zone: String::new(),
                state: TableNodeState::Up,
                store: 1,
            })
            .collect();
        let shards = plan_shards(&nodes, 16, 3).unwrap();
        assert_eq!(shards.len(), 16);
        for shard in shards {
            assert_eq!(shard.nodes.iter().collect::<BTreeSet<_>>().len(), 3);
            assert!(shard.preferred_leader < 3);
        }
        assert!(matches!(plan_shards(&nodes, 12, 3), Err(FoundingError::Plan(reason)) if reason.contains("12")));
    }
}
