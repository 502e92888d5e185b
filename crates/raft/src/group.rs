//! One replica of one group: what its host can ask of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conclave_types::{GroupId, ReplicaId};
use tokio::sync::watch;

use crate::{PeerAddress, Reply};

/// One leadership: a term can see several leaders one after the other, so the replica belongs to the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderTerm {
    pub term: u64,
    pub leader: ReplicaId,
}

/// Who leads, as this replica knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    Follower { term: u64, leader: Option<(ReplicaId, PeerAddress)> },
    /// This replica leads and has applied an entry of its own term, so its state holds every acknowledged write.
    Leader { term: LeaderTerm },
    /// The replica has stopped: shut down, or it broke. It never leads again.
    Stopped,
}

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
    /// No other voter has the whole log at this moment.
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

/// A moment's view of a replica, for operators and controllers.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    pub group: GroupId,
    pub replica: ReplicaId,
    pub leadership: Leadership,
    pub term: u64,
    /// Indexes of the log: last entry, last known committed, last applied, last purged.
    pub last: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    pub purged: Option<u64>,
    pub voters: BTreeMap<ReplicaId, PeerAddress>,
    pub learners: BTreeMap<ReplicaId, PeerAddress>,
    /// Last entry each replica is known to have; only the leader knows.
    pub matched: BTreeMap<ReplicaId, Option<u64>>,
    /// Set once the replica has broken.
    pub fatal: Option<String>,
}

/// A handle to one replica. Clones are cheap and mean the same replica.
#[derive(Clone)]
pub struct Group {}

impl Group {
    pub fn id(&self) -> GroupId {
        unreachable!()
    }

    pub fn replica(&self) -> ReplicaId {
        unreachable!()
    }

    /// The group has members, as far as this replica knows.
    pub async fn is_initialized(&self) -> bool {
        unreachable!()
    }

    /// Gives a new group its first members. Every member may call it with the same set.
    pub async fn initialize(&self, _members: BTreeMap<ReplicaId, PeerAddress>) -> Result<(), InitializeError> {
        unreachable!()
    }

    /// Appends a payload and returns what applying it on this replica returned. With `bound_to` it is appended only
    /// under that leadership.
    pub async fn propose(&self, _payload: Bytes, _bound_to: Option<LeaderTerm>) -> Result<Reply, ProposeError> {
        unreachable!()
    }

    /// Returns once this replica is known to lead and has applied everything acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<(), BarrierError> {
        unreachable!()
    }

    /// Hands leadership to a voter that has the whole log; returns the new leader.
    pub async fn transfer_leader(&self) -> Result<ReplicaId, TransferError> {
        unreachable!()
    }

    /// Adds a replica that receives the log without a vote; returns once it has caught up.
    pub async fn add_learner(&self, _replica: ReplicaId, _address: PeerAddress) -> Result<(), MembershipError> {
        unreachable!()
    }

    /// Makes exactly these members the voters. They must be voters or learners already.
    pub async fn change_members(&self, _voters: BTreeSet<ReplicaId>) -> Result<(), MembershipError> {
        unreachable!()
    }

    pub fn status(&self) -> GroupStatus {
        unreachable!()
    }

    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        unreachable!()
    }

    /// Stops the replica and takes it out of the registry. What it had accepted may still commit elsewhere.
    pub async fn shutdown(self) {
        unreachable!()
    }
}
