//! How a cluster is born.
//!
//! ```text
//!  every initial host answers "same list, same token"
//!     └─ none has a log yet ──► each metadata host initialises group 0 with the same members
//!          └─ group 0 has a leader ──► it proposes Bootstrap: the table exists
//! ```
//! Members are written down with their node uuids, so a host whose folder was emptied in between is another node to
//! everybody: its votes are not asked for, and it can never stand in for the replica that was lost. Whatever step a host
//! is stopped in, its next start goes on from what group 0 holds. A host that lost its store meanwhile takes no part: the
//! first members and the first table name its first store, which answers nothing, and once there is a table it registers
//! the next one and is given new replicas.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conclave_raft::{Group, InitializeError, Leadership, PeerAddress};
use conclave_types::{ClusterUuid, NodeUuid, ProjectId, ReplicaId};
use futures::future::join_all;
use tokio::time::sleep;

use crate::TableWatch;
use crate::client::{MetaClient, MetaClientError, ProbeAnswer};
use crate::command::{Bootstrap, MetaCommand};
use crate::identity::meta_hosts;
use crate::identity::store::FIRST_STORE;
use crate::service::{CommitError, MetaEndpoint};
use crate::table::{Node, NodeState, Replica, Secret, TableError, TokenKey};
use crate::token::hosts_hash;

/// How often hosts that are not there yet are asked again.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// What a new cluster begins with. Only the host that happens to lead first uses its own; give all hosts the same.
#[derive(Debug, Clone)]
pub struct FoundingOptions {
    /// Power of two up to 4,096; fixed for ever. Aim for 10 shards a node of the largest size expected. Default 128.
    pub shard_count: u16,
    /// Replicas of a shard; fewer while there are fewer hosts. Default 3.
    pub replication: usize,
    /// Default `default`.
    pub project: ProjectId,
    /// The project's first token key. Default none: one is drawn at random.
    pub token_key: Option<TokenKey>,
}

impl Default for FoundingOptions {
    fn default() -> Self {
        FoundingOptions {
            shard_count: 128,
            replication: 3,
            project: "default".parse().expect("a valid name"),
            token_key: None,
        }
    }
}

/// Why a cluster cannot be born from these hosts. None of these heals by waiting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    #[error("{address} was started with another cluster token: give all initial hosts the same")]
    Token { address: String },
    #[error(
        "{address} was started with another list of initial hosts, or to join: give all initial hosts the same list"
    )]
    List { address: String },
    #[error(
        "{address} is answered by node {found}, but it is this host's own address and node {node}: correct the list"
    )]
    NotThisHost { address: String, node: NodeUuid, found: NodeUuid },
    #[error("{first} and {second} are answered by the same node: correct the list of initial hosts")]
    SameNode { first: String, second: String },
    #[error(
        "{address} belongs to cluster {cluster}, which does not know this node: bring its old data folder back, or join \
         it as a new node"
    )]
    Stranger { address: String, cluster: ClusterUuid },
    #[error("the first replicas cannot be placed: {0}")]
    Plan(String),
    #[error("the first table is not acceptable: {0}")]
    Table(#[from] TableError),
    #[error("the metadata group refuses its first members: {0}")]
    Members(String),
    #[error("the first entry was refused: {0}")]
    Refused(String),
    #[error("no random bytes for the cluster's identity: {0}")]
    Random(String),
}

/// One metadata host's part in it.
pub(crate) struct Founder {
    pub client: MetaClient,
    pub endpoint: Arc<MetaEndpoint>,
    pub group: Group,
    pub hosts: Vec<String>,
    pub position: usize,
    pub options: FoundingOptions,
}

impl Founder {
    /// Returns once there is a table, or when there never will be one.
    pub async fn run(self) -> Result<(), FoundingError> {
        self.initialise().await?;
        self.bootstrap().await
    }

    async fn initialise(&self) -> Result<(), FoundingError> {
        while !self.group.is_initialized().await {
            match self.probe_all().await? {
                // One that has a log was quicker than us and reaches us as a member.
                Some(answers) if answers.iter().all(|answer| !answer.initialised) => {
                    match self.group.initialize(self.members(&answers)).await {
                        Ok(()) => tracing::info!(members = ?self.hosts, "initialised the metadata group"),
                        Err(InitializeError::AlreadyInitialized) => {}
                        Err(InitializeError::Members(reason)) => return Err(FoundingError::Members(reason)),
                        Err(InitializeError::Stopped) => return Ok(()),
                    }
                }
                Some(_) | None => sleep(PROBE_INTERVAL).await,
            }
        }
        Ok(())
    }

    async fn bootstrap(&self) -> Result<(), FoundingError> {
        let mut table: TableWatch = self.endpoint.table.clone();
        let mut leadership = self.group.leadership();
        // Drawn once: proposing again after an unknown outcome must not be another cluster.
        let (cluster, secret) = (new_cluster()?, random_secret()?);
        let token_key = match &self.options.token_key {
            Some(key) => key.clone(),
            None => TokenKey { kid: "first".parse()?, project: self.options.project.clone(), secret: random_secret()? },
        };
        loop {
            if table.borrow_and_update().is_some() {
                return Ok(());
            }
            let state = leadership.borrow_and_update().clone();
            match state {
                Leadership::Stopped => return Ok(()),
                Leadership::Leader { .. } => {
                    if let Some(answers) = self.probe_all().await? {
                        self.propose(self.first_entry(&answers, cluster, &secret, &token_key)?).await?;
                    }
                }
                Leadership::Follower { .. } => {}
            }
            tokio::select! {
                _ = table.changed() => {}
                _ = leadership.changed() => {}
                () = sleep(PROBE_INTERVAL) => {}
            }
        }
    }

    async fn propose(&self, bootstrap: Bootstrap) -> Result<(), FoundingError> {
        let cluster = bootstrap.cluster;
        match self.endpoint.commit(&MetaCommand::Bootstrap(Box::new(bootstrap))).await {
            Ok(_) => tracing::info!(%cluster, "the cluster exists"),
            // Another leader was quicker: its table arrives.
            Err(CommitError::Refused(_)) if self.endpoint.table.borrow().is_some() => {}
            Err(CommitError::Refused(reason)) => return Err(FoundingError::Refused(reason)),
            // Looked at again after a pause.
            Err(CommitError::NotLeader { .. } | CommitError::Unknown | CommitError::Overloaded) => {}
        }
        Ok(())
    }

    /// The answers of all initial hosts in the list's order; none while one of them is not there.
    async fn probe_all(&self) -> Result<Option<Vec<ProbeAnswer>>, FoundingError> {
        let probes = self.hosts.iter().map(|host| self.client.probe(host, self.endpoint.node));
        let mut answers = Vec::with_capacity(self.hosts.len());
        for answer in join_all(probes).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(MetaClientError::Token { address }) => return Err(FoundingError::Token { address }),
                Err(error) => tracing::debug!(%error, "an initial host is not there yet"),
            }
        }
        // What is wrong with those that answered is worth saying before the rest is there.
        self.check(&answers)?;
        Ok(Some(answers).filter(|answers| answers.len() == self.hosts.len()))
    }

    fn check(&self, answers: &[ProbeAnswer]) -> Result<(), FoundingError> {
        let ours = hosts_hash(&self.hosts);
        let mut addresses: BTreeMap<NodeUuid, &str> = BTreeMap::new();
        for answer in answers {
            let address = answer.address.clone();
            if answer.hosts_hash.as_deref() != Some(&ours) {
                return Err(FoundingError::List { address });
            }
            if address == self.hosts[self.position] && answer.node != self.endpoint.node {
                return Err(FoundingError::NotThisHost { address, node: self.endpoint.node, found: answer.node });
            }
            if let Some(first) = addresses.insert(answer.node, &answer.address) {
                return Err(FoundingError::SameNode { first: first.into(), second: address });
            }
            if let Some(cluster) = answer.cluster.filter(|_| !answer.knows_caller) {
                return Err(FoundingError::Stranger { address, cluster });
            }
        }
        Ok(())
    }

    fn members(&self, answers: &[ProbeAnswer]) -> BTreeMap<ReplicaId, PeerAddress> {
        let member = |(replica, answer): (Replica, &ProbeAnswer)| {
            (replica.replica, PeerAddress { node: Some(replica.node), address: answer.address.clone() })
        };
        meta_replicas(answers).into_iter().zip(answers).map(member).collect()
    }

    fn first_entry(
        &self,
        answers: &[ProbeAnswer],
        cluster: ClusterUuid,
        secret: &Secret,
        token_key: &TokenKey,
    ) -> Result<Bootstrap, FoundingError> {
        let nodes: Vec<Node> = answers
            .iter()
            .map(|answer| Node {
                node: answer.node,
                address: answer.address.clone(),
                zone: answer.zone.clone(),
                state: NodeState::Up,
                store: FIRST_STORE,
            })
            .collect();
        let replication = self.options.replication.min(nodes.len());
        let shards = plan::plan_shards(&nodes, self.options.shard_count, replication)?;
        Ok(Bootstrap {
            cluster,
            replication,
            secret: secret.clone(),
            meta_replicas: meta_replicas(answers),
            nodes,
            shards,
            project: self.options.project.clone(),
            token_key: token_key.clone(),
        })
    }
}

/// The list's first hosts, with ids by its order.
fn meta_replicas(answers: &[ProbeAnswer]) -> Vec<Replica> {
    let replica =
        |(id, answer): (u64, &ProbeAnswer)| Replica { replica: ReplicaId(id), node: answer.node, store: FIRST_STORE };
    (1..).zip(answers).take(meta_hosts(answers.len())).map(replica).collect()
}

fn new_cluster() -> Result<ClusterUuid, FoundingError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| FoundingError::Random(error.to_string()))?;
    Ok(ClusterUuid(bytes))
}

fn random_secret() -> Result<Secret, FoundingError> {
    Secret::random().map_err(|error| FoundingError::Random(error.to_string()))
}
