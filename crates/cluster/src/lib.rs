//! The cluster's own state: who belongs to it, who holds which shard, which projects and keys there are.
//!
//! One metadata group (Raft group 0) owns the [`ClusterTable`]; every host and gateway watches it. The table changes by
//! [`MetaCommand`]s alone, and applying one decides nothing that its proposer could have decided.
//!
//! This crate must not know rooms, openraft, RocksDB or what a host does with a shard that it holds. Rooms are served
//! without it: what is lost while the metadata group is down are changes to the table, nothing else.
//!
//! Start with [`table`] and [`command`], then [`machine`] (the group's state), [`identity`] (what a data folder
//! remembers), [`founding`] (how a cluster is born), [`membership`] (how groups come to the members that the table lists),
//! and [`cluster`] (what a host starts).

pub mod apply;
pub mod client;
pub mod cluster;
pub mod command;
pub mod founding;
pub mod identity;
pub mod leaders;
pub mod machine;
pub mod membership;
mod meta_replica;
mod neighbours;
pub mod proof;
pub mod service;
pub mod table;
pub mod table_client;
pub mod token;

pub use apply::{Applied, MetaRefusal};
pub use client::{MetaClient, MetaClientError};
pub use cluster::{Cluster, ClusterError, ClusterOptions, StartError};
pub use command::{Bootstrap, MetaCommand, PlannedShard};
pub use founding::{FoundingError, FoundingOptions};
pub use identity::{DataFolder, FolderError, Origin, StoreVerdict, Successor};
pub use leaders::{LeaderHint, LeaderHints};
pub use machine::{MetaMachine, MetaOutcome};
pub use service::MetaEndpoint;
pub use table::{
    ClusterTable, KeyId, Node, NodeState, Replica, Secret, Shard, ShardState, TableError, TableRevision, TokenKey,
};
pub use table_client::TableClient;
pub use token::{ClusterToken, TokenError};

use std::sync::Arc;

use tokio::sync::watch;

/// The newest table a process knows; none while there is no cluster yet.
pub type TableWatch = watch::Receiver<Option<Arc<ClusterTable>>>;
