//! What a command does to the table. Pure: every replica of the metadata group comes to the same table.

mod new_store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use conclave_types::{ClusterUuid, Epoch, NodeUuid, ProjectId, ReplicaId, ShardId};

use crate::command::{Bootstrap, MetaCommand, PlannedShard};
use crate::identity::store::FIRST_STORE;
use crate::table::{
    ClusterTable, FIRST_ALLOCATED_REPLICA, KeyId, Node, NodeState, Replica, Shard, ShardState, TableError,
    TableRevision, TokenKey, check_address,
};

/// The feature level of a new cluster.
const FEATURE_LEVEL: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    Changed(ClusterTable),
    /// The table already is as the command asks.
    Unchanged,
}

/// Why a command changes nothing. Proposing it again changes nothing either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaRefusal {
    #[error("the cluster exists already, as {0}")]
    AlreadyBootstrapped(ClusterUuid),
    #[error("the cluster does not exist yet")]
    NotBootstrapped,
    #[error("node {0} has left the cluster")]
    NodeGone(NodeUuid),
    #[error(
        "node {node} comes with its store {given}, and the cluster knows its store {known}: the data folder is an older \
         copy, and what it held was rebuilt since; bring the newest folder back, or start with an empty one as a new node"
    )]
    OldStore { node: NodeUuid, known: u32, given: u32 },
    #[error(
        "node {node} lost its store {lost}, which held the only replica of {group}: nobody can give it back; restore \
         that store (the node's log says where it lies), or found a new cluster"
    )]
    OnlyReplica { node: NodeUuid, lost: u32, group: LostGroup },
    #[error("shard {} does not exist", .0.0)]
    UnknownShard(ShardId),
    #[error("token key {0} exists already with another secret or project")]
    KeyTaken(KeyId),
    #[error(transparent)]
    Invalid(#[from] TableError),
}

/// What has no replica left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostGroup {
    Metadata,
    Shard(ShardId),
}

impl fmt::Display for LostGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LostGroup::Metadata => f.write_str("the metadata group"),
            LostGroup::Shard(shard) => write!(f, "shard {}", shard.0),
        }
    }
}

/// The table after `command`.
pub fn apply(table: Option<&ClusterTable>, command: &MetaCommand) -> Result<Applied, MetaRefusal> {
    let table = match (table, command) {
        (Some(table), MetaCommand::Bootstrap(again)) if table.cluster == again.cluster => {
            return Ok(Applied::Unchanged);
        }
        (Some(table), MetaCommand::Bootstrap(_)) => return Err(MetaRefusal::AlreadyBootstrapped(table.cluster)),
        (None, MetaCommand::Bootstrap(bootstrap)) => return found(bootstrap).map(Applied::Changed),
        (None, _) => return Err(MetaRefusal::NotBootstrapped),
        (Some(table), _) => table,
    };
    let mut next = table.clone();
    match command {
        MetaCommand::Bootstrap(_) => unreachable!("handled above"),
        MetaCommand::RegisterNode { node, address, zone, store } => {
            register_node(&mut next, *node, address, zone, *store)?;
        }
        MetaCommand::ActivateShard { shard } => activate_shard(&mut next, *shard)?,
        MetaCommand::CreateProject { project } => {
            next.projects.insert(project.clone());
        }
        MetaCommand::CreateTokenKey { key } => create_token_key(&mut next, key)?,
    }
    if next == *table {
        return Ok(Applied::Unchanged);
    }
    next.revision = table.revision.next();
    next.check()?;
    Ok(Applied::Changed(next))
}

fn found(bootstrap: &Bootstrap) -> Result<ClusterTable, MetaRefusal> {
    let mut next_replica = FIRST_ALLOCATED_REPLICA;
    let shards = bootstrap.shards.iter().map(|planned| shard(planned, &mut next_replica)).collect::<Result<_, _>>()?;
    let nodes: BTreeMap<NodeUuid, Node> = bootstrap.nodes.iter().map(|node| (node.node, node.clone())).collect();
    if nodes.len() != bootstrap.nodes.len() {
        return Err(TableError::new("nodes", "holds one twice").into());
    }
    let project: ProjectId = bootstrap.project.clone();
    let table = ClusterTable {
        cluster: bootstrap.cluster,
        revision: TableRevision(1),
        replication: bootstrap.replication,
        secret: bootstrap.secret.clone(),
        feature_level: FEATURE_LEVEL,
        next_replica,
        nodes,
        meta_replicas: bootstrap.meta_replicas.clone(),
        shards,
        projects: BTreeSet::from([project]),
        token_keys: BTreeMap::from([(bootstrap.token_key.kid.clone(), bootstrap.token_key.clone())]),
    };
    table.check()?;
    Ok(table)
}

fn shard(planned: &PlannedShard, next_replica: &mut ReplicaId) -> Result<Shard, TableError> {
    let replicas: Vec<Replica> = planned
        .nodes
        .iter()
        .map(|node| {
            let replica = *next_replica;
            next_replica.0 += 1;
            Replica { replica, node: *node, store: FIRST_STORE }
        })
        .collect();
    let preferred = replicas
        .get(planned.preferred_leader)
        .ok_or_else(|| TableError::new("shards.preferred_leader", "must be one of the shard's replicas"))?;
    let preferred_leader = preferred.replica;
    Ok(Shard { epoch: Epoch(1), state: ShardState::Creating, replicas, preferred_leader })
}

fn register_node(
    table: &mut ClusterTable,
    node: NodeUuid,
    address: &str,
    zone: &str,
    store: u32,
) -> Result<(), MetaRefusal> {
    check_address(address)?;
    let known = table.nodes.entry(node).or_insert_with(|| Node {
        node,
        address: String::new(),
        zone: String::new(),
        state: NodeState::Up,
        store,
    });
    if known.state == NodeState::Gone {
        return Err(MetaRefusal::NodeGone(node));
    }
    known.address = address.into();
    known.zone = zone.into();
    match (known.store, store) {
        (known, given) if given < known => Err(MetaRefusal::OldStore { node, known, given }),
        (lost, given) if given > lost => new_store::take(table, node, lost, given),
        _ => Ok(()),
    }
}

fn activate_shard(table: &mut ClusterTable, shard: ShardId) -> Result<(), MetaRefusal> {
    let row = table.shards.get_mut(usize::from(shard.0)).ok_or(MetaRefusal::UnknownShard(shard))?;
    row.state = ShardState::Active;
    new_store::renew_shard(row, &table.nodes, &mut table.next_replica);
    Ok(())
}

fn create_token_key(table: &mut ClusterTable, key: &TokenKey) -> Result<(), MetaRefusal> {
    let known = table.token_keys.entry(key.kid.clone()).or_insert_with(|| key.clone());
    if known == key { Ok(()) } else { Err(MetaRefusal::KeyTaken(key.kid.clone())) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::table::Secret;
    use crate::table::tests::sample;

    pub(crate) fn bootstrap() -> Bootstrap {
        let table = sample();
        let nodes: Vec<NodeUuid> = table.nodes.keys().copied().collect();
        Bootstrap {
            cluster: table.cluster,
            replication: 3,
            secret: table.secret,
            nodes: table.nodes.into_values().collect(),
            meta_replicas: table.meta_replicas,
            shards: vec![PlannedShard { nodes, preferred_leader: 1 }; 4],
            project: "demo".parse().unwrap(),
            token_key: table.token_keys.into_values().next().unwrap(),
        }
    }

    /// One command of each kind; all succeed in this order.
    pub(crate) fn commands() -> Vec<MetaCommand> {
        let key = TokenKey {
            kid: "second".parse().unwrap(),
            project: "other".parse().unwrap(),
            secret: Secret::new([4; 40]),
        };
        vec![
            MetaCommand::Bootstrap(Box::new(bootstrap())),
            MetaCommand::RegisterNode {
                node: NodeUuid([4; 16]),
                address: "host-4:7000".into(),
                zone: "b".into(),
                store: 1,
            },
            MetaCommand::ActivateShard { shard: ShardId(3) },
            MetaCommand::CreateProject { project: "other".parse().unwrap() },
            MetaCommand::CreateTokenKey { key },
        ]
    }

    pub(crate) fn changed(table: Option<&ClusterTable>, command: &MetaCommand) -> ClusterTable {
        match apply(table, command) {
            Ok(Applied::Changed(table)) => table,
            other => panic!("{command:?} gave {other:?}"),
        }
    }

    pub(crate) fn founded() -> ClusterTable {
        changed(None, &MetaCommand::Bootstrap(Box::new(bootstrap())))
    }

    #[test]
    fn every_command_changes_the_table_once() {
        let mut table = None;
        for (count, command) in (1..).zip(commands()) {
            let next = changed(table.as_ref(), &command);
            assert_eq!(next.revision, TableRevision(count));
            assert_eq!(apply(Some(&next), &command), Ok(Applied::Unchanged), "{command:?}");
            table = Some(next);
        }
        let table = table.unwrap();
        assert_eq!(table.nodes.len(), 4);
        assert_eq!(table.shards[3].state, ShardState::Active);
        assert_eq!(table.token_keys.len(), 2);
    }

    #[test]
    fn replica_ids_start_at_1000_and_are_handed_out_once() {
        let table = founded();
        let mut ids: Vec<u64> =
            table.shards.iter().flat_map(|shard| &shard.replicas).map(|replica| replica.replica.0).collect();
        assert_eq!(ids, (1_000..1_012).collect::<Vec<_>>());
        ids.dedup();
        assert_eq!(ids.len(), 12);
        assert_eq!(table.next_replica, ReplicaId(1_012));
        assert_eq!(table.shards[1].preferred_leader, ReplicaId(1_004));
    }

    #[test]
    fn a_second_cluster_is_refused() {
        let table = founded();
        let other = Bootstrap { cluster: ClusterUuid([1; 16]), ..bootstrap() };
        let refused = apply(Some(&table), &MetaCommand::Bootstrap(Box::new(other)));
        assert_eq!(refused, Err(MetaRefusal::AlreadyBootstrapped(table.cluster)));
    }

    #[test]
    fn nothing_comes_before_the_bootstrap() {
        for command in commands().into_iter().skip(1) {
            assert_eq!(apply(None, &command), Err(MetaRefusal::NotBootstrapped));
        }
    }

    #[test]
    fn a_bootstrap_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut Bootstrap)| {
            let mut bad = bootstrap();
            change(&mut bad);
            match apply(None, &MetaCommand::Bootstrap(Box::new(bad))) {
                Err(MetaRefusal::Invalid(error)) => error.field,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(|bad| bad.shards[0].preferred_leader = 3), "shards.preferred_leader");
        assert_eq!(refused(|bad| bad.shards.truncate(3)), "shard_count");
        assert_eq!(refused(|bad| bad.nodes.push(bad.nodes[0].clone())), "nodes");
        assert_eq!(refused(|bad| bad.nodes.truncate(2)), "replication");
        assert_eq!(refused(|bad| bad.token_key.project = "other".parse().unwrap()), "token_key.project");
        assert_eq!(refused(|bad| bad.token_key.secret = Secret::new([1; 31])), "token_key.secret");
    }

    #[test]
    fn a_known_node_moves_and_an_address_belongs_to_one() {
        let table = founded();
        let node = NodeUuid([1; 16]);
        let register =
            |address: &str| MetaCommand::RegisterNode { node, address: address.into(), zone: "z".into(), store: 1 };
        let moved = changed(Some(&table), &register("elsewhere:7000"));
        assert_eq!(moved.node(node).unwrap().address, "elsewhere:7000");
        let refused = apply(Some(&table), &register("host-2:7000"));
        assert!(matches!(refused, Err(MetaRefusal::Invalid(error)) if error.field == "nodes.address"));
        let mut left = table;
        left.nodes.get_mut(&node).unwrap().state = NodeState::Gone;
        assert_eq!(apply(Some(&left), &register("elsewhere:7000")), Err(MetaRefusal::NodeGone(node)));
    }

    #[test]
    fn keys_are_not_replaced_and_unknown_things_are_refused() {
        let table = founded();
        let mut key = table.token_keys.values().next().unwrap().clone();
        key.secret = Secret::new([1; 32]);
        let kid = key.kid.clone();
        let refused = apply(Some(&table), &MetaCommand::CreateTokenKey { key });
        assert_eq!(refused, Err(MetaRefusal::KeyTaken(kid)));
        let refused = apply(Some(&table), &MetaCommand::ActivateShard { shard: ShardId(4) });
        assert_eq!(refused, Err(MetaRefusal::UnknownShard(ShardId(4))));
    }
}
