//! Commands as bytes: in the metadata group's log and in `Propose`.

use bytes::Bytes;
use conclave_proto::internal::v1::{self as wire, meta_command::Command};
use conclave_types::{ClusterUuid, ShardId};
use prost::Message;

use super::{Bootstrap, MetaCommand, PlannedShard};
use crate::table::wire::{node_uuid, project, store, to_u32, uuid};
use crate::table::{Node, Replica, Secret, TableError, TokenKey};

impl MetaCommand {
    pub fn encode(&self) -> Bytes {
        self.to_wire().encode_to_vec().into()
    }

    /// Refuses what this version does not know: a command must not be half understood.
    pub fn decode(bytes: &[u8]) -> Result<Self, TableError> {
        let command =
            wire::MetaCommand::decode(bytes).map_err(|error| TableError::new("command", error.to_string()))?;
        MetaCommand::from_wire(command)
    }

    pub(crate) fn to_wire(&self) -> wire::MetaCommand {
        let command = match self {
            MetaCommand::Bootstrap(bootstrap) => Command::Bootstrap(bootstrap.to_wire()),
            MetaCommand::RegisterNode { node, address, zone, store } => Command::RegisterNode(wire::RegisterNode {
                node_uuid: Bytes::copy_from_slice(&node.0),
                address: address.clone(),
                zone: zone.clone(),
                store: *store,
            }),
            MetaCommand::ActivateShard { shard } => {
                Command::ActivateShard(wire::ActivateShard { shard: shard.0.into() })
            }
            MetaCommand::CreateProject { project } => {
                Command::CreateProject(wire::CreateProject { project: project.to_string() })
            }
            MetaCommand::CreateTokenKey { key } => {
                Command::CreateTokenKey(wire::CreateTokenKey { token_key: Some(key.to_wire()) })
            }
        };
        wire::MetaCommand { command: Some(command) }
    }

    pub(crate) fn from_wire(command: wire::MetaCommand) -> Result<Self, TableError> {
        let command = command.command.ok_or_else(|| TableError::new("command", "is missing or unknown"))?;
        Ok(match command {
            Command::Bootstrap(bootstrap) => MetaCommand::Bootstrap(Box::new(Bootstrap::from_wire(bootstrap)?)),
            Command::RegisterNode(register) => MetaCommand::RegisterNode {
                node: node_uuid("node_uuid", &register.node_uuid)?,
                address: register.address,
                zone: register.zone,
                store: store(register.store),
            },
            Command::ActivateShard(activate) => MetaCommand::ActivateShard { shard: shard(activate.shard)? },
            Command::CreateProject(create) => MetaCommand::CreateProject { project: project(&create.project)? },
            Command::CreateTokenKey(create) => MetaCommand::CreateTokenKey { key: token_key(create.token_key)? },
        })
    }
}

impl Bootstrap {
    fn to_wire(&self) -> wire::Bootstrap {
        wire::Bootstrap {
            cluster_uuid: Bytes::copy_from_slice(&self.cluster.0),
            replication: to_u32(self.replication),
            cluster_secret: Bytes::copy_from_slice(self.secret.bytes()),
            nodes: self.nodes.iter().map(Node::to_wire).collect(),
            meta_replicas: self.meta_replicas.iter().copied().map(Replica::to_wire).collect(),
            shards: self.shards.iter().map(PlannedShard::to_wire).collect(),
            project: self.project.to_string(),
            token_key: Some(self.token_key.to_wire()),
        }
    }

    fn from_wire(bootstrap: wire::Bootstrap) -> Result<Self, TableError> {
        Ok(Bootstrap {
            cluster: ClusterUuid(uuid("cluster_uuid", &bootstrap.cluster_uuid)?),
            replication: bootstrap.replication as usize,
            secret: Secret::new(bootstrap.cluster_secret.as_ref()),
            nodes: bootstrap.nodes.into_iter().map(Node::from_wire).collect::<Result<_, _>>()?,
            meta_replicas: bootstrap.meta_replicas.iter().map(Replica::from_wire).collect::<Result<_, _>>()?,
            shards: bootstrap.shards.iter().map(PlannedShard::from_wire).collect::<Result<_, _>>()?,
            project: project(&bootstrap.project)?,
            token_key: token_key(bootstrap.token_key)?,
        })
    }
}

impl PlannedShard {
    fn to_wire(&self) -> wire::PlannedShard {
        wire::PlannedShard {
            node_uuids: self.nodes.iter().map(|node| Bytes::copy_from_slice(&node.0)).collect(),
            preferred_leader: to_u32(self.preferred_leader),
        }
    }

    fn from_wire(shard: &wire::PlannedShard) -> Result<Self, TableError> {
        let nodes = shard.node_uuids.iter().map(|bytes| node_uuid("shards.node_uuids", bytes));
        Ok(PlannedShard { nodes: nodes.collect::<Result<_, _>>()?, preferred_leader: shard.preferred_leader as usize })
    }
}

fn shard(number: u32) -> Result<ShardId, TableError> {
    u16::try_from(number).map(ShardId).map_err(|_| TableError::new("shard", format!("{number} does not exist")))
}

fn token_key(key: Option<wire::TokenKey>) -> Result<TokenKey, TableError> {
    TokenKey::from_wire(key.ok_or_else(|| TableError::new("token_key", "is missing"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::commands;

    #[test]
    fn commands_survive_their_bytes() {
        for command in commands() {
            assert_eq!(MetaCommand::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn unknown_commands_are_refused_not_skipped() {
        let refused = MetaCommand::decode(&wire::MetaCommand { command: None }.encode_to_vec());
        assert_eq!(refused.unwrap_err().field, "command");
        // A field number that a later version may use.
        assert_eq!(MetaCommand::decode(&[0xf2, 0x07, 0x00]).unwrap_err().field, "command");
        assert_eq!(MetaCommand::decode(&[0xff]).unwrap_err().field, "command");
    }
}
