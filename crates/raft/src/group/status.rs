//! What a replica shows of itself.

use std::collections::BTreeMap;

use conclave_types::{GroupId, ReplicaId};

use crate::PeerAddress;

/// One leadership: a term can see several leaders one after the other, so the replica belongs to the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderTerm {
    pub term: u64,
    pub leader: ReplicaId,
}

/// Who leads, as this replica knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    Follower {
        term: u64,
        leader: Option<(ReplicaId, PeerAddress)>,
    },
    /// This replica leads and has applied an entry of its own term, so its state holds every acknowledged write.
    Leader {
        term: LeaderTerm,
    },
    /// The replica has stopped: shut down, or it broke. It never leads again.
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
    /// The voters are those of before a change and those of after it: the change is not complete.
    pub changing: bool,
    pub voters: BTreeMap<ReplicaId, PeerAddress>,
    pub learners: BTreeMap<ReplicaId, PeerAddress>,
    /// Last entry each replica is known to have; only the leader knows.
    pub matched: BTreeMap<ReplicaId, Option<u64>>,
    /// Set once the replica has broken.
    pub fatal: Option<String>,
}
