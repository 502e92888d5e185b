//! Verbs of the operator: whoever has the cluster token may ask hosts directly.

use std::time::Duration;

use clap::{Args, Subcommand};
use conclave_auth::Role;
use conclave_cluster::ClusterToken;
use conclave_types::{ParticipantName, ProjectId, RoomName};

use super::{Output, duration};
use crate::config::{Address, ConfigError, parse_hosts, read_token_file};

/// How an operator's verb reaches the hosts, and by what right.
#[derive(Debug, Clone, Args)]
pub struct OperatorFlags {
    /// Internal addresses of hosts, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", env = "CONCLAVE_GATEWAY_HOSTS", default_value = "127.0.0.1:7100")]
    hosts: String,
    /// Secret that the nodes of the cluster share
    #[arg(long, value_name = "SECRET", env = "CONCLAVE_CLUSTER_TOKEN", hide_env_values = true)]
    cluster_token: Option<ClusterToken>,
    /// A file that holds it
    #[arg(long, value_name = "FILE", env = "CONCLAVE_CLUSTER_TOKEN_FILE", conflicts_with = "cluster_token")]
    cluster_token_file: Option<String>,
}

impl OperatorFlags {
    pub fn hosts(&self) -> Result<Vec<Address>, ConfigError> {
        parse_hosts(&self.hosts)
    }

    pub fn token(&self) -> Result<ClusterToken, ConfigError> {
        match (&self.cluster_token, &self.cluster_token_file) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(path)) => read_token_file(path),
            (None, None) => Err(ConfigError::Missing {
                field: "the cluster token".to_owned(),
                remedy: "give --cluster-token or --cluster-token-file".to_owned(),
            }),
        }
    }
}

#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a participant token and print it
    Create(CreateToken),
}

#[derive(Debug, Clone, Args)]
pub struct CreateToken {
    #[command(flatten)]
    pub operator: OperatorFlags,
    /// Whose token it is
    #[arg(long)]
    pub name: ParticipantName,
    /// Project whose rooms it is for
    #[arg(long, default_value = "default")]
    pub project: ProjectId,
    /// The only room it is for; without it, all of the project
    #[arg(long)]
    pub room: Option<RoomName>,
    /// What the participant is: user, agent or tool
    #[arg(long, default_value_t)]
    pub role: Role,
    /// A scope that it grants, such as `queues.send` or `sync=notes/*`; may be repeated; without it, all
    #[arg(long = "scope")]
    pub scopes: Vec<String>,
    /// How long it is valid
    #[arg(long, default_value = "24h", value_parser = duration::parse)]
    pub expires: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct LeaderArgs {
    #[command(flatten)]
    pub operator: OperatorFlags,
    /// Project of the room
    #[arg(long, default_value = "default")]
    pub project: ProjectId,
    /// Room whose shard's leader is printed
    #[arg(long)]
    pub room: RoomName,
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub operator: OperatorFlags,
    /// Print the shards, their leaders and members, instead of the hosts
    #[arg(long)]
    pub shards: bool,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}
