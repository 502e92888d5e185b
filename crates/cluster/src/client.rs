//! Calls the metadata service of other hosts, and asks hosts for their status.

use std::time::Duration;

use bytes::Bytes;
use conclave_network::Network;
use conclave_proto::internal::v1 as wire;
use conclave_proto::internal::v1::admin_service_client::AdminServiceClient;
use conclave_proto::internal::v1::meta_service_client::MetaServiceClient;
use conclave_types::{ClusterUuid, NodeUuid};
use tokio::time::{Instant, sleep};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::command::MetaCommand;
use crate::machine::MetaOutcome;
use crate::proof;
use crate::table::{TableRevision, wire::node_uuid, wire::uuid};
use crate::token::{ClusterToken, Purpose};

/// Metadata key of the leader's address in a refusal.
pub(crate) const LEADER_KEY: &str = "conclave-meta-leader";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for one unary answer: an election and a commit.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 ping and the wait for its answer: without it a host that vanished is not noticed by a quiet stream.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));
/// A table is below 1 MiB.
const MAX_TABLE_BYTES: usize = 4 << 20;
/// Leader hints followed before asking the next host: hosts that point at each other end here.
const MAX_HOPS: usize = 3;

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaClientError {
    /// Try another host.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable { address: String, reason: String },
    /// Try the leader if it is known, else another host.
    #[error("{address} does not lead the metadata group")]
    NotLeader { address: String, leader: Option<String> },
    /// May have happened; commands are idempotent, so propose it again.
    #[error("{address} lost its leadership: the command may still commit")]
    Unknown { address: String },
    /// Never try again.
    #[error("{address} has another cluster token")]
    Token { address: String },
    /// Never try again.
    #[error("the cluster table refuses the command: {reason}")]
    Refused { reason: String },
    #[error("no host could be asked: the list of addresses is empty")]
    NoAddress,
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeAnswer {
    pub address: String,
    pub node: NodeUuid,
    pub zone: String,
    pub initialised: bool,
    /// None for a host that was started to join.
    pub hosts_hash: Option<Bytes>,
    pub cluster: Option<ClusterUuid>,
    pub knows_caller: bool,
}

#[derive(Clone)]
pub struct MetaClient {
    token: ClusterToken,
    proof: MetadataValue<Ascii>,
    network: Network,
}

impl MetaClient {
    pub fn new(token: ClusterToken) -> Self {
        MetaClient::over(Network::System, token)
    }

    /// Dials with another network than the system's.
    pub fn over(network: Network, token: ClusterToken) -> Self {
        let proof = proof::metadata_value(&token);
        MetaClient { token, proof, network }
    }

    /// Commits a command: asks one host after the other until one leads, at most until the deadline.
    pub async fn propose(
        &self,
        addresses: &[String],
        command: &MetaCommand,
        deadline: Duration,
    ) -> Result<MetaOutcome, MetaClientError> {
        let end = Instant::now() + deadline;
        let mut pause = Pause::default();
        let mut last = MetaClientError::NoAddress;
        for address in addresses.iter().cycle() {
            match self.propose_with_hints(address, command).await {
                Err(error @ (MetaClientError::Refused { .. } | MetaClientError::Token { .. })) => return Err(error),
                Err(error) => last = error,
                Ok(outcome) => return Ok(outcome),
            }
            if Instant::now() + pause.next > end {
                break;
            }
            pause.wait().await;
        }
        Err(last)
    }

    async fn propose_with_hints(&self, first: &str, command: &MetaCommand) -> Result<MetaOutcome, MetaClientError> {
        let mut address = first.to_owned();
        for _ in 0..MAX_HOPS {
            match self.propose_at(&address, command).await {
                Err(MetaClientError::NotLeader { leader: Some(leader), .. }) if leader != address => address = leader,
                other => return other,
            }
        }
        Err(MetaClientError::NotLeader { address, leader: None })
    }

    async fn propose_at(&self, address: &str, command: &MetaCommand) -> Result<MetaOutcome, MetaClientError> {
        let request = self.request(wire::ProposeRequest { command: Some(command.to_wire()) }, Some(CALL_TIMEOUT));
        let answer = self.dial(address).await?.propose(request).await;
        let answer = answer.map_err(|status| failure(address, &status))?.into_inner();
        Ok(MetaOutcome { revision: TableRevision(answer.revision), changed: answer.changed })
    }

    /// What a host says of itself and of its replicas.
    pub async fn host_status(&self, address: &str) -> Result<wire::GetHostStatusResponse, MetaClientError> {
        let mut admin = AdminServiceClient::new(self.connect(address).await?);
        let answer = admin.get_host_status(self.request(wire::GetHostStatusRequest {}, Some(CALL_TIMEOUT))).await;
        Ok(answer.map_err(|status| failure(address, &status))?.into_inner())
    }

    pub(crate) async fn probe(&self, address: &str, asking: NodeUuid) -> Result<ProbeAnswer, MetaClientError> {
        let mut nonce = [0; 16];
        let unreachable = |reason: String| MetaClientError::Unreachable { address: address.into(), reason };
        getrandom::fill(&mut nonce).map_err(|error| unreachable(error.to_string()))?;
        let request =
            wire::ProbeRequest { nonce: Bytes::copy_from_slice(&nonce), node_uuid: Bytes::copy_from_slice(&asking.0) };
        let answer = self.dial(address).await?.probe(self.request(request, Some(CONNECT_TIMEOUT))).await;
        let answer = answer.map_err(|status| failure(address, &status))?.into_inner();
        let node = node_uuid("node_uuid", &answer.node_uuid).map_err(|error| unreachable(error.to_string()))?;
        if !self.token.is_proof(&answer.proof, Purpose::Probe, &[&nonce, &node.0, &answer.initial_hosts_hash]) {
            return Err(MetaClientError::Token { address: address.into() });
        }
        let cluster = match answer.cluster_uuid.as_ref() {
            [] => None,
            bytes => Some(ClusterUuid(uuid("cluster_uuid", bytes).map_err(|error| unreachable(error.to_string()))?)),
        };
        Ok(ProbeAnswer {
            address: address.into(),
            node,
            zone: answer.zone,
            initialised: answer.initialised,
            hosts_hash: Some(answer.initial_hosts_hash).filter(|hash| !hash.is_empty()),
            cluster,
            knows_caller: answer.knows_caller,
        })
    }

    pub(crate) async fn watch_table(
        &self,
        address: &str,
        known: TableRevision,
    ) -> Result<tonic::Streaming<wire::WatchTableResponse>, MetaClientError> {
        let request = self.request(wire::WatchTableRequest { known_revision: known.0 }, None);
        let stream = self.dial(address).await?.watch_table(request).await;
        Ok(stream.map_err(|status| failure(address, &status))?.into_inner())
    }

    pub(crate) async fn watch_leaders(
        &self,
        address: &str,
    ) -> Result<tonic::Streaming<wire::WatchLeadersResponse>, MetaClientError> {
        let request = self.request(wire::WatchLeadersRequest {}, None);
        let stream = self.dial(address).await?.watch_leaders(request).await;
        Ok(stream.map_err(|status| failure(address, &status))?.into_inner())
    }

    fn request<T>(&self, message: T, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(proof::METADATA_KEY, self.proof.clone());
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }

    async fn dial(&self, address: &str) -> Result<MetaServiceClient<Channel>, MetaClientError> {
        Ok(MetaServiceClient::new(self.connect(address).await?).max_decoding_message_size(MAX_TABLE_BYTES))
    }

    async fn connect(&self, address: &str) -> Result<Channel, MetaClientError> {
        let unreachable = |reason: String| MetaClientError::Unreachable { address: address.into(), reason };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| unreachable(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        // The connect timeout ends with the TCP handshake; a host that then says nothing must not hold us.
        let channel = tokio::time::timeout(CONNECT_TIMEOUT, self.network.connect(&endpoint)).await;
        channel
            .map_err(|_| unreachable(format!("no answer in {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| unreachable(with_source(&error)))
    }
}

/// What a status means to a caller.
pub(crate) fn failure(address: &str, status: &Status) -> MetaClientError {
    let address = address.to_owned();
    match status.code() {
        Code::Unauthenticated => MetaClientError::Token { address },
        Code::FailedPrecondition | Code::InvalidArgument => {
            MetaClientError::Refused { reason: status.message().into() }
        }
        Code::Aborted => MetaClientError::Unknown { address },
        Code::Unavailable if status.metadata().contains_key(LEADER_KEY) => {
            let leader = status.metadata().get(LEADER_KEY).and_then(|value| value.to_str().ok());
            let leader = leader.filter(|leader| !leader.is_empty()).map(ToOwned::to_owned);
            MetaClientError::NotLeader { address, leader }
        }
        _ => MetaClientError::Unreachable { address, reason: status.message().into() },
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_source(source)),
        None => error.to_string(),
    }
}

/// The pause between attempts: doubles from 50 ms to 1 s, so that a host that is back is found within a second and one
/// that is away costs nothing.
pub(crate) struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Pause { next: Duration::from_millis(50) }
    }
}

impl Pause {
    pub async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(1));
    }

    pub fn reset(&mut self) {
        *self = Pause::default();
    }
}
