//! Shards to nodes, with a bound for each node.
//!
//! Taking the first node with room gets stuck: the nodes left with room may all hold the shard already. [`Assignment::place`]
//! then looks for the shortest chain of exchanges that ends at a node with room (an augmenting path of a bipartite
//! matching), so a place is found whenever bounds allow one at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) struct Assignment {
    shards: Vec<Vec<usize>>,
    load: Vec<usize>,
    bound: Vec<usize>,
}

/// Nodes that a shard could take, the best first: `(nodes it has, shard, node it would give up)`.
pub(super) type Options<'a> = dyn Fn(&[usize], usize, Option<usize>) -> Vec<usize> + 'a;

/// How a node was reached: this shard would take it, and give up the other.
struct Step {
    shard: usize,
    given_up: Option<usize>,
}

impl Assignment {
    pub(super) fn new(shards: usize, bound: Vec<usize>) -> Self {
        Assignment { shards: vec![Vec::new(); shards], load: vec![0; bound.len()], bound }
    }

    pub(super) fn nodes(&self, shard: usize) -> &[usize] {
        &self.shards[shard]
    }

    pub(super) fn load(&self, node: usize) -> usize {
        self.load[node]
    }

    pub(super) fn has_room(&self, node: usize) -> bool {
        self.load[node] < self.bound[node]
    }

    pub(super) fn add(&mut self, shard: usize, node: usize) {
        self.shards[shard].push(node);
        self.load[node] += 1;
    }

    pub(super) fn into_shards(self) -> Vec<Vec<usize>> {
        self.shards
    }

    /// Gives the shard one more node, by exchanges of other shards if need be. False when there is no way.
    pub(super) fn place(&mut self, shard: usize, options: &Options<'_>) -> bool {
        let mut reached: BTreeMap<usize, Step> = BTreeMap::new();
        let mut open = VecDeque::new();
        // A shard exchanges once in a chain: two exchanges could each be allowed and not both.
        let mut exchanged = BTreeSet::from([shard]);
        let reach = |reached: &mut BTreeMap<usize, Step>, open: &mut VecDeque<usize>, shard: usize, given_up| {
            for node in options(&self.shards[shard], shard, given_up) {
                reached.entry(node).or_insert_with(|| {
                    open.push_back(node);
                    Step { shard, given_up }
                });
            }
        };
        reach(&mut reached, &mut open, shard, None);
        while let Some(node) = open.pop_front() {
            if self.has_room(node) {
                self.exchange(node, reached);
                return true;
            }
            for other in 0..self.shards.len() {
                if self.shards[other].contains(&node) && exchanged.insert(other) {
                    reach(&mut reached, &mut open, other, Some(node));
                }
            }
        }
        false
    }

    /// Walks the chain back from the node with room to the shard that lacked one.
    fn exchange(&mut self, with_room: usize, mut reached: BTreeMap<usize, Step>) {
        self.load[with_room] += 1;
        let mut taken = with_room;
        while let Some(Step { shard, given_up }) = reached.remove(&taken) {
            self.shards[shard].push(taken);
            let Some(given_up) = given_up else { return };
            self.shards[shard].retain(|node| *node != given_up);
            taken = given_up;
        }
    }
}
