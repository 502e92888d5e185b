//! The order in which a shard prefers nodes: consistent hashing, so that a node that comes or goes changes little.
//!
//! hashring keeps the points; what it lacks is made here. It has no virtual nodes and no weights (a node stands at 64
//! points for each unit of weight), it hashes through `Hash` (our keys write explicit bytes into a fixed hash), and asked
//! for as many replicas as it has points it returns one twice (we ask for one less, which returns all of them).

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, Hasher};

use conclave_types::{NodeUuid, ShardId};
use hashring::HashRing;
use xxhash_rust::xxh3::Xxh3;

const POINTS_PER_WEIGHT: u32 = 64;

pub struct Ring {
    points: HashRing<Point, FixedHash>,
    nodes: usize,
}

impl Ring {
    /// A ring of nodes with their weights, in any order.
    pub fn new(nodes: impl IntoIterator<Item = (NodeUuid, u16)>) -> Ring {
        let mut points = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (node, weight) in nodes {
            names.insert(node);
            points.extend((0..POINTS_PER_WEIGHT * u32::from(weight)).map(|index| Point { node, index }));
        }
        let mut ring = HashRing::with_hasher(FixedHash);
        // Ascending, so that two points of one hash stand in the same order everywhere.
        ring.batch_add(points.into_iter().collect());
        Ring { points: ring, nodes: names.len() }
    }

    /// Every node of a weight above zero once, the most preferred first.
    pub fn candidates(&self, shard: ShardId) -> Vec<NodeUuid> {
        let others = self.points.len().saturating_sub(1);
        let points = self.points.get_with_replicas(&ShardKey(shard), others).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut order = Vec::with_capacity(self.nodes);
        for point in points {
            if seen.insert(point.node) {
                order.push(point.node);
            }
        }
        order
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    node: NodeUuid,
    index: u32,
}

struct ShardKey(ShardId);

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.node.0);
        bytes[16..].copy_from_slice(&self.index.to_be_bytes());
        state.write(&bytes);
    }
}

impl Hash for ShardKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.0.to_be_bytes());
    }
}

#[derive(Clone)]
struct FixedHash;

impl BuildHasher for FixedHash {
    type Hasher = Xxh3;

    fn build_hasher(&self) -> Xxh3 {
        Xxh3::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeUuid {
        NodeUuid([number; 16])
    }

    fn ring(numbers: impl IntoIterator<Item = u8>) -> Ring {
        Ring::new(numbers.into_iter().map(|number| (node(number), 1)))
    }

    #[test]
    fn every_node_is_a_candidate_once() {
        for count in 0..12 {
            for shard in 0..64 {
                let order = ring(0..count).candidates(ShardId(shard));
                assert_eq!(order.len(), usize::from(count));
                assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), usize::from(count));
            }
        }
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_nodes() {
        let (up, down) = (ring(0..9), ring((0..9).rev()));
        assert!((0..256).all(|shard| up.candidates(ShardId(shard)) == down.candidates(ShardId(shard))));
    }

    /// A version that prefers otherwise would move replicas at its first plan.
    #[test]
    fn the_order_never_changes() {
        let order = |shard| ring(1..=5).candidates(ShardId(shard)).iter().map(|node| node.0[0]).collect::<Vec<_>>();
        assert_eq!([order(0), order(1), order(127)], [vec![5, 1, 3, 4, 2], vec![5, 2, 3, 4, 1], vec![4, 3, 1, 5, 2]]);
    }

    #[test]
    fn a_node_that_leaves_changes_no_other_order() {
        let (before, after) = (ring(0..9), ring(0..8));
        for shard in 0..256 {
            let mut order = before.candidates(ShardId(shard));
            order.retain(|candidate| *candidate != node(8));
            assert_eq!(order, after.candidates(ShardId(shard)));
        }
    }

    #[test]
    fn a_heavier_node_is_first_more_often() {
        let ring = Ring::new([(node(1), 1), (node(2), 1), (node(3), 4)]);
        let first = (0..1_024).filter(|shard| ring.candidates(ShardId(*shard))[0] == node(3)).count();
        assert!((560..800).contains(&first), "{first}");
    }
}
