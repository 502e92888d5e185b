//! Commands that change the table.
//!
//! Each is idempotent: proposing it again after an unknown outcome changes nothing more.

mod wire;

use conclave_types::{ClusterUuid, NodeUuid, ProjectId, ShardId};

use crate::table::{Node, Replica, Secret, TokenKey};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaCommand {
    Bootstrap(Box<Bootstrap>),
    /// Adds a node, Up and holding nothing, or takes note of a known node's new address and zone. With a higher store
    /// number than is known, every replica that the node held gets a new id: its store is gone.
    RegisterNode {
        node: NodeUuid,
        address: String,
        zone: String,
        store: u32,
    },
    /// The shard's group has committed its first entry. Replicas whose store is gone since get new ids.
    ActivateShard {
        shard: ShardId,
    },
    CreateProject {
        project: ProjectId,
    },
    CreateTokenKey {
        key: TokenKey,
    },
}

/// Makes the table. Holds the finished plan, so that applying it decides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    pub cluster: ClusterUuid,
    pub replication: usize,
    pub secret: Secret,
    pub nodes: Vec<Node>,
    pub meta_replicas: Vec<Replica>,
    /// Shard k at position k.
    pub shards: Vec<PlannedShard>,
    pub project: ProjectId,
    pub token_key: TokenKey,
}

/// Where the replicas of a shard should stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedShard {
    pub nodes: Vec<NodeUuid>,
    /// Position in `nodes` of the one that should lead.
    pub preferred_leader: usize,
}
