//! The peer port: how a replica calls a replica of its group on another node.
//!
//! Calls are requests with one answer, addressed by (group, replica). Frames to one node share a few long-lived streams;
//! that is the transport's affair. Every call carries its own deadline because openraft does not cut hung calls.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use conclave_types::{GroupId, NodeUuid, ReplicaId};

/// Where a replica lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerAddress {
    /// None until the node is known by its uuid (while a cluster is being born).
    pub node: Option<NodeUuid>,
    /// `host:port` of its internal listener.
    pub address: String,
}

/// Which streams a call travels on, so that bulk never delays what keeps leaders alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes, pre-votes, heartbeats, leadership transfer.
    Control,
    /// Appends.
    Data,
    /// Snapshot parts.
    Snapshot,
}

#[derive(Debug, Clone)]
pub struct PeerCall {
    pub group: GroupId,
    pub to: ReplicaId,
    pub from: ReplicaId,
    /// Which remote procedure, as this crate numbers them.
    pub kind: u32,
    pub body: Bytes,
}

/// Why a call brought no answer. In every case the peer may or may not have acted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    #[error("peer unreachable: {0}")]
    Unreachable(String),
    #[error("peer did not answer in {0:?}")]
    Timeout(Duration),
    /// The peer does not host this replica, or is another node or cluster than expected.
    #[error("peer refused: {0}")]
    Refused(String),
    /// The peer's queue for this group is full.
    #[error("peer is busy")]
    Busy,
}

pub type PeerFuture = Pin<Box<dyn Future<Output = Result<Bytes, PeerError>> + Send>>;

/// Sends calls. Implemented over gRPC by `transport`, over turmoil by simulation.
pub trait PeerTransport: Send + Sync + 'static {
    fn call(&self, target: PeerAddress, lane: Lane, call: PeerCall, deadline: Duration) -> PeerFuture;
}

/// Answers calls. Implemented by this crate's registry of groups; driven by the transport's receiver.
pub trait PeerHandler: Send + Sync + 'static {
    fn handle(&self, call: PeerCall) -> PeerFuture;
}
