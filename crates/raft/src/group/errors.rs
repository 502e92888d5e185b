//! Why an operation on a group did not happen, by what the caller can do about it.

use conclave_storage::EngineError;
use conclave_types::ReplicaId;

use crate::PeerAddress;

/// Why a proposal brought no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Never appended: safe to propose elsewhere.
    #[error("not the leader")]
    NotLeader { leader: Option<(ReplicaId, PeerAddress)>, term: u64 },
    /// May or may not commit, now or later.
    #[error("leadership was lost: the proposal may still commit")]
    Unknown,
    /// Never appended: too many proposals wait for this group.
    #[error("too many proposals wait")]
    Overloaded,
    /// The replica has stopped; a proposal it had accepted may still commit elsewhere.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why a read may not be served here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    #[error("not the leader")]
    NotLeader { leader: Option<(ReplicaId, PeerAddress)>, term: u64 },
    /// No majority confirmed this leader in time.
    #[error("no majority of the group answers")]
    NoQuorum,
    #[error("the replica has stopped")]
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// The group has members already; nothing was changed.
    #[error("the group is initialized already")]
    AlreadyInitialized,
    /// This replica is not among the members, or the set is empty.
    #[error("the members are not acceptable: {0}")]
    Members(String),
    #[error("the replica has stopped")]
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("not the leader")]
    NotLeader,
    #[error("leadership is being handed over already")]
    InProgress,
    /// No other voter that answers had the whole log in time.
    #[error("no other voter has the whole log")]
    NoTarget,
    /// Not done in time. Writes are refused here until an election settles it.
    #[error("leadership did not move in time")]
    TimedOut,
    #[error("the replica has stopped")]
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("not the leader")]
    NotLeader { leader: Option<(ReplicaId, PeerAddress)>, term: u64 },
    /// Another change is under way, or the members changed since they were read.
    #[error("the members are being changed: {0}")]
    Conflict(String),
    #[error("the members are not acceptable: {0}")]
    Members(String),
    /// May or may not commit.
    #[error("leadership was lost: the change may still commit")]
    Unknown,
    #[error("the replica has stopped")]
    Stopped,
}

/// Why a local write did not happen. None is worth repeating on this replica.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LocalWriteError {
    /// The replica has stopped, or is about to: nothing was written.
    #[error("the replica has stopped")]
    Stopped,
    /// What the write is made from could not be read: nothing was written.
    #[error("a local write cannot be made: {0}")]
    Build(EngineError),
    /// The engine failed; the node's log writer fails with it.
    #[error("a local write failed: {0}")]
    Write(EngineError),
}
