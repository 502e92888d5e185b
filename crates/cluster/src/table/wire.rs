//! The table as bytes: on disk and on the wire. Encoding the same table gives the same bytes on every node.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conclave_proto::internal::v1 as wire;
use conclave_types::{ClusterUuid, Epoch, NodeUuid, ProjectId, ReplicaId};
use prost::Message;

use crate::identity::store::FIRST_STORE;

use super::{ClusterTable, Node, NodeState, Replica, Secret, Shard, ShardState, TableError, TableRevision, TokenKey};

impl ClusterTable {
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, TableError> {
        let table = wire::ClusterTable::decode(bytes).map_err(|error| TableError::new("table", error.to_string()))?;
        ClusterTable::from_wire(table)
    }

    pub(crate) fn to_wire(&self) -> wire::ClusterTable {
        wire::ClusterTable {
            cluster_uuid: Bytes::copy_from_slice(&self.cluster.0),
            revision: self.revision.0,
            shard_count: self.shard_count().into(),
            replication: to_u32(self.replication),
            cluster_secret: Bytes::copy_from_slice(self.secret.bytes()),
            feature_level: self.feature_level,
            next_replica_id: self.next_replica.0,
            nodes: self.nodes.values().map(Node::to_wire).collect(),
            meta_replicas: self.meta_replicas.iter().copied().map(Replica::to_wire).collect(),
            shards: self.shards.iter().map(Shard::to_wire).collect(),
            projects: self.projects.iter().map(ToString::to_string).collect(),
            token_keys: self.token_keys.values().map(TokenKey::to_wire).collect(),
        }
    }

    pub(crate) fn from_wire(table: wire::ClusterTable) -> Result<Self, TableError> {
        if table.shard_count as usize != table.shards.len() {
            return Err(TableError::new("shard_count", "differs from the number of shards"));
        }
        let table = ClusterTable {
            cluster: ClusterUuid(uuid("cluster_uuid", &table.cluster_uuid)?),
            revision: TableRevision(table.revision),
            replication: table.replication as usize,
            secret: Secret::new(table.cluster_secret.as_ref()),
            feature_level: table.feature_level,
            next_replica: ReplicaId(table.next_replica_id),
            nodes: unique("nodes", table.nodes.into_iter().map(Node::from_wire), |node| node.node)?,
            meta_replicas: table.meta_replicas.iter().map(Replica::from_wire).collect::<Result<_, _>>()?,
            shards: table.shards.into_iter().map(Shard::from_wire).collect::<Result<_, _>>()?,
            projects: table.projects.iter().map(|name| project(name)).collect::<Result<BTreeSet<_>, _>>()?,
            token_keys: unique("token_keys", table.token_keys.into_iter().map(TokenKey::from_wire), |key| {
                key.kid.clone()
            })?,
        };
        table.check()?;
        Ok(table)
    }
}

impl Node {
    pub(crate) fn to_wire(&self) -> wire::Node {
        let state = match self.state {
            NodeState::Joining => wire::NodeState::Joining,
            NodeState::Up => wire::NodeState::Up,
            NodeState::Draining => wire::NodeState::Draining,
            NodeState::Gone => wire::NodeState::Gone,
        };
        wire::Node {
            node_uuid: Bytes::copy_from_slice(&self.node.0),
            address: self.address.clone(),
            zone: self.zone.clone(),
            state: state.into(),
            store: self.store,
        }
    }

    pub(crate) fn from_wire(node: wire::Node) -> Result<Self, TableError> {
        let state = match node.state() {
            wire::NodeState::Joining => NodeState::Joining,
            wire::NodeState::Up => NodeState::Up,
            wire::NodeState::Draining => NodeState::Draining,
            wire::NodeState::Gone => NodeState::Gone,
            wire::NodeState::Unspecified => return Err(TableError::new("nodes.state", "is missing or unknown")),
        };
        Ok(Node {
            node: node_uuid("nodes.node_uuid", &node.node_uuid)?,
            address: node.address,
            zone: node.zone,
            state,
            store: store(node.store),
        })
    }
}

impl Replica {
    pub(crate) fn to_wire(self) -> wire::Replica {
        wire::Replica { replica_id: self.replica.0, node_uuid: Bytes::copy_from_slice(&self.node.0), store: self.store }
    }

    pub(crate) fn from_wire(replica: &wire::Replica) -> Result<Self, TableError> {
        let node = node_uuid("replicas.node_uuid", &replica.node_uuid)?;
        Ok(Replica { replica: ReplicaId(replica.replica_id), node, store: store(replica.store) })
    }
}

impl Shard {
    fn to_wire(&self) -> wire::Shard {
        let state = match self.state {
            ShardState::Creating => wire::ShardState::Creating,
            ShardState::Active => wire::ShardState::Active,
        };
        wire::Shard {
            epoch: self.epoch.0,
            state: state.into(),
            replicas: self.replicas.iter().copied().map(Replica::to_wire).collect(),
            preferred_leader: self.preferred_leader.0,
        }
    }

    fn from_wire(shard: wire::Shard) -> Result<Self, TableError> {
        let state = match shard.state() {
            wire::ShardState::Creating => ShardState::Creating,
            wire::ShardState::Active => ShardState::Active,
            wire::ShardState::Unspecified => return Err(TableError::new("shards.state", "is missing or unknown")),
        };
        Ok(Shard {
            epoch: Epoch(shard.epoch),
            state,
            replicas: shard.replicas.iter().map(Replica::from_wire).collect::<Result<_, _>>()?,
            preferred_leader: ReplicaId(shard.preferred_leader),
        })
    }
}

impl TokenKey {
    pub(crate) fn to_wire(&self) -> wire::TokenKey {
        wire::TokenKey {
            kid: self.kid.to_string(),
            project: self.project.to_string(),
            secret: Bytes::copy_from_slice(self.secret.bytes()),
        }
    }

    pub(crate) fn from_wire(key: wire::TokenKey) -> Result<Self, TableError> {
        Ok(TokenKey {
            kid: key.kid.parse()?,
            project: project(&key.project)?,
            secret: Secret::new(key.secret.as_ref()),
        })
    }
}

/// Bytes from before stores were numbered say nothing: then it is the first.
pub(crate) fn store(number: u32) -> u32 {
    number.max(FIRST_STORE)
}

pub(crate) fn project(name: &str) -> Result<ProjectId, TableError> {
    name.parse().map_err(|error: conclave_types::NameError| TableError::new("project", error.rule))
}

pub(crate) fn node_uuid(field: &'static str, bytes: &[u8]) -> Result<NodeUuid, TableError> {
    uuid(field, bytes).map(NodeUuid)
}

pub(crate) fn uuid(field: &'static str, bytes: &[u8]) -> Result<[u8; 16], TableError> {
    bytes.try_into().map_err(|_| TableError::new(field, format!("must have 16 bytes, not {}", bytes.len())))
}

pub(crate) fn to_u32(count: usize) -> u32 {
    u32::try_from(count).expect("counts of a checked table are small")
}

fn unique<K: Ord, V>(
    field: &'static str,
    values: impl Iterator<Item = Result<V, TableError>>,
    key: impl Fn(&V) -> K,
) -> Result<BTreeMap<K, V>, TableError> {
    let mut all = BTreeMap::new();
    for value in values {
        let value = value?;
        if all.insert(key(&value), value).is_some() {
            return Err(TableError::new(field, "holds one twice"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::sample;

    #[test]
    fn a_table_survives_its_bytes() {
        let table = sample();
        assert_eq!(ClusterTable::decode(&table.encode()), Ok(table));
    }

    #[test]
    fn bytes_from_before_stores_were_numbered_mean_the_first() {
        let mut old = sample().to_wire();
        old.nodes.iter_mut().for_each(|node| node.store = 0);
        let shards = old.shards.iter_mut().flat_map(|shard| &mut shard.replicas);
        old.meta_replicas.iter_mut().chain(shards).for_each(|replica| replica.store = 0);
        assert_eq!(ClusterTable::from_wire(old), Ok(sample()));
    }

    #[test]
    fn damaged_tables_are_refused_with_the_field() {
        type Damage = (&'static str, fn(&mut wire::ClusterTable));
        let damages: [Damage; 8] = [
            ("cluster_uuid", |table| table.cluster_uuid.truncate(5)),
            ("shard_count", |table| table.shard_count = 8),
            ("nodes", |table| table.nodes[1] = table.nodes[0].clone()),
            ("nodes.state", |table| table.nodes[1].state = 0),
            ("shards.state", |table| table.shards[1].state = 17),
            ("kid", |table| table.token_keys[0].kid = "A B".into()),
            ("project", |table| table.projects.push("-".into())),
            ("replicas.node_uuid", |table| table.meta_replicas[0].node_uuid.clear()),
        ];
        for (field, damage) in damages {
            let mut table = sample().to_wire();
            damage(&mut table);
            assert_eq!(ClusterTable::from_wire(table).unwrap_err().field, field);
        }
        assert_eq!(ClusterTable::decode(b"not a table").unwrap_err().field, "table");
    }
}
