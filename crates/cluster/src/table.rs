//! The cluster table: everything the metadata group owns, as one value.
//!
//! A table that exists is consistent (see [`ClusterTable::check`]): it is checked when it is decoded and when a command
//! makes a new one.

pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use conclave_types::limits::MAX_SHARDS;
use conclave_types::{ClusterUuid, Epoch, GroupId, NodeUuid, ProjectId, ReplicaId, ShardId};

/// Replica ids below this are the metadata group's first members', by their place in the list of initial hosts.
pub const FIRST_ALLOCATED_REPLICA: ReplicaId = ReplicaId(1_000);

/// Shortest secret of a token key, in bytes: as long as the hash it keys.
pub const MIN_KEY_BYTES: usize = 32;

/// Counts up by 1 with every change of the table, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableRevision(pub u64);

impl TableRevision {
    pub fn next(self) -> TableRevision {
        TableRevision(self.0 + 1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTable {
    pub cluster: ClusterUuid,
    pub revision: TableRevision,
    /// Replicas a shard should have.
    pub replication: usize,
    /// Key of the claims that gateways sign for hosts; 32 bytes.
    pub secret: Secret,
    /// What every node understands; commands of a higher level are not proposed.
    pub feature_level: u32,
    /// The next replica id to hand out.
    pub next_replica: ReplicaId,
    pub nodes: BTreeMap<NodeUuid, Node>,
    pub meta_replicas: Vec<Replica>,
    /// Shard k at position k; their number is a power of two and never changes.
    pub shards: Vec<Shard>,
    pub projects: BTreeSet<ProjectId>,
    pub token_keys: BTreeMap<KeyId, TokenKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub node: NodeUuid,
    /// `host:port` of its internal listener.
    pub address: String,
    /// Empty when zones are not used.
    pub zone: String,
    pub state: NodeState,
    /// Number of the store that it holds its replicas in, from 1. A higher one is a new, empty store.
    pub store: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Registered; may not hold anything yet.
    Joining,
    Up,
    /// Chosen for nothing new.
    Draining,
    /// Will not come back.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    pub replica: ReplicaId,
    pub node: NodeUuid,
    /// Number of that node's store for which the replica was handed out: it is in no other.
    pub store: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Version of this row, from 1.
    pub epoch: Epoch,
    pub state: ShardState,
    pub replicas: Vec<Replica>,
    /// The replica that should lead when all are well.
    pub preferred_leader: ReplicaId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardState {
    /// Its replicas are listed, its group has not committed anything yet.
    Creating,
    Active,
}

/// A key that participant tokens of a project are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    pub kid: KeyId,
    pub project: ProjectId,
    /// At least [`MIN_KEY_BYTES`].
    pub secret: Secret,
}

/// Bytes that are not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Secret(bytes.into())
    }

    /// 32 random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Secret::new(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Name of a token key, as tokens carry it: 1 to 63 characters of a-z, 0-9 and hyphen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Arc<str>);

impl KeyId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(KeyId(text.into()))
        } else {
            Err(TableError::new("kid", "must be 1 to 63 characters of a-z, 0-9 and hyphen"))
        }
    }
}

/// What is wrong with a table, or with a command that would make one: which field, and which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct TableError {
    pub field: &'static str,
    pub rule: String,
}

impl TableError {
    pub(crate) fn new(field: &'static str, rule: impl Into<String>) -> Self {
        TableError { field, rule: rule.into() }
    }
}

impl ClusterTable {
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("a checked table has at most 4,096 shards")
    }

    pub fn shard(&self, shard: ShardId) -> Option<&Shard> {
        self.shards.get(usize::from(shard.0))
    }

    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &Shard)> {
        (0..).map(ShardId).zip(&self.shards)
    }

    pub fn node(&self, node: NodeUuid) -> Option<&Node> {
        self.nodes.get(&node)
    }

    /// The shards that a node holds a replica of.
    pub fn shards_of(&self, node: NodeUuid) -> impl Iterator<Item = (ShardId, &Shard, Replica)> {
        self.shards().filter_map(move |(id, shard)| shard.replica_on(node).map(|replica| (id, shard, replica)))
    }

    /// The replica of the metadata group that a node holds.
    pub fn meta_replica_of(&self, node: NodeUuid) -> Option<Replica> {
        self.meta_replicas.iter().find(|replica| replica.node == node).copied()
    }

    /// The replicas of a group with their nodes' addresses, as its members are written down.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = (Replica, &Node)> {
        let replicas = match group.shard() {
            None => self.meta_replicas.as_slice(),
            Some(shard) => self.shard(shard).map(|shard| shard.replicas.as_slice()).unwrap_or_default(),
        };
        replicas.iter().filter_map(|replica| self.node(replica.node).map(|node| (*replica, node)))
    }

    pub fn token_key(&self, kid: &KeyId) -> Option<&TokenKey> {
        self.token_keys.get(kid)
    }

    /// What holds for every table.
    pub fn check(&self) -> Result<(), TableError> {
        let count = self.shards.len();
        if !count.is_power_of_two() || count > usize::from(MAX_SHARDS) {
            return Err(TableError::new(
                "shard_count",
                format!("must be a power of two up to {MAX_SHARDS}, not {count}"),
            ));
        }
        if self.replication == 0 || self.replication > self.nodes.len() {
            let rule = format!("must be 1 to the number of nodes ({}), not {}", self.nodes.len(), self.replication);
            return Err(TableError::new("replication", rule));
        }
        if self.secret.bytes().len() != 32 {
            return Err(TableError::new("cluster_secret", "must have 32 bytes"));
        }
        if self.meta_replicas.is_empty() {
            return Err(TableError::new("meta_replicas", "must not be empty"));
        }
        self.check_replicas("meta_replicas", &self.meta_replicas)?;
        for shard in &self.shards {
            self.check_replicas("shards.replicas", &shard.replicas)?;
            if !shard.replicas.iter().any(|replica| replica.replica == shard.preferred_leader) {
                return Err(TableError::new("shards.preferred_leader", "must be one of the shard's replicas"));
            }
        }
        self.check_nodes()?;
        self.token_keys.values().try_for_each(|key| self.check_key(key))
    }

    fn check_nodes(&self) -> Result<(), TableError> {
        let mut addresses = BTreeSet::new();
        for node in self.nodes.values() {
            check_address(&node.address)?;
            if node.state != NodeState::Gone && !addresses.insert(&node.address) {
                return Err(TableError::new("nodes.address", format!("{} belongs to two nodes", node.address)));
            }
        }
        Ok(())
    }

    fn check_replicas(&self, field: &'static str, replicas: &[Replica]) -> Result<(), TableError> {
        let nodes: BTreeSet<_> = replicas.iter().map(|replica| replica.node).collect();
        if nodes.len() != replicas.len() {
            return Err(TableError::new(field, "must stand on different nodes"));
        }
        if let Some(stranger) = nodes.iter().find(|node| !self.nodes.contains_key(node)) {
            return Err(TableError::new(field, format!("name node {stranger}, which the table does not list")));
        }
        if replicas.iter().any(|replica| replica.replica.0 == 0 || replica.replica >= self.next_replica) {
            return Err(TableError::new(field, "have an id that was never handed out"));
        }
        let is_ahead = |replica: &Replica| self.node(replica.node).is_some_and(|node| replica.store > node.store);
        if replicas.iter().any(is_ahead) {
            return Err(TableError::new(field, "are in a store that their node does not have"));
        }
        Ok(())
    }

    fn check_key(&self, key: &TokenKey) -> Result<(), TableError> {
        if key.secret.bytes().len() < MIN_KEY_BYTES {
            return Err(TableError::new("token_key.secret", format!("must have at least {MIN_KEY_BYTES} bytes")));
        }
        if !self.projects.contains(&key.project) {
            return Err(TableError::new("token_key.project", format!("{} does not exist", key.project)));
        }
        Ok(())
    }
}

impl Shard {
    pub fn replica_on(&self, node: NodeUuid) -> Option<Replica> {
        self.replicas.iter().find(|replica| replica.node == node).copied()
    }
}

/// `host:port`, both present.
pub(crate) fn check_address(address: &str) -> Result<(), TableError> {
    let parts = address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(['/', ' ']));
    match parts.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(1..) => Ok(()),
        _ => Err(TableError::new("address", format!("must be host:port, not {address:?}"))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Three nodes, four shards on all of them.
    pub(crate) fn sample() -> ClusterTable {
        let node = |byte: u8| NodeUuid([byte; 16]);
        let replicas = |first: u64| {
            (0..3)
                .map(|n| Replica { replica: ReplicaId(first + n), node: node(n as u8 + 1), store: 1 })
                .collect::<Vec<_>>()
        };
        let project: ProjectId = "demo".parse().unwrap();
        let kid: KeyId = "first".parse().unwrap();
        ClusterTable {
            cluster: ClusterUuid([9; 16]),
            revision: TableRevision(4),
            replication: 3,
            secret: Secret::new([5; 32]),
            feature_level: 1,
            next_replica: ReplicaId(1_012),
            nodes: (1..=3)
                .map(|n| {
                    let address = format!("host-{n}:7000");
                    (node(n), Node { node: node(n), address, zone: String::new(), state: NodeState::Up, store: 1 })
                })
                .collect(),
            meta_replicas: replicas(1),
            shards: (0..4)
                .map(|shard| Shard {
                    epoch: Epoch(1),
                    state: ShardState::Creating,
                    replicas: replicas(1_000 + 3 * shard),
                    preferred_leader: ReplicaId(1_000 + 3 * shard),
                })
                .collect(),
            projects: BTreeSet::from([project.clone()]),
            token_keys: BTreeMap::from([(kid.clone(), TokenKey { kid, project, secret: Secret::new([6; 32]) })]),
        }
    }

    #[test]
    fn inconsistent_tables_are_refused_with_the_field() {
        type Damage = (&'static str, fn(&mut ClusterTable));
        let damages: [Damage; 12] = [
            ("shard_count", |table| table.shards.truncate(3)),
            ("replication", |table| table.replication = 4),
            ("cluster_secret", |table| table.secret = Secret::new([1; 5])),
            ("meta_replicas", |table| table.meta_replicas.clear()),
            ("meta_replicas", |table| table.meta_replicas[0].replica = ReplicaId(0)),
            ("shards.replicas", |table| table.shards[1].replicas[0].node = NodeUuid([8; 16])),
            ("shards.replicas", |table| table.shards[1].replicas[0].node = table.shards[1].replicas[1].node),
            ("shards.replicas", |table| table.shards[1].replicas[0].store = 2),
            ("shards.preferred_leader", |table| table.shards[2].preferred_leader = ReplicaId(1)),
            ("nodes.address", |table| {
                table.nodes.get_mut(&NodeUuid([1; 16])).unwrap().address = "host-2:7000".into();
            }),
            ("address", |table| table.nodes.get_mut(&NodeUuid([1; 16])).unwrap().address = "host-2".into()),
            ("token_key.project", |table| table.projects.clear()),
        ];
        assert_eq!(sample().check(), Ok(()));
        for (field, damage) in damages {
            let mut table = sample();
            damage(&mut table);
            assert_eq!(table.check().unwrap_err().field, field);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(format!("{:?}", sample()).contains("Secret(32 bytes)"));
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["host-1:7000", "127.0.0.1:1", "[::1]:7000"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in ["", "host", ":7000", "host:", "host:0", "host:70000", "http://host:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
