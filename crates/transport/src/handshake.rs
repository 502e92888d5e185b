//! The first message of each side: are we of one cluster, do we speak one protocol, did the call reach the right node.
//!
//! The token proof is compared always, the cluster uuid once both sides know theirs: a cluster that is being born has
//! no uuid yet. The callee checks the caller's hello, and the caller checks the callee's.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use conclave_proto::internal::v1::{PeerHello, PeerLane};
use conclave_raft::Lane;
use conclave_types::{ClusterUuid, NodeUuid};
use tonic::{Code, Status};

/// Version of the peer protocol. Nodes of different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 1;

/// Who this node is to its peers.
pub struct LocalIdentity {
    node: NodeUuid,
    cluster_proof: [u8; 32],
    cluster: OnceLock<ClusterUuid>,
}

/// The node was told of two clusters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node belongs to cluster {ours}, not to cluster {theirs}")]
pub struct OtherCluster {
    pub ours: ClusterUuid,
    pub theirs: ClusterUuid,
}

impl LocalIdentity {
    /// `cluster_proof` is derived from the cluster token for this purpose alone; the token itself never comes here.
    pub fn new(node: NodeUuid, cluster_proof: [u8; 32], cluster: Option<ClusterUuid>) -> Arc<Self> {
        let identity = LocalIdentity { node, cluster_proof, cluster: OnceLock::new() };
        if let Some(cluster) = cluster {
            identity.cluster.get_or_init(|| cluster);
        }
        Arc::new(identity)
    }

    pub fn node(&self) -> NodeUuid {
        self.node
    }

    /// Fixes the cluster, once its first metadata entry is known.
    pub fn learn_cluster(&self, cluster: ClusterUuid) -> Result<(), OtherCluster> {
        let ours = *self.cluster.get_or_init(|| cluster);
        if ours == cluster { Ok(()) } else { Err(OtherCluster { ours, theirs: cluster }) }
    }

    pub(crate) fn hello(&self, expected: Option<NodeUuid>, lane: Lane) -> PeerHello {
        PeerHello {
            protocol_version: PROTOCOL_VERSION,
            cluster_proof: Bytes::copy_from_slice(&self.cluster_proof),
            cluster_uuid: self.cluster.get().map(|cluster| Bytes::copy_from_slice(&cluster.0)).unwrap_or_default(),
            node_uuid: Bytes::copy_from_slice(&self.node.0),
            expected_node_uuid: expected.map(|node| Bytes::copy_from_slice(&node.0)).unwrap_or_default(),
            lane: lane_to_wire(lane).into(),
        }
    }

    /// What the callee checks: everything both sides must share, and that it is whom the caller looked for.
    pub(crate) fn accept(&self, hello: &PeerHello) -> Result<(NodeUuid, Lane), HandshakeError> {
        let caller = self.check_common(hello)?;
        match optional_uuid(&hello.expected_node_uuid, "expected_node_uuid")? {
            Some(expected) if expected != self.node.0 => {
                return Err(HandshakeError::Node { expected: NodeUuid(expected), found: self.node });
            }
            _ => {}
        }
        let lane = lane_from_wire(hello.lane).ok_or(HandshakeError::Malformed("lane"))?;
        Ok((caller, lane))
    }

    /// What the caller checks of the callee's answer. Returns who answered.
    pub(crate) fn confirm(&self, hello: &PeerHello, expected: Option<NodeUuid>) -> Result<NodeUuid, HandshakeError> {
        let found = self.check_common(hello)?;
        match expected {
            Some(expected) if expected != found => Err(HandshakeError::Node { expected, found }),
            _ => Ok(found),
        }
    }

    fn check_common(&self, hello: &PeerHello) -> Result<NodeUuid, HandshakeError> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(HandshakeError::Version { ours: PROTOCOL_VERSION, theirs: hello.protocol_version });
        }
        if !is_same_secret(&self.cluster_proof, &hello.cluster_proof) {
            return Err(HandshakeError::Token);
        }
        if let (Some(ours), Some(theirs)) = (self.cluster.get(), optional_uuid(&hello.cluster_uuid, "cluster_uuid")?)
            && ours.0 != theirs
        {
            return Err(HandshakeError::Cluster { ours: *ours, theirs: ClusterUuid(theirs) });
        }
        let node = optional_uuid(&hello.node_uuid, "node_uuid")?.ok_or(HandshakeError::Malformed("node_uuid"))?;
        Ok(NodeUuid(node))
    }
}

/// Why two nodes do not talk. None of these heals by waiting: configuration or data folders are mixed up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the hello's field {0} is missing or malformed")]
    Malformed(&'static str),
    #[error("cluster tokens differ")]
    Token,
    #[error("peer protocol versions differ: {ours} here, {theirs} there")]
    Version { ours: u32, theirs: u32 },
    #[error("clusters differ: {ours} here, {theirs} there")]
    Cluster { ours: ClusterUuid, theirs: ClusterUuid },
    #[error("reached node {found} instead of node {expected}")]
    Node { expected: NodeUuid, found: NodeUuid },
}

impl From<HandshakeError> for Status {
    fn from(error: HandshakeError) -> Status {
        let code = match error {
            HandshakeError::Malformed(_) => Code::InvalidArgument,
            HandshakeError::Token => Code::Unauthenticated,
            HandshakeError::Version { .. } | HandshakeError::Cluster { .. } | HandshakeError::Node { .. } => {
                Code::FailedPrecondition
            }
        };
        Status::new(code, error.to_string())
    }
}

/// Whether a status is a refused handshake rather than a line that failed.
pub(crate) fn is_handshake_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::Unauthenticated | Code::FailedPrecondition)
}

/// Compares without telling by its duration where the difference is.
fn is_same_secret(ours: &[u8; 32], theirs: &[u8]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn optional_uuid(bytes: &[u8], field: &'static str) -> Result<Option<[u8; 16]>, HandshakeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(Some).map_err(|_| HandshakeError::Malformed(field))
}

fn lane_to_wire(lane: Lane) -> PeerLane {
    match lane {
        Lane::Control => PeerLane::Control,
        Lane::Data => PeerLane::Data,
        Lane::Snapshot => PeerLane::Snapshot,
    }
}

fn lane_from_wire(lane: i32) -> Option<Lane> {
    match PeerLane::try_from(lane).ok()? {
        PeerLane::Unspecified => None,
        PeerLane::Control => Some(Lane::Control),
        PeerLane::Data => Some(Lane::Data),
        PeerLane::Snapshot => Some(Lane::Snapshot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: NodeUuid = NodeUuid([1; 16]);
    const THEIRS: NodeUuid = NodeUuid([2; 16]);

    fn pair() -> (Arc<LocalIdentity>, Arc<LocalIdentity>) {
        (LocalIdentity::new(OURS, [7; 32], None), LocalIdentity::new(THEIRS, [7; 32], None))
    }

    #[test]
    fn nodes_of_one_cluster_accept_each_other() {
        let (ours, theirs) = pair();
        let hello = ours.hello(Some(THEIRS), Lane::Data);
        assert_eq!(theirs.accept(&hello), Ok((OURS, Lane::Data)));
        let answer = theirs.hello(None, Lane::Data);
        assert_eq!(ours.confirm(&answer, Some(THEIRS)), Ok(THEIRS));
    }

    #[test]
    fn the_cluster_counts_once_both_sides_know_it() {
        let (ours, theirs) = pair();
        ours.learn_cluster(ClusterUuid([1; 16])).unwrap();
        assert!(theirs.accept(&ours.hello(None, Lane::Control)).is_ok());
        theirs.learn_cluster(ClusterUuid([2; 16])).unwrap();
        let refusal = theirs.accept(&ours.hello(None, Lane::Control));
        assert!(matches!(refusal, Err(HandshakeError::Cluster { .. })), "{refusal:?}");
        assert!(ours.learn_cluster(ClusterUuid([2; 16])).is_err());
    }

    #[test]
    fn strangers_are_refused_with_the_reason() {
        let (ours, theirs) = pair();
        let good = ours.hello(Some(THEIRS), Lane::Data);
        let refused = |change: fn(&mut PeerHello)| {
            let mut hello = good.clone();
            change(&mut hello);
            theirs.accept(&hello).unwrap_err()
        };
        assert_eq!(refused(|hello| hello.protocol_version = 9), HandshakeError::Version { ours: 1, theirs: 9 });
        assert_eq!(refused(|hello| hello.cluster_proof = vec![8; 32].into()), HandshakeError::Token);
        assert_eq!(refused(|hello| hello.cluster_proof.clear()), HandshakeError::Token);
        assert_eq!(refused(|hello| hello.node_uuid.truncate(3)), HandshakeError::Malformed("node_uuid"));
        assert_eq!(refused(|hello| hello.lane = 77), HandshakeError::Malformed("lane"));
        let expected = NodeUuid([3; 16]);
        assert_eq!(
            theirs.accept(&ours.hello(Some(expected), Lane::Data)),
            Err(HandshakeError::Node { expected, found: THEIRS })
        );
        assert!(matches!(
            ours.confirm(&theirs.hello(None, Lane::Data), Some(expected)),
            Err(HandshakeError::Node { .. })
        ));
    }
}
