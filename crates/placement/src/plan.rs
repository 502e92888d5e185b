//! The planner: which nodes should hold each shard, and which of them should lead it.
//!
//! In the order of importance: every shard has its replicas on different nodes; no node holds more than 1.15 times its
//! fair share; replicas stand in different zones where zones exist; replicas stay where they are; where a choice is left,
//! the ring's order decides. Integers only, and nothing but the input: two planners agree.

use std::collections::{BTreeMap, BTreeSet};

use conclave_types::{NodeUuid, ShardId};

use crate::ring::Ring;
use crate::slots::is_shard_count;

mod assignment;
mod share;

use assignment::Assignment;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanInput {
    /// In any order; each node once.
    pub nodes: Vec<PlanNode>,
    /// A power of two, at most 4,096.
    pub shard_count: u16,
    /// Replicas that each shard should have; fewer where there are fewer nodes.
    pub replication: u16,
    /// Shard k at position k; empty for a new cluster. Nodes that are not among `nodes` count as gone.
    pub current: Vec<CurrentShard>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanNode {
    pub node: NodeUuid,
    /// Empty where zones are not used.
    pub zone: String,
    /// Relative capacity, from 1.
    pub weight: u16,
    pub state: NodeState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Takes replicas and leads.
    Up,
    /// About to restart: keeps what it holds, takes nothing new, does not lead.
    Draining,
    /// Has to lose everything it holds.
    Leaving,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentShard {
    pub replicas: BTreeSet<NodeUuid>,
    pub preferred_leader: Option<NodeUuid>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Shard k at position k.
    pub shards: Vec<PlannedShard>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedShard {
    /// Different nodes, the most preferred first; at least one.
    pub replicas: Vec<NodeUuid>,
    /// One of `replicas`.
    pub preferred_leader: NodeUuid,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("no node is up to hold shard {}", shard.0)]
    NoNode { shard: ShardId },
    #[error("shard count {0} must be a power of two, at most 4096")]
    ShardCount(u16),
    #[error("replication must be at least 1")]
    Replication,
    #[error("weight of node {0} must be at least 1")]
    Weight(NodeUuid),
}

/// Plans all shards.
pub fn plan(input: &PlanInput) -> Result<Plan, PlanError> {
    if !is_shard_count(input.shard_count) {
        return Err(PlanError::ShardCount(input.shard_count));
    }
    if input.replication == 0 {
        return Err(PlanError::Replication);
    }
    if let Some(node) = input.nodes.iter().find(|node| node.weight == 0) {
        return Err(PlanError::Weight(node.node));
    }
    let planner = Planner::new(input);
    let replicas = planner.replicas();
    let leaders = planner.leaders(&replicas);
    let shard = |(number, (nodes, leader)): (usize, (&Vec<usize>, Option<usize>))| {
        let leader = leader.ok_or(PlanError::NoNode { shard: ShardId(number as u16) })?;
        let replicas = nodes.iter().map(|node| planner.nodes[*node].node).collect();
        Ok(PlannedShard { replicas, preferred_leader: planner.nodes[leader].node })
    };
    let shards = replicas.iter().zip(leaders).enumerate().map(shard).collect::<Result<_, _>>()?;
    Ok(Plan { shards })
}

/// Nodes are positions in `nodes`, which is sorted: the caller's order leaves no trace.
struct Planner<'a> {
    nodes: Vec<&'a PlanNode>,
    replication: usize,
    /// For each shard, all nodes that are up, the most preferred first.
    order: Vec<Vec<usize>>,
    /// For each shard, where it stands now: nodes that are up in that order, then those draining.
    current: Vec<Vec<usize>>,
    current_leader: Vec<Option<usize>>,
    /// Replicas of one shard that one zone may hold.
    zone_limit: usize,
}

/// What a further replica of a shard must respect.
#[derive(Clone, Copy)]
enum Zones {
    Spread,
    Any,
}

impl<'a> Planner<'a> {
    fn new(input: &'a PlanInput) -> Self {
        let by_uuid: BTreeMap<NodeUuid, &PlanNode> = input.nodes.iter().map(|node| (node.node, node)).collect();
        let nodes: Vec<&PlanNode> = by_uuid.into_values().collect();
        let position = |uuid: &NodeUuid| nodes.binary_search_by_key(uuid, |node| node.node).ok();

        let ring =
            Ring::new(nodes.iter().filter(|node| node.state == NodeState::Up).map(|node| (node.node, node.weight)));
        let shards = (0..input.shard_count).map(ShardId);
        let order: Vec<Vec<usize>> =
            shards.map(|shard| ring.candidates(shard).iter().filter_map(position).collect()).collect();

        let standing = |shard: usize, order: &Vec<usize>| {
            let now: BTreeSet<usize> =
                input.current.get(shard).into_iter().flat_map(|now| &now.replicas).filter_map(position).collect();
            let up = order.iter().copied().filter(|node| now.contains(node));
            let draining = now.iter().copied().filter(|node| nodes[*node].state == NodeState::Draining);
            up.chain(draining).collect()
        };
        let current = order.iter().enumerate().map(|(shard, order)| standing(shard, order)).collect();
        let leader = |shard: usize| position(&input.current.get(shard)?.preferred_leader?);
        let current_leader = (0..order.len()).map(leader).collect();

        let zones: BTreeSet<&str> =
            nodes.iter().filter(|node| node.state != NodeState::Leaving).map(|node| node.zone.as_str()).collect();
        let replication = usize::from(input.replication);
        let zone_limit = replication.div_ceil(zones.len().max(1));
        Planner { nodes, replication, order, current, current_leader, zone_limit }
    }

    fn is_up(&self, node: usize) -> bool {
        self.nodes[node].state == NodeState::Up
    }

    /// The nodes of each shard, the most preferred first.
    fn replicas(&self) -> Vec<Vec<usize>> {
        let mut assignment = Assignment::new(self.order.len(), self.replica_bounds());
        self.keep_current(&mut assignment);
        self.fill(&mut assignment, Zones::Spread);
        self.fill(&mut assignment, Zones::Any);
        self.fill_regardless_of_load(&mut assignment);
        let mut replicas = assignment.into_shards();
        for (nodes, order) in replicas.iter_mut().zip(&self.order) {
            // What is not in the order drains, and comes last.
            nodes.sort_by_key(|node| {
                (order.iter().position(|candidate| candidate == node).unwrap_or(usize::MAX), *node)
            });
        }
        replicas
    }

    /// Most replicas that each node may hold. What drains keeps what it has and needs no bound.
    fn replica_bounds(&self) -> Vec<usize> {
        let draining = |nodes: &Vec<usize>| nodes.iter().filter(|node| !self.is_up(**node)).count();
        let held_by_draining: usize = self.current.iter().map(draining).sum();
        let up = self.order.first().map_or(0, Vec::len);
        let wanted = (self.order.len() * self.replication.min(up)).saturating_sub(held_by_draining);
        share::bounds(&self.weights(), wanted, self.order.len())
    }

    /// Zero for nodes that take nothing.
    fn weights(&self) -> Vec<usize> {
        let weight = |node: usize| if self.is_up(node) { self.nodes[node].weight.into() } else { 0 };
        (0..self.nodes.len()).map(weight).collect()
    }

    /// Keeps replicas where they are, the most preferred of all shards first, so that what a full node gives up is what
    /// prefers it least.
    fn keep_current(&self, assignment: &mut Assignment) {
        let most = self.current.iter().map(Vec::len).max().unwrap_or(0);
        for rank in 0..most {
            for (shard, nodes) in self.current.iter().enumerate() {
                let Some(&node) = nodes.get(rank) else { continue };
                let wanted = assignment.nodes(shard).len() < self.replication;
                let draining = !self.is_up(node);
                let fits = assignment.has_room(node) && self.zone_allows(assignment.nodes(shard), None, node);
                if wanted && (draining || fits) {
                    assignment.add(shard, node);
                }
            }
        }
    }

    /// Gives every shard the replicas it lacks, as far as bounds and zones allow.
    fn fill(&self, assignment: &mut Assignment, zones: Zones) {
        let options = |nodes: &[usize], shard: usize, given_up: Option<usize>| -> Vec<usize> {
            let current = self.current[shard].iter().filter(|node| self.is_up(**node));
            // Where zones give way the present nodes come first: a plan repeated must not move anything.
            let preferred = current.chain(&self.order[shard]).copied();
            let allowed = |node: &usize| match zones {
                Zones::Spread => self.zone_allows(nodes, given_up, *node),
                Zones::Any => true,
            };
            preferred.filter(|node| !nodes.contains(node)).filter(allowed).collect()
        };
        for shard in 0..self.order.len() {
            while assignment.nodes(shard).len() < self.replication && assignment.place(shard, &options) {}
        }
    }

    /// Last resort, for bounds that nodes which drain have made impossible: a replica too many is better than one too few.
    fn fill_regardless_of_load(&self, assignment: &mut Assignment) {
        for (shard, order) in self.order.iter().enumerate() {
            while assignment.nodes(shard).len() < self.replication {
                let free = order.iter().copied().filter(|node| !assignment.nodes(shard).contains(node));
                let Some(node) = free.min_by_key(|node| assignment.load(*node)) else { break };
                assignment.add(shard, node);
            }
        }
    }

    fn zone_allows(&self, nodes: &[usize], given_up: Option<usize>, node: usize) -> bool {
        let zone = &self.nodes[node].zone;
        let there = nodes.iter().filter(|other| Some(**other) != given_up && self.nodes[**other].zone == *zone).count();
        there < self.zone_limit
    }

    /// Who should lead each shard: one of its replicas that is up, balanced by weight. None where there is no replica.
    fn leaders(&self, replicas: &[Vec<usize>]) -> Vec<Option<usize>> {
        let shards = replicas.len();
        let mut assignment = Assignment::new(shards, share::bounds(&self.weights(), shards, shards));
        for (shard, leader) in self.current_leader.iter().enumerate() {
            if let Some(leader) = leader.filter(|leader| replicas[shard].contains(leader) && self.is_up(*leader))
                && assignment.has_room(leader)
            {
                assignment.add(shard, leader);
            }
        }
        let options = |_: &[usize], shard: usize, given_up: Option<usize>| -> Vec<usize> {
            let able = replicas[shard].iter().copied().filter(|node| self.is_up(*node) && Some(*node) != given_up);
            able.collect()
        };
        for (shard, nodes) in replicas.iter().enumerate() {
            if assignment.nodes(shard).is_empty() && !assignment.place(shard, &options) {
                // Every bound is reached, or all of them drain.
                let able = nodes.iter().copied().min_by_key(|node| (!self.is_up(*node), assignment.load(*node)));
                able.into_iter().for_each(|node| assignment.add(shard, node));
            }
        }
        (0..shards).map(|shard| assignment.nodes(shard).first().copied()).collect()
    }
}

#[cfg(test)]
mod tests;
