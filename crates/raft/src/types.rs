//! openraft's types as this crate fills them in.

use std::fmt;

use bytes::Bytes;
use conclave_types::ReplicaId;
use openraft::OptionalSend;
use openraft::impls::{InlineBatch, leader_id_adv};
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::snapshot::SnapshotState;
use crate::{LeaderTerm, PeerAddress, Reply};

/// One group's types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raft;

impl openraft::RaftTypeConfig for Raft {
    type D = Payload;
    type R = Response;
    type NodeId = u64;
    type Node = PeerAddress;
    type Term = u64;
    // Upstream's default, and the mode its fuzzer runs.
    type LeaderId = leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, u64, PeerAddress>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type Responder<T>
        = Answer<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Hands an outcome to whoever waits, if anybody still does.
pub struct Answer<T>(pub(crate) oneshot::Sender<T>);

impl<T: OptionalSend + 'static> Responder<Raft, T> for Answer<T> {
    fn on_complete(self, outcome: T) {
        // A proposer that no longer waits was told that the outcome is unknown.
        let _ = self.0.send(outcome);
    }
}

pub type LeaderId = openraft::type_config::alias::LeaderIdOf<Raft>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Raft>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Raft>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Raft>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, PeerAddress>;
pub(crate) type Membership = openraft::Membership<u64, PeerAddress>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Raft>;
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<Raft, SnapshotState>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Raft>;

/// What an entry carries; only the state machine knows what it means.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What apply returned to the proposer; none for entries without a payload. The lock is never contended: openraft asks
/// for `Sync`, and a reply is only `Send`.
pub struct Response(Mutex<Option<Reply>>);

impl Response {
    pub(crate) fn new(reply: Option<Reply>) -> Self {
        Response(Mutex::new(reply))
    }

    pub(crate) fn into_reply(self) -> Option<Reply> {
        self.0.into_inner()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response")
    }
}

impl From<LeaderId> for LeaderTerm {
    fn from(id: LeaderId) -> Self {
        LeaderTerm { term: id.term, leader: ReplicaId(id.node_id) }
    }
}

impl From<LeaderTerm> for LeaderId {
    fn from(leadership: LeaderTerm) -> Self {
        LeaderId { term: leadership.term, node_id: leadership.leader.0 }
    }
}
