//! A host's part in its cluster: its replica of the metadata group if it holds one, its view of the table, its entry in
//! it, and the service that others read from.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use conclave_network::Network;
use conclave_proto::internal::v1::meta_service_server::MetaServiceServer;
use conclave_raft::{Group, Leadership, OpenError, RaftNode};
use conclave_storage::{Engine, EngineError};
use conclave_types::{GroupId, NodeUuid};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::TableWatch;
use crate::client::{MetaClient, MetaClientError};
use crate::command::MetaCommand;
use crate::founding::{Founder, FoundingError, FoundingOptions};
use crate::identity::store::FIRST_STORE;
use crate::identity::{DataFolder, FolderError, Origin};
use crate::leaders::LeaderHints;
use crate::machine::MetaOutcome;
use crate::service::{CommitError, MetaEndpoint};
use crate::table::{ClusterTable, NodeState, TableError, check_address};
use crate::table_client::TableClient;
use crate::token::{ClusterToken, hosts_hash};
use crate::{meta_replica, neighbours};

/// Longest that a proposal is tried before its caller hears of it: two elections.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between attempts of a proposal on this host, and of registering it.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// One host's own settings.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `host:port` at which other nodes reach this host's internal listener.
    pub advertise: String,
    /// Where the host stands, for spreading replicas. Default empty: zones are not used.
    pub zone: String,
    /// What a new cluster begins with; only a founder uses it.
    pub founding: FoundingOptions,
    /// Internal addresses of hosts of the cluster to join; a founder uses its list of initial hosts.
    pub join: Vec<String>,
    /// What other hosts are dialled with.
    pub network: Network,
}

/// Why a host does not take part. Each stops the start or the process; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("advertise: {0}")]
    Advertise(TableError),
    #[error("join: give the internal address of at least one host of the cluster")]
    NobodyToJoin,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the metadata replica cannot be opened: {0}")]
    Open(#[from] OpenError),
}

/// What makes it impossible to take part, found out later.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("node {0} has left the cluster for good: start with an empty data folder as a new node")]
    NodeGone(NodeUuid),
    #[error("the cluster does not take this host in: {0}")]
    Register(MetaClientError),
}

/// A host's running part. Its tasks end when it is dropped; `shutdown` also waits for them.
pub struct Cluster {
    node: NodeUuid,
    endpoint: Arc<MetaEndpoint>,
    client: MetaClient,
    /// Only on a host that was started without a metadata replica, or with one that is being rebuilt.
    follower: Option<Arc<TableClient>>,
    seeds: Vec<String>,
    failure: watch::Receiver<Option<Arc<ClusterError>>>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
    _cancel_on_drop: DropGuard,
}

impl Cluster {
    /// Opens what the host holds of the metadata group and goes on with whatever is unfinished: founding, registering.
    /// Nothing is waited for; the host must serve [`Cluster::meta_service`] for the others to get on. `led` is what this
    /// host leads, told to everybody who asks.
    pub async fn start(
        options: ClusterOptions,
        token: ClusterToken,
        folder: DataFolder,
        raft: Arc<RaftNode>,
        engine: Arc<dyn Engine>,
        led: watch::Receiver<LeaderHints>,
    ) -> Result<Cluster, StartError> {
        check_address(&options.advertise).map_err(StartError::Advertise)?;
        let seeds = seeds(&options, folder.origin())?;
        let client = MetaClient::over(options.network.clone(), token.clone());
        let own = match meta_replica::known(&folder, &*engine)? {
            Some(replica) => Some(meta_replica::open(replica, &raft, engine.clone()).await?),
            None => None,
        };
        // A later store begins empty: its host follows the others even where it holds a replica, which may have to be
        // rebuilt first.
        let (follower, table) = match &own {
            Some((_, table)) if folder.store() == FIRST_STORE => (None, table.clone()),
            _ => {
                let follower = Arc::new(TableClient::start_with(seeds.clone(), client.clone()));
                let table = follower.table();
                (Some(follower), table)
            }
        };
        let (group, own_table) = own.unzip();
        let cancelled = CancellationToken::new();
        let endpoint = Arc::new(MetaEndpoint {
            token,
            node: folder.node(),
            zone: options.zone.clone(),
            hosts_hash: match folder.origin() {
                Origin::Founder { hosts, .. } => Some(hosts_hash(hosts)),
                Origin::Joined => None,
            },
            table,
            leaders: led,
            group: group.map(OnceLock::from).unwrap_or_default(),
            cancelled: cancelled.clone(),
        });
        let (failed, failure) = watch::channel(None);
        let cluster = Cluster {
            node: folder.node(),
            endpoint,
            client,
            follower,
            seeds,
            failure,
            tasks: TaskTracker::new(),
            cancelled: cancelled.clone(),
            _cancel_on_drop: cancelled.drop_guard(),
        };
        cluster.spawn_meta_replica(folder.store(), own_table, raft, engine);
        cluster.spawn_work(options, folder, failed);
        Ok(cluster)
    }

    pub fn node(&self) -> NodeUuid {
        self.node
    }

    /// The newest table this host knows.
    pub fn table(&self) -> TableWatch {
        self.endpoint.table.clone()
    }

    /// Set once the host cannot take part in the cluster; the process should stop with its message.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<ClusterError>>> {
        self.failure.clone()
    }

    /// Leadership of the metadata group; none on a host without a replica of it.
    pub fn meta_leadership(&self) -> Option<watch::Receiver<Leadership>> {
        self.endpoint.group.get().map(Group::leadership)
    }

    /// This host's replica of the metadata group, to hand leadership over before a stop.
    pub fn meta_group(&self) -> Option<&Group> {
        self.endpoint.group.get()
    }

    /// The service for the host's internal listener.
    pub fn meta_service(&self) -> MetaServiceServer<MetaEndpoint> {
        self.endpoint.clone().into_service()
    }

    /// Commits a command, here or wherever the metadata group is led; tries for at most 10 s.
    pub async fn propose(&self, command: MetaCommand) -> Result<MetaOutcome, MetaClientError> {
        propose(&self.endpoint, &self.client, &self.seeds, &command).await
    }

    /// Ends the tasks and waits for them. The metadata replica stays open: its owner is the node.
    pub async fn shutdown(&self) {
        self.cancelled.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(follower) = &self.follower {
            follower.shutdown().await;
        }
    }

    /// Opens the replica of the metadata group once there is one to open, and keeps the group's members in line.
    fn spawn_meta_replica(
        &self,
        store: u32,
        own_table: Option<TableWatch>,
        raft: Arc<RaftNode>,
        engine: Arc<dyn Engine>,
    ) {
        let (endpoint, follower) = (self.endpoint.clone(), self.follower.clone());
        let cancelled = self.cancelled.clone();
        let work = async move {
            let own_table = match own_table {
                Some(own_table) => own_table,
                None => match meta_replica::adopt(&endpoint, store, &raft, engine).await {
                    Ok(own_table) => own_table,
                    Err(reason) => {
                        tracing::error!(%reason, "the new replica of the metadata group cannot be opened");
                        return;
                    }
                },
            };
            let Some(group) = endpoint.group.get().cloned() else { return };
            let members = meta_replica::keep_members(group, endpoint.table.clone());
            match follower {
                Some(follower) => {
                    tokio::join!(members, meta_replica::offer_tables(own_table, follower));
                }
                None => members.await,
            }
        };
        self.tasks.spawn(async move {
            cancelled.run_until_cancelled(work).await;
        });
    }

    fn spawn_work(
        &self,
        options: ClusterOptions,
        folder: DataFolder,
        failed: watch::Sender<Option<Arc<ClusterError>>>,
    ) {
        let founder = match (folder.origin(), self.endpoint.group.get()) {
            (Origin::Founder { hosts, position }, Some(group)) if folder.store() == FIRST_STORE => Some(Founder {
                client: self.client.clone(),
                endpoint: self.endpoint.clone(),
                group: group.clone(),
                hosts: hosts.clone(),
                position: *position,
                options: options.founding.clone(),
            }),
            _ => None,
        };
        let member = Member {
            endpoint: self.endpoint.clone(),
            client: self.client.clone(),
            seeds: self.seeds.clone(),
            store: folder.store(),
            options,
        };
        let cancelled = self.cancelled.clone();
        self.tasks.spawn(async move {
            let work = async {
                if let Some(founder) = founder {
                    founder.run().await?;
                }
                tokio::try_join!(member.check_neighbours(&folder), member.settle(&folder)).map(drop)
            };
            if let Some(Err(error)) = cancelled.run_until_cancelled(work).await {
                tracing::error!(%error, "this host cannot take part in the cluster");
                failed.send_replace(Some(Arc::new(error)));
            }
            // Held to the end: a closed channel would look like news to those who wait for a failure.
            cancelled.cancelled().await;
            drop(failed);
        });
    }
}

/// Where others can be asked: everybody named at the start but this host.
fn seeds(options: &ClusterOptions, origin: &Origin) -> Result<Vec<String>, StartError> {
    let named = match origin {
        Origin::Founder { hosts, .. } => hosts,
        Origin::Joined => &options.join,
    };
    let others: Vec<String> = named.iter().filter(|host| **host != options.advertise).cloned().collect();
    if others.is_empty() && *origin == Origin::Joined {
        return Err(StartError::NobodyToJoin);
    }
    Ok(others)
}

/// A host that keeps its own entry and folder right, once there is a table.
struct Member {
    endpoint: Arc<MetaEndpoint>,
    client: MetaClient,
    seeds: Vec<String>,
    store: u32,
    options: ClusterOptions,
}

impl Member {
    /// Goes on for as long as the host takes part: the table may come late, and may say one day that the host has left.
    ///
    /// Registers at every start, whatever the table says here: an older copy of a folder brings an older table along, and
    /// nobody tells replicas that were replaced what happened since.
    async fn settle(&self, folder: &DataFolder) -> Result<(), ClusterError> {
        let mut watch = self.endpoint.table.clone();
        let mut registered = false;
        loop {
            let Some(table) = watch.borrow_and_update().clone() else {
                if watch.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            };
            folder.learn_cluster(table.cluster)?;
            if !(self.is_right(&table)? && registered) {
                registered = self.register().await?;
                if !registered {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
            }
            if watch.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// A folder that knows its cluster must be of the one that its neighbours are of.
    async fn check_neighbours(&self, folder: &DataFolder) -> Result<(), ClusterError> {
        let Some(found) = folder.cluster() else { return Ok(()) };
        match neighbours::other_cluster(&self.client, &self.seeds, self.endpoint.node, found).await {
            Some(expected) => Err(FolderError::Cluster { path: folder.path().into(), found, expected }.into()),
            None => Ok(()),
        }
    }

    /// Tells the cluster where this host is. False if that could not be done yet.
    async fn register(&self) -> Result<bool, ClusterError> {
        let register = MetaCommand::RegisterNode {
            node: self.endpoint.node,
            address: self.options.advertise.clone(),
            zone: self.options.zone.clone(),
            store: self.store,
        };
        match propose(&self.endpoint, &self.client, &self.seeds, &register).await {
            Ok(_) => Ok(true),
            Err(error @ (MetaClientError::Refused { .. } | MetaClientError::Token { .. })) => {
                Err(ClusterError::Register(error))
            }
            Err(error) => {
                tracing::warn!(%error, "this host could not be registered yet");
                Ok(false)
            }
        }
    }

    fn is_right(&self, table: &ClusterTable) -> Result<bool, ClusterError> {
        match table.node(self.endpoint.node) {
            Some(own) if own.state == NodeState::Gone => Err(ClusterError::NodeGone(own.node)),
            Some(own) => {
                Ok(own.address == self.options.advertise && own.zone == self.options.zone && own.store == self.store)
            }
            None => Ok(false),
        }
    }
}

/// Here first, since most hosts that propose lead; then wherever the metadata group is led.
async fn propose(
    endpoint: &MetaEndpoint,
    client: &MetaClient,
    seeds: &[String],
    command: &MetaCommand,
) -> Result<MetaOutcome, MetaClientError> {
    let end = Instant::now() + PROPOSE_TIMEOUT;
    loop {
        let hint = match endpoint.commit(command).await {
            Ok(outcome) => return Ok(outcome),
            Err(CommitError::Refused(reason)) => return Err(MetaClientError::Refused { reason }),
            Err(CommitError::NotLeader { leader }) => leader,
            Err(CommitError::Unknown | CommitError::Overloaded) => None,
        };
        let left = end.saturating_duration_since(Instant::now());
        let addresses = meta_addresses(endpoint, hint, seeds);
        // Short rounds, because leadership may come to this host meanwhile.
        match client.propose(&addresses, command, left.min(Duration::from_secs(1))).await {
            Err(MetaClientError::Unreachable { .. } | MetaClientError::NotLeader { .. })
            | Err(MetaClientError::Unknown { .. } | MetaClientError::NoAddress)
                if !left.is_zero() =>
            {
                sleep(RETRY_PAUSE).await;
            }
            other => return other,
        }
    }
}

fn meta_addresses(endpoint: &MetaEndpoint, hint: Option<String>, seeds: &[String]) -> Vec<String> {
    let table = endpoint.table.borrow().clone();
    let others = |node: NodeUuid| node != endpoint.node;
    let members: Vec<String> = table
        .iter()
        .flat_map(|table| table.members(GroupId::META))
        .filter(|(replica, _)| others(replica.node))
        .map(|(_, node)| node.address.clone())
        .collect();
    let rest = if members.is_empty() { seeds.to_vec() } else { members };
    let rest = rest.into_iter().filter(|address| Some(address) != hint.as_ref());
    hint.iter().cloned().chain(rest).collect()
}
