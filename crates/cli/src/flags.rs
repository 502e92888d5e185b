//! What can be typed after `conclave`.
//!
//! Flags of the roles are text here and become values in [`crate::config`], together with file and environment, so that
//! one rule and one message serve all three. The client verbs have no other source and are parsed at once.

mod client;
mod duration;
mod events;
mod messaging;
mod operator;
mod participants;
mod queue;
mod sync;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::options::{self, Spec};
pub use client::{ClientFlags, Labels, Output, Payload, Retention, RoomCommand, RoomsCommand, WatchTopic};
pub use duration::written as written_duration;
pub use events::{EndArgs, FollowArgs};
pub use messaging::{MessageArgs, MessagingCommand};
pub use operator::{CreateToken, LeaderArgs, OperatorFlags, StatusArgs, TokenCommand};
pub use participants::{AttachArgs, ParticipantsCommand};
pub use queue::{
    DeliveriesArgs, MoveArgs, NackArgs, Overflow, PeekArgs, PeekedState, QueueArgs, QueueCommand, QueueState,
    ReceiveArgs, SendArgs, Settings, SettingsArgs, StatsArgs, TailArgs,
};
pub use sync::{DocumentArgs, SyncCommand};

/// A self-hosted cluster of rooms.
#[derive(Debug, Parser)]
#[command(name = "conclave", disable_version_flag = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster with a gateway in this process, on loopback
    Dev(DevFlags),
    /// Run a host: it holds replicas of rooms
    Host(Box<HostFlags>),
    /// Run a gateway: the stateless edge that clients connect to
    Gateway(GatewayFlags),
    /// Create, list, change and delete rooms
    Rooms {
        #[command(flatten)]
        client: ClientFlags,
        #[command(subcommand)]
        command: RoomsCommand,
    },
    /// Work inside a room
    Room {
        #[command(flatten)]
        client: ClientFlags,
        #[command(subcommand)]
        command: RoomCommand,
    },
    /// Make participant tokens, as an operator
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Print the internal address of the host that leads a room's shard, as an operator
    Leader(LeaderArgs),
    /// Print hosts, their stores and what is wrong with their replicas, as an operator
    Status(StatusArgs),
    /// Print version, commit and data format
    Version,
}

#[derive(Debug, Clone, Args)]
pub struct DevFlags {
    /// How many hosts: 1 or 3
    #[arg(long, default_value = "3")]
    pub hosts: String,
    /// The data folder [default: conclave-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep data in a folder that is removed at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Shards of a new cluster: a power of two to 4096
    #[arg(long, default_value = "16")]
    pub shards: String,
    /// Where the gateway listens, on loopback; port 0 lets the system choose
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7080")]
    pub listen: String,
    /// First project of a new cluster
    #[arg(long, default_value = "default")]
    pub project: String,
    /// What is logged: a level or a filter. The groups of a cluster that is being born complain until all are there
    #[arg(long, default_value = "warn,openraft=error")]
    pub log: String,
}

/// What every role that is configured takes.
#[derive(Debug, Clone, Default, Args)]
pub struct RoleFlags {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "CONCLAVE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Secret that the nodes of the cluster share
    #[arg(long, value_name = "SECRET")]
    pub cluster_token: Option<String>,
    /// A file that holds it
    #[arg(long, value_name = "FILE")]
    pub cluster_token_file: Option<String>,
    /// Listen beyond loopback without TLS
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure: Option<String>,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// What is logged: a level or a filter
    #[arg(long)]
    pub log: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct HostFlags {
    #[command(flatten)]
    pub common: RoleFlags,
    /// The address that other nodes are told
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// The hosts that found a new cluster, this one among them, separated by commas
    #[arg(long, value_name = "HOST:PORT,…")]
    pub initial_hosts: Option<String>,
    /// Hosts of the cluster to join, separated by commas
    #[arg(long, value_name = "HOST:PORT,…")]
    pub join: Option<String>,
    /// Shards of a new cluster: a power of two to 4096
    #[arg(long)]
    pub shards: Option<String>,
    /// First project of a new cluster
    #[arg(long)]
    pub project: Option<String>,
    /// The failure zone of this host
    #[arg(long)]
    pub zone: Option<String>,
    /// Log entries of a shard after which its log is shortened
    #[arg(long, value_name = "ENTRIES")]
    pub compact_after_entries: Option<String>,
    /// Log entries that stay then
    #[arg(long, value_name = "ENTRIES")]
    pub keep_log_entries: Option<String>,
    /// How often a leader is heard of
    #[arg(long, value_name = "MS")]
    pub heartbeat_ms: Option<String>,
    /// Shortest silence before an election
    #[arg(long, value_name = "MS")]
    pub election_min_ms: Option<String>,
    /// Longest silence before an election
    #[arg(long, value_name = "MS")]
    pub election_max_ms: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct GatewayFlags {
    #[command(flatten)]
    pub common: RoleFlags,
    /// Internal addresses of hosts, separated by commas
    #[arg(long, value_name = "HOST:PORT,…")]
    pub hosts: Option<String>,
    /// Serve gRPC reflection
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub reflection: Option<String>,
}

/// An option together with what its flag was given, if it was.
type Pair<'a> = (&'static Spec, &'a Option<String>);

impl HostFlags {
    /// The options that were given by flag.
    pub(crate) fn given(&self) -> Vec<(&'static Spec, String)> {
        present([
            (&options::CLUSTER_TOKEN, &self.common.cluster_token),
            (&options::CLUSTER_TOKEN_FILE, &self.common.cluster_token_file),
            (&options::CLUSTER_INITIAL_HOSTS, &self.initial_hosts),
            (&options::CLUSTER_SHARDS, &self.shards),
            (&options::CLUSTER_PROJECT, &self.project),
            (&options::CLUSTER_HEARTBEAT_MS, &self.heartbeat_ms),
            (&options::CLUSTER_ELECTION_MIN_MS, &self.election_min_ms),
            (&options::CLUSTER_ELECTION_MAX_MS, &self.election_max_ms),
            (&options::HOST_LISTEN, &self.common.listen),
            (&options::HOST_ADVERTISE, &self.advertise),
            (&options::HOST_DATA, &self.data),
            (&options::HOST_JOIN, &self.join),
            (&options::HOST_ZONE, &self.zone),
            (&options::HOST_COMPACT_AFTER_ENTRIES, &self.compact_after_entries),
            (&options::HOST_KEEP_LOG_ENTRIES, &self.keep_log_entries),
            (&options::HOST_INSECURE, &self.common.insecure),
            (&options::HOST_LOG, &self.common.log),
        ])
    }
}

impl GatewayFlags {
    /// The options that were given by flag.
    pub(crate) fn given(&self) -> Vec<(&'static Spec, String)> {
        present([
            (&options::CLUSTER_TOKEN, &self.common.cluster_token),
            (&options::CLUSTER_TOKEN_FILE, &self.common.cluster_token_file),
            (&options::GATEWAY_LISTEN, &self.common.listen),
            (&options::GATEWAY_HOSTS, &self.hosts),
            (&options::GATEWAY_INSECURE, &self.common.insecure),
            (&options::GATEWAY_REFLECTION, &self.reflection),
            (&options::GATEWAY_LOG, &self.common.log),
        ])
    }
}

fn present<const N: usize>(pairs: [Pair<'_>; N]) -> Vec<(&'static Spec, String)> {
    pairs.into_iter().filter_map(|(spec, text)| Some((spec, text.clone()?))).collect()
}

#[cfg(test)]
mod tests;
