//! Fair shares and the bounds above them.

/// How far above its fair share a node may go, in hundredths: room for replicas to stay where they are.
const BOUND_PERCENT: usize = 115;

/// For each node the most it may hold of `wanted` things, of which one node can hold at most `most`.
///
/// The fair share goes by weight. A node whose share would be over `most` gets `most`, and the others share what it cannot
/// hold. The bound is 1.15 times the share, rounded up. Bounds add up to `wanted` or more wherever that is possible.
pub(super) fn bounds(weights: &[usize], wanted: usize, most: usize) -> Vec<usize> {
    let mut bounds: Vec<usize> = vec![0; weights.len()];
    let (mut left, mut sharing) = (wanted, weights.iter().sum::<usize>());
    let mut heaviest_first: Vec<usize> = (0..weights.len()).filter(|node| weights[*node] > 0).collect();
    heaviest_first.sort_by_key(|node| std::cmp::Reverse(weights[*node]));
    let mut nodes = heaviest_first.into_iter().peekable();
    while let Some(node) = nodes.next_if(|node| left * weights[*node] > most * sharing) {
        bounds[node] = most;
        left -= most;
        sharing -= weights[node];
    }
    for node in nodes {
        bounds[node] = (BOUND_PERCENT * left * weights[node]).div_ceil(100 * sharing).min(most);
    }
    bounds
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_nodes_have_equal_bounds() {
        assert_eq!(bounds(&[1; 4], 3 * 128, 128), [111; 4]);
        assert_eq!(bounds(&[2; 3], 3 * 128, 128), [128; 3]);
    }

    #[test]
    fn what_a_heavy_node_cannot_hold_falls_to_the_others() {
        // 300 replicas: the heavy node can hold 100, the others share 200.
        assert_eq!(bounds(&[1, 10, 1, 1], 300, 100), [77, 100, 77, 77]);
    }

    #[test]
    fn a_node_without_weight_holds_nothing() {
        assert_eq!(bounds(&[0, 1], 10, 10), [0, 10]);
        assert_eq!(bounds(&[0], 10, 10), [0]);
    }

    proptest! {
        #[test]
        fn bounds_leave_room_for_everything(
            weights in prop::collection::vec(1..20_usize, 1..12),
            most in 1..300_usize,
            replication in 1..6_usize,
        ) {
            let wanted = most * replication.min(weights.len());
            let bounds = bounds(&weights, wanted, most);
            prop_assert!(bounds.iter().sum::<usize>() >= wanted);
            prop_assert!(bounds.iter().all(|bound| *bound <= most));
        }
    }
}
