//! What a plan promises, for clusters of all shapes.

use proptest::prelude::*;

use super::*;

fn uuid(number: u8) -> NodeUuid {
    NodeUuid([number; 16])
}

fn up(number: u8, zone: &str) -> PlanNode {
    PlanNode { node: uuid(number), zone: zone.into(), weight: 1, state: NodeState::Up }
}

fn input(nodes: Vec<PlanNode>, shard_count: u16) -> PlanInput {
    PlanInput { nodes, shard_count, replication: 3, current: Vec::new() }
}

fn planned(input: &PlanInput) -> Plan {
    plan(input).expect("nodes are up")
}

/// The plan as it stands once it has been carried out.
fn carried_out(plan: &Plan) -> Vec<CurrentShard> {
    let shard = |shard: &PlannedShard| CurrentShard {
        replicas: shard.replicas.iter().copied().collect(),
        preferred_leader: Some(shard.preferred_leader),
    };
    plan.shards.iter().map(shard).collect()
}

fn moved(before: &Plan, after: &Plan) -> usize {
    let new = |(before, after): (&PlannedShard, &PlannedShard)| {
        after.replicas.iter().filter(|node| !before.replicas.contains(node)).count()
    };
    before.shards.iter().zip(&after.shards).map(new).sum()
}

fn loads(plan: &Plan) -> BTreeMap<NodeUuid, usize> {
    let mut loads = BTreeMap::new();
    for node in plan.shards.iter().flat_map(|shard| &shard.replicas) {
        *loads.entry(*node).or_default() += 1;
    }
    loads
}

fn leader_loads(plan: &Plan) -> BTreeMap<NodeUuid, usize> {
    let mut loads = BTreeMap::new();
    for shard in &plan.shards {
        *loads.entry(shard.preferred_leader).or_default() += 1;
    }
    loads
}

fn cluster() -> impl Strategy<Value = PlanInput> {
    let node = (any::<u8>(), 0..4_u8, 1..4_u16);
    (prop::collection::vec(node, 1..14), 0..8_u32, 1..6_u16, any::<bool>()).prop_map(
        |(nodes, shards, replication, with_zones)| {
            let node = |(number, zone, weight): (u8, u8, u16)| PlanNode {
                node: uuid(number),
                zone: if with_zones { format!("zone-{zone}") } else { String::new() },
                weight,
                state: NodeState::Up,
            };
            // A node is listed once.
            let nodes: BTreeMap<u8, _> = nodes.into_iter().map(|spec| (spec.0, node(spec))).collect();
            let nodes = nodes.into_values().collect();
            PlanInput { nodes, shard_count: 1 << shards, replication, current: Vec::new() }
        },
    )
}

fn assert_sound(input: &PlanInput, plan: &Plan) {
    let wanted = usize::from(input.replication).min(input.nodes.len());
    assert_eq!(plan.shards.len(), usize::from(input.shard_count));
    for shard in &plan.shards {
        let distinct: BTreeSet<_> = shard.replicas.iter().collect();
        assert_eq!((shard.replicas.len(), distinct.len()), (wanted, wanted));
        assert!(shard.replicas.contains(&shard.preferred_leader));
    }
    let shards = usize::from(input.shard_count);
    let sorted: BTreeMap<_, _> = input.nodes.iter().map(|node| (node.node, usize::from(node.weight))).collect();
    let weights: Vec<usize> = sorted.values().copied().collect();
    let bounds = share::bounds(&weights, shards * wanted, shards);
    let loads = loads(plan);
    for (node, bound) in sorted.keys().zip(bounds) {
        let load = loads.get(node).copied().unwrap_or_default();
        assert!(load <= bound, "{node} holds {load}, its bound is {bound}");
    }
}

proptest! {
    #[test]
    fn every_shard_has_its_replicas_and_no_node_too_many(input in cluster()) {
        assert_sound(&input, &planned(&input));
    }

    #[test]
    fn a_plan_does_not_depend_on_the_order_of_nodes(input in cluster()) {
        let mut reversed = input.clone();
        reversed.nodes.reverse();
        prop_assert_eq!(planned(&input), planned(&reversed));
    }

    #[test]
    fn a_plan_that_is_carried_out_stays(input in cluster()) {
        let first = planned(&input);
        let again = planned(&PlanInput { current: carried_out(&first), ..input });
        prop_assert_eq!(again, first);
    }

    /// From any cluster to any other: the bounds hold even from a bad start.
    #[test]
    fn a_plan_from_any_start_is_sound(before in cluster(), after in cluster()) {
        let current = carried_out(&planned(&before));
        let input = PlanInput { current, ..after };
        assert_sound(&input, &planned(&input));
    }

    #[test]
    fn leaders_of_equal_nodes_are_balanced(count in 1..12_u8, shards in 0..9_u32) {
        let input = input((0..count).map(|number| up(number, "")).collect(), 1 << shards);
        let plan = planned(&input);
        let bound = (115_usize << shards).div_ceil(100 * usize::from(count));
        prop_assert!(leader_loads(&plan).values().all(|load| *load <= bound));
    }

    /// A newcomer takes at most its fair share, and nothing moves between the others but what exchanges need.
    #[test]
    fn a_join_moves_little(count in 3..12_u8) {
        let nodes: Vec<_> = (0..=count).map(|number| up(number, "")).collect();
        let before = planned(&input(nodes[..usize::from(count)].to_vec(), 128));
        let after = planned(&PlanInput { current: carried_out(&before), ..input(nodes, 128) });
        let fair_share = 128 * 3 / (usize::from(count) + 1) + 1;
        prop_assert!(moved(&before, &after) <= fair_share, "{} of {fair_share}", moved(&before, &after));
    }

    /// Only what the lost node held moves.
    #[test]
    fn a_loss_moves_what_was_lost(count in 4..12_u8) {
        let nodes: Vec<_> = (0..count).map(|number| up(number, "")).collect();
        let before = planned(&input(nodes.clone(), 128));
        let lost = loads(&before)[&uuid(0)];
        let after = planned(&PlanInput { current: carried_out(&before), ..input(nodes[1..].to_vec(), 128) });
        prop_assert!(moved(&before, &after) <= lost + lost / 4, "{} for {lost}", moved(&before, &after));
    }
}

#[test]
fn three_zones_hold_one_replica_each() {
    for per_zone in 1..5_u8 {
        let zones = ["a", "b", "c"];
        let nodes = (0..3 * per_zone).map(|number| up(number, zones[usize::from(number) % 3])).collect();
        for shard in planned(&input(nodes, 128)).shards {
            let zones: BTreeSet<u8> = shard.replicas.iter().map(|node| node.0[0] % 3).collect();
            assert_eq!(zones.len(), 3);
        }
    }
}

#[test]
fn load_comes_before_zones() {
    // One node alone in its zone: spreading every shard over two zones would give it all of them.
    let nodes = (0..10_u8).map(|number| up(number, if number == 0 { "small" } else { "large" })).collect();
    let input = PlanInput { replication: 2, ..input(nodes, 128) };
    let plan = planned(&input);
    assert_sound(&input, &plan);
    assert_eq!(loads(&plan)[&uuid(0)], (115_usize * 256).div_ceil(1_000));
}

#[test]
fn replicas_move_apart_when_zones_are_named() {
    let nodes = |zone: fn(u8) -> &'static str| (0..6_u8).map(|number| up(number, zone(number))).collect::<Vec<_>>();
    let before = planned(&input(nodes(|_| ""), 64));
    let zoned = nodes(|number| ["a", "b", "c"][usize::from(number) % 3]);
    let after = planned(&PlanInput { current: carried_out(&before), ..input(zoned, 64) });
    for shard in &after.shards {
        assert_eq!(shard.replicas.iter().map(|node| node.0[0] % 3).collect::<BTreeSet<_>>().len(), 3);
    }
}

fn with_state(count: u8, number: u8, state: NodeState) -> Vec<PlanNode> {
    let mut nodes: Vec<_> = (0..count).map(|number| up(number, "")).collect();
    nodes[usize::from(number)].state = state;
    nodes
}

#[test]
fn a_node_that_drains_keeps_its_replicas_and_leads_nothing() {
    for count in [3, 4, 5] {
        let before = planned(&input(with_state(count, 0, NodeState::Up), 64));
        let nodes = with_state(count, 0, NodeState::Draining);
        let after = planned(&PlanInput { current: carried_out(&before), ..input(nodes, 64) });
        assert_eq!(moved(&before, &after), 0, "{count} nodes");
        assert!(!leader_loads(&after).contains_key(&uuid(0)));
    }
}

#[test]
fn a_node_that_leaves_loses_everything() {
    let before = planned(&input(with_state(5, 0, NodeState::Up), 64));
    let leaving = input(with_state(5, 0, NodeState::Leaving), 64);
    let after = planned(&PlanInput { current: carried_out(&before), ..leaving });
    assert!(!loads(&after).contains_key(&uuid(0)));
    assert!(after.shards.iter().all(|shard| shard.replicas.len() == 3));
}

#[test]
fn a_heavier_node_holds_more() {
    let mut nodes: Vec<_> = (0..6_u8).map(|number| up(number, "")).collect();
    nodes[0].weight = 3;
    let loads = loads(&planned(&input(nodes, 256)));
    let others = (1..6_u8).map(|number| loads[&uuid(number)]).max();
    assert!(Some(loads[&uuid(0)]) > others.map(|most| most * 3 / 2), "{loads:?}");
}

#[test]
fn impossible_input_is_refused() {
    let nobody = input(Vec::new(), 4);
    assert_eq!(plan(&nobody), Err(PlanError::NoNode { shard: ShardId(0) }));
    let nodes = || vec![up(1, "")];
    assert_eq!(plan(&input(nodes(), 3)), Err(PlanError::ShardCount(3)));
    assert_eq!(plan(&PlanInput { replication: 0, ..input(nodes(), 4) }), Err(PlanError::Replication));
    let weightless = vec![PlanNode { weight: 0, ..up(1, "") }];
    assert_eq!(plan(&input(weightless, 4)), Err(PlanError::Weight(uuid(1))));
}
