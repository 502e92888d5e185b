//! The metadata service of one host.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use conclave_proto::internal::v1::meta_service_server::{MetaService, MetaServiceServer};
use conclave_proto::internal::v1::{
    ProbeRequest, ProbeResponse, ProposeRequest, ProposeResponse, WatchLeadersRequest, WatchLeadersResponse,
    WatchTableRequest, WatchTableResponse,
};
use conclave_raft::{Group, ProposeError};
use conclave_types::NodeUuid;
use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::TableWatch;
use crate::client::LEADER_KEY;
use crate::command::MetaCommand;
use crate::leaders::{LeaderHint, LeaderHints};
use crate::machine::{MetaOutcome, MetaReply};
use crate::proof;
use crate::table::TableRevision;
use crate::table::wire::node_uuid;
use crate::token::{ClusterToken, Purpose};

/// What the service answers from. One a host.
pub struct MetaEndpoint {
    pub(crate) token: ClusterToken,
    pub(crate) node: NodeUuid,
    pub(crate) zone: String,
    /// None for a host that was started to join.
    pub(crate) hosts_hash: Option<[u8; 32]>,
    pub(crate) table: TableWatch,
    /// The shards this host leads.
    pub(crate) leaders: watch::Receiver<LeaderHints>,
    /// This host's replica of the metadata group; may come later.
    pub(crate) group: OnceLock<Group>,
    pub(crate) cancelled: CancellationToken,
}

/// Why this host could not commit a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("this host does not lead the metadata group")]
    NotLeader { leader: Option<String> },
    #[error("leadership was lost: the command may still commit")]
    Unknown,
    #[error("too many commands wait")]
    Overloaded,
    #[error("{0}")]
    Refused(String),
}

impl MetaEndpoint {
    pub(crate) fn into_service(self: Arc<Self>) -> MetaServiceServer<MetaEndpoint> {
        MetaServiceServer::from_arc(self)
    }

    /// Commits a command if this host leads the metadata group.
    pub(crate) async fn commit(&self, command: &MetaCommand) -> Result<MetaOutcome, CommitError> {
        let group = self.group.get().ok_or(CommitError::NotLeader { leader: None })?;
        let reply = group.propose(command.encode(), None).await.map_err(|error| match error {
            ProposeError::NotLeader { leader, .. } => {
                CommitError::NotLeader { leader: leader.map(|(_, address)| self.current_address(address)) }
            }
            ProposeError::Unknown => CommitError::Unknown,
            ProposeError::Overloaded => CommitError::Overloaded,
            ProposeError::Stopped => CommitError::Unknown,
        })?;
        let reply = reply.downcast::<MetaReply>().expect("the metadata machine replies with its own type");
        (*reply).map_err(|refusal| CommitError::Refused(refusal.to_string()))
    }

    /// The membership keeps the address a node was born with; the table knows where it is now.
    fn current_address(&self, member: conclave_raft::PeerAddress) -> String {
        let table = self.table.borrow();
        let known = member.node.and_then(|node| table.as_ref()?.node(node).map(|node| node.address.clone()));
        known.unwrap_or(member.address)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MetaService for MetaEndpoint {
    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        proof::check(&self.token, request.metadata())?;
        let request = request.into_inner();
        let caller =
            node_uuid("node_uuid", &request.node_uuid).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if request.nonce.len() != 16 {
            return Err(Status::invalid_argument("nonce must have 16 bytes"));
        }
        let table = self.table.borrow().clone();
        let has_log = match self.group.get() {
            Some(group) => group.is_initialized().await,
            None => false,
        };
        let hosts_hash = self.hosts_hash.map(|hash| Bytes::copy_from_slice(&hash)).unwrap_or_default();
        let proof = self.token.proof(Purpose::Probe, &[&request.nonce, &self.node.0, &hosts_hash]);
        Ok(Response::new(ProbeResponse {
            node_uuid: Bytes::copy_from_slice(&self.node.0),
            initialised: has_log || table.is_some(),
            initial_hosts_hash: hosts_hash,
            proof: Bytes::copy_from_slice(&proof),
            zone: self.zone.clone(),
            cluster_uuid: table.as_ref().map(|table| Bytes::copy_from_slice(&table.cluster.0)).unwrap_or_default(),
            knows_caller: table.is_some_and(|table| table.node(caller).is_some()),
        }))
    }

    type WatchTableStream = Answers<WatchTableResponse>;

    async fn watch_table(
        &self,
        request: Request<WatchTableRequest>,
    ) -> Result<Response<Self::WatchTableStream>, Status> {
        proof::check(&self.token, request.metadata())?;
        let known = TableRevision(request.into_inner().known_revision);
        // Tables that come while one is being sent are skipped: the reader wants the newest, not each.
        let tables = stream::unfold((self.table.clone(), known), |(mut watch, known)| async move {
            let is_newer =
                |table: &Option<Arc<crate::ClusterTable>>| table.as_ref().is_some_and(|table| table.revision > known);
            let table = watch.wait_for(is_newer).await.ok()?.clone()?;
            let response = WatchTableResponse { table: Some(table.to_wire()) };
            Some((Ok(response), (watch, table.revision)))
        });
        Ok(Response::new(self.until_cancelled(tables)))
    }

    type WatchLeadersStream = Answers<WatchLeadersResponse>;

    async fn watch_leaders(
        &self,
        request: Request<WatchLeadersRequest>,
    ) -> Result<Response<Self::WatchLeadersStream>, Status> {
        proof::check(&self.token, request.metadata())?;
        let mut leaders = self.leaders.clone();
        leaders.mark_changed();
        let lists = stream::unfold(leaders, |mut leaders| async move {
            leaders.changed().await.ok()?;
            let list = leaders.borrow_and_update().iter().map(LeaderHint::to_wire).collect();
            Some((Ok(WatchLeadersResponse { leaders: list }), leaders))
        });
        Ok(Response::new(self.until_cancelled(lists)))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        proof::check(&self.token, request.metadata())?;
        let command = request.into_inner().command.unwrap_or_default();
        let command = MetaCommand::from_wire(command).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let outcome = self.commit(&command).await.map_err(status)?;
        Ok(Response::new(ProposeResponse { revision: outcome.revision.0, changed: outcome.changed }))
    }
}

impl MetaEndpoint {
    fn until_cancelled<T: Send + 'static>(
        &self,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        Box::pin(answers.take_until(self.cancelled.clone().cancelled_owned()))
    }
}

fn status(error: CommitError) -> Status {
    let message = error.to_string();
    match error {
        CommitError::NotLeader { leader } => {
            let mut status = Status::unavailable(message);
            // Empty when unknown: the key alone says that another host may lead.
            if let Ok(value) = leader.unwrap_or_default().parse() {
                status.metadata_mut().insert(LEADER_KEY, value);
            }
            status
        }
        CommitError::Unknown => Status::aborted(message),
        CommitError::Overloaded => Status::unavailable(message),
        CommitError::Refused(_) => Status::failed_precondition(message),
    }
}
