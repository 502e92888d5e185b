//! Configuration of the roles: flags over environment over a TOML file over defaults.
//!
//! Every option stands once, in [`options`], with its unit, range, default and the version it came in; flags, variables,
//! file and sample are all held against that table. A name that is not in it is refused with the nearest one that is,
//! because a misspelt option that is ignored shows only in production.
//!
//! Settings that must agree on every node of a cluster are apart, in [`ClusterConfig`]. What `load_*` returns is valid:
//! nobody checks it again.

mod address;
mod dev;
mod error;
mod layers;
pub(crate) mod options;
mod parse;
mod sample;

use std::path::PathBuf;
use std::time::Duration;

use conclave_cluster::ClusterToken;
use conclave_types::ProjectId;

use crate::flags::{GatewayFlags, HostFlags};
pub use address::Address;
pub use dev::{DevConfig, DevData, load_dev};
pub use error::{ConfigError, Source};
use layers::Layers;
pub use sample::sample;

/// What the role `host` runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Where the internal listener binds; port 0 lets the system choose.
    pub listen: Address,
    /// What other nodes are told to connect to; none means the address that was bound.
    pub advertise: Option<Address>,
    /// The data folder.
    pub data: PathBuf,
    /// How this host finds its cluster when its data folder does not know one yet.
    pub bootstrap: Bootstrap,
    /// The failure zone, for spreading replicas; empty when there is only one.
    pub zone: String,
    /// How much Raft log it keeps.
    pub log_bounds: LogBounds,
    /// Whether it may listen beyond loopback without TLS.
    pub insecure: bool,
    /// The log filter, as `tracing` understands it.
    pub log: String,
    pub cluster: ClusterConfig,
}

/// What every host of a cluster must be given alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Shared secret that nodes show each other.
    pub token: ClusterToken,
    /// Shards of a new cluster; an existing one keeps its own.
    pub shards: u16,
    /// First project of a new cluster.
    pub project: ProjectId,
    pub timings: RaftTimings,
}

/// How quickly groups notice a lost leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftTimings {
    pub heartbeat: Duration,
    /// Shorter than `election_max`; at least twice `heartbeat`.
    pub election_min: Duration,
    pub election_max: Duration,
}

impl RaftTimings {
    /// What the options default to: a dead leader is replaced in 1.5 to 1.8 s.
    pub const DEFAULT: RaftTimings = RaftTimings {
        heartbeat: Duration::from_millis(300),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_millis(900),
    };
}

/// How much of a shard's log a host keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// Entries after which it is shortened.
    pub compact_after_entries: u64,
    /// Entries that stay then.
    pub keep_entries: u64,
}

impl LogBounds {
    /// What the options default to.
    pub const DEFAULT: LogBounds = LogBounds { compact_after_entries: 50_000, keep_entries: 10_000 };
}

/// How a host with an empty data folder finds its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// Founds the cluster together with these hosts, itself among them.
    Found { hosts: Vec<Address> },
    /// Joins the cluster of any of these hosts.
    Join { through: Vec<Address> },
    /// Is in one already: the data folder says which.
    Known,
}

/// What the role `gateway` runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where clients connect; port 0 lets the system choose.
    pub listen: Address,
    /// Internal addresses of some hosts, to ask for the shard map; at least one.
    pub hosts: Vec<Address>,
    /// Whether it may listen beyond loopback without TLS.
    pub insecure: bool,
    /// Whether it serves gRPC reflection.
    pub reflection: bool,
    /// The log filter, as `tracing` understands it.
    pub log: String,
    /// Shared secret of the cluster.
    pub token: ClusterToken,
}

/// The environment of this process, without what is not text.
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Loads what `conclave host` runs with.
pub fn load_host(flags: &HostFlags, environment: &[(String, String)]) -> Result<HostConfig, ConfigError> {
    let layers = Layers::gather(flags.common.config.as_deref(), environment, flags.given())?;
    let (listen, insecure) = listener(&layers, &options::HOST_LISTEN, &options::HOST_INSECURE)?;
    let advertise = layers.optional(&options::HOST_ADVERTISE, parse::fixed_address)?;
    let bootstrap = bootstrap(&layers)?;
    check_reachable(&listen, advertise.as_ref(), &bootstrap)?;
    Ok(HostConfig {
        data: layers.required(&options::HOST_DATA, parse::folder)?,
        zone: layers.optional(&options::HOST_ZONE, parse::zone)?.unwrap_or_default(),
        log_bounds: LogBounds {
            compact_after_entries: layers.required(&options::HOST_COMPACT_AFTER_ENTRIES, parse::compact_after)?,
            keep_entries: layers.required(&options::HOST_KEEP_LOG_ENTRIES, parse::keep_log)?,
        },
        log: layers.required(&options::HOST_LOG, parse::log_filter)?,
        cluster: ClusterConfig {
            token: token(&layers)?,
            shards: layers.required(&options::CLUSTER_SHARDS, parse::shards)?,
            project: layers.required(&options::CLUSTER_PROJECT, parse::project)?,
            timings: timings(&layers)?,
        },
        listen,
        advertise,
        bootstrap,
        insecure,
    })
}

/// Loads what `conclave gateway` runs with.
pub fn load_gateway(flags: &GatewayFlags, environment: &[(String, String)]) -> Result<GatewayConfig, ConfigError> {
    let layers = Layers::gather(flags.common.config.as_deref(), environment, flags.given())?;
    let (listen, insecure) = listener(&layers, &options::GATEWAY_LISTEN, &options::GATEWAY_INSECURE)?;
    Ok(GatewayConfig {
        hosts: layers.required(&options::GATEWAY_HOSTS, parse::addresses)?,
        reflection: layers.required(&options::GATEWAY_REFLECTION, parse::boolean)?,
        log: layers.required(&options::GATEWAY_LOG, parse::log_filter)?,
        token: token(&layers)?,
        listen,
        insecure,
    })
}

/// Reads a list of internal addresses, as `--hosts` takes it.
pub fn parse_hosts(text: &str) -> Result<Vec<Address>, ConfigError> {
    let place = || Source::Flag { flag: "--hosts".to_owned() };
    let invalid =
        |rule| ConfigError::InvalidValue { field: "hosts".to_owned(), value: text.to_owned(), place: place(), rule };
    parse::addresses(text).map_err(invalid)
}

/// Reads the cluster token from a file, as `--cluster-token-file` takes it.
pub fn read_token_file(path: &str) -> Result<ClusterToken, ConfigError> {
    let place = || Source::Flag { flag: "--cluster-token-file".to_owned() };
    let field = options::CLUSTER_TOKEN_FILE.field();
    let invalid = |rule| ConfigError::InvalidValue { field, value: path.to_owned(), place: place(), rule };
    parse::token_file(path).map_err(invalid)
}

/// Where to listen, which beyond loopback needs a deliberate `insecure`.
fn listener(
    layers: &Layers,
    listen: &'static options::Spec,
    insecure: &'static options::Spec,
) -> Result<(Address, bool), ConfigError> {
    let (address, allowed) = (layers.required(listen, parse::address)?, layers.required(insecure, parse::boolean)?);
    if !address.is_loopback() && !allowed {
        return Err(ConfigError::Conflict {
            problem: format!(
                "{} = {address} is reachable from other machines, and traffic is not encrypted",
                listen.field()
            ),
            remedy: format!("listen on 127.0.0.1, or set {} when the network is trusted", insecure.field()),
        });
    }
    Ok((address, allowed))
}

fn bootstrap(layers: &Layers) -> Result<Bootstrap, ConfigError> {
    let founders = layers.optional(&options::CLUSTER_INITIAL_HOSTS, parse::addresses)?;
    let join = layers.optional(&options::HOST_JOIN, parse::addresses)?;
    match (founders, join) {
        (Some(hosts), None) => Ok(Bootstrap::Found { hosts }),
        (None, Some(through)) => Ok(Bootstrap::Join { through }),
        (None, None) => Ok(Bootstrap::Known),
        (Some(_), Some(_)) => Err(ConfigError::Conflict {
            problem: "cluster.initial_hosts and host.join are both set".to_owned(),
            remedy: "give initial_hosts to the hosts that found a cluster, join to those that come later".to_owned(),
        }),
    }
}

/// A host tells others an address at which they reach it, and finds itself in the list of founders by it.
fn check_reachable(listen: &Address, advertise: Option<&Address>, bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    if advertise.is_none() && listen.is_unspecified() {
        return Err(ConfigError::Missing {
            field: options::HOST_ADVERTISE.field(),
            remedy: format!("others cannot connect to {listen}: say at which address they reach this host"),
        });
    }
    let own = advertise.unwrap_or(listen);
    match bootstrap {
        Bootstrap::Found { hosts } if !hosts.contains(own) => Err(ConfigError::Conflict {
            problem: format!("this host is {own}, which is not in cluster.initial_hosts"),
            remedy: "list every founding host by the address that it advertises".to_owned(),
        }),
        Bootstrap::Found { .. } | Bootstrap::Join { .. } | Bootstrap::Known => Ok(()),
    }
}

fn token(layers: &Layers) -> Result<ClusterToken, ConfigError> {
    let given = layers.optional(&options::CLUSTER_TOKEN, parse::token)?;
    let from_file = layers.optional(&options::CLUSTER_TOKEN_FILE, parse::token_file)?;
    match (given, from_file) {
        (Some(token), None) | (None, Some(token)) => Ok(token),
        (None, None) => Err(ConfigError::Missing {
            field: options::CLUSTER_TOKEN.field(),
            remedy: "set it, or cluster.token_file, to the same secret on every node of the cluster".to_owned(),
        }),
        (Some(_), Some(_)) => Err(ConfigError::Conflict {
            problem: "cluster.token and cluster.token_file are both set".to_owned(),
            remedy: "keep one of them".to_owned(),
        }),
    }
}

fn timings(layers: &Layers) -> Result<RaftTimings, ConfigError> {
    let heartbeat = layers.required(&options::CLUSTER_HEARTBEAT_MS, parse::timing)?;
    let election_min = layers.required(&options::CLUSTER_ELECTION_MIN_MS, parse::timing)?;
    let election_max = layers.required(&options::CLUSTER_ELECTION_MAX_MS, parse::timing)?;
    if election_min < 2 * heartbeat || election_max <= election_min {
        return Err(ConfigError::Conflict {
            problem: format!(
                "cluster timings of heartbeat {heartbeat:?}, election_min {election_min:?} and election_max \
                 {election_max:?} do not fit together"
            ),
            remedy: "election_min_ms must be at least twice heartbeat_ms, election_max_ms above election_min_ms"
                .to_owned(),
        });
    }
    Ok(RaftTimings { heartbeat, election_min, election_max })
}

#[cfg(test)]
mod tests;
