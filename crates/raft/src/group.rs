//! One replica of one group: what its host can ask of it.

mod errors;
mod keeper;
mod status;
mod ticking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conclave_storage::{EngineError, EngineView, WriteBatch};
use conclave_types::{GroupId, ReplicaId};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, ForwardToLeader, InitializeError as OpenraftInitializeError,
    LinearizableReadError, RaftError,
};
use openraft::raft::ClientWriteResponse;
use openraft::{ChangeMembers, Instant as _, Precondition, RaftMetrics, ReadPolicy};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

pub use errors::{BarrierError, InitializeError, LocalWriteError, MembershipError, ProposeError, TransferError};
pub(crate) use keeper::Keeper;
pub use status::{GroupStatus, LeaderTerm, Leadership};
pub(crate) use ticking::Heard;

use crate::apply::Applier;
use crate::apply_lane::ApplyLane;
use crate::node::Shared;
use crate::types::{Answer, LeaderId, Payload, Raft};
use crate::{PeerAddress, Reply};

pub(crate) type OpenraftHandle = openraft::Raft<Raft, Applier>;

/// A handle to one replica. Clones are cheap and mean the same replica. Dropping all of them does not stop it.
#[derive(Clone)]
pub struct Group(pub(crate) Arc<Replica>);

pub(crate) struct Replica {
    pub(crate) group: GroupId,
    pub(crate) id: ReplicaId,
    pub(crate) raft: OpenraftHandle,
    pub(crate) node: Arc<Shared>,
    pub(crate) lane: Arc<ApplyLane>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// The leadership this replica holds by a majority that still answers.
    pub(crate) leading: watch::Receiver<Option<LeaderTerm>>,
    /// One permit for each proposal that may wait for its reply.
    pub(crate) proposals: Arc<Semaphore>,
    pub(crate) appends: Semaphore,
    pub(crate) heard: Arc<Heard>,
    /// Leadership is being handed over: new proposals are refused, so that a follower can catch up to the end.
    pub(crate) handing_over: AtomicBool,
    pub(crate) running: Mutex<Option<Running>>,
}

/// What must end before the replica is gone.
pub(crate) struct Running {
    pub(crate) keeper: JoinHandle<()>,
    pub(crate) stop_keeper: oneshot::Sender<()>,
    /// Resolves when the state machine is dropped.
    pub(crate) applier_gone: oneshot::Receiver<()>,
}

impl Group {
    pub fn id(&self) -> GroupId {
        self.0.group
    }

    pub fn replica(&self) -> ReplicaId {
        self.0.id
    }

    /// The group has members, as far as this replica knows.
    pub async fn is_initialized(&self) -> bool {
        self.0.raft.is_initialized().await.unwrap_or(false)
    }

    /// Gives a new group its first members. Every member may call it with the same set.
    pub async fn initialize(&self, members: BTreeMap<ReplicaId, PeerAddress>) -> Result<(), InitializeError> {
        if !members.contains_key(&self.0.id) {
            return Err(InitializeError::Members(format!("replica {} is not among them", self.0.id.0)));
        }
        let members: BTreeMap<u64, PeerAddress> =
            members.into_iter().map(|(replica, address)| (replica.0, address)).collect();
        self.0.raft.initialize(members).await.map_err(|error| match error {
            RaftError::APIError(OpenraftInitializeError::NotAllowed(_)) => InitializeError::AlreadyInitialized,
            RaftError::APIError(error) => InitializeError::Members(error.to_string()),
            RaftError::Fatal(_) => InitializeError::Stopped,
        })
    }

    /// Appends a payload and returns what applying it on this replica returned. With `bound_to` it is appended only
    /// under that leadership. Answers as soon as leadership is lost, or its majority silent for longer than a follower
    /// would wait.
    pub async fn propose(&self, payload: Bytes, bound_to: Option<LeaderTerm>) -> Result<Reply, ProposeError> {
        self.begin(payload, bound_to).await?.outcome().await
    }

    /// The first half of [`Self::propose`]: hands a payload over to be appended. What is begun later under the same
    /// leadership is appended later, or not at all.
    pub async fn begin(&self, payload: Bytes, bound_to: Option<LeaderTerm>) -> Result<Proposed, ProposeError> {
        let replica = self.0.clone();
        let mut leading = replica.leading.clone();
        let tenure = replica.tenure(&mut leading, bound_to)?;
        let permit = replica.proposals.clone().try_acquire_owned().map_err(|_| ProposeError::Overloaded)?;
        let (answer, outcome) = oneshot::channel();
        let write = replica.raft.write(Payload(payload)).with_leader(LeaderId::from(tenure));
        write.responder(Answer(answer)).await.map_err(|_| ProposeError::Stopped)?;
        Ok(Proposed { replica, tenure, leading, outcome, _permit: permit })
    }

    /// Returns once this replica is known to lead and has applied everything acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<(), BarrierError> {
        let replica = &*self.0;
        if replica.node.is_damaged() {
            return Err(BarrierError::Stopped);
        }
        // A leader without a majority waits one lease for it; what is longer than two hangs.
        let limit = 2 * replica.node.options.election_timeout_max;
        let read = timeout(limit, replica.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await;
        match read {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                let (leader, term) = replica.forward(forward);
                Err(BarrierError::NotLeader { leader, term })
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                Err(BarrierError::NoQuorum)
            }
            Ok(Err(RaftError::Fatal(_))) => Err(BarrierError::Stopped),
        }
    }

    /// Changes local state of this replica alone. `build` sees the state as it is and fills the writes; between what it
    /// reads and what is written from it no entry is applied and no snapshot installed. Returns once the writes are
    /// readable; they are not synced, and lost only together with all that was applied after them. They are part of the
    /// snapshots that this replica sends.
    ///
    /// The writes must mean the same to every reader as what they replace, or the replicas differ. Apply waits for
    /// `build` on its thread, so it should read and write little and compute nothing. During an installation the call
    /// waits.
    ///
    /// # Panics
    /// If a key is not in `Family::State` under this group and [`LOCAL_CLASS`](crate::LOCAL_CLASS).
    pub async fn write_local<R>(
        &self,
        build: impl FnOnce(&dyn EngineView, &mut WriteBatch) -> Result<R, EngineError>,
    ) -> Result<R, LocalWriteError> {
        self.0.lane.write_local(build).await
    }

    /// Hands leadership to a voter that has the whole log; returns the new leader. Proposals are refused meanwhile, and
    /// those under way finish first. One attempt: an attempt that is lost leaves the group without a leader until an
    /// election.
    pub async fn transfer_leader(&self) -> Result<ReplicaId, TransferError> {
        let replica = &*self.0;
        let deadline = Instant::now() + replica.node.options.transfer_timeout;
        if replica.leading.borrow().is_none() {
            return Err(TransferError::NotLeader);
        }
        if replica.handing_over.swap(true, Ordering::SeqCst) {
            return Err(TransferError::InProgress);
        }
        let _reset = ResetOnDrop(&replica.handing_over);
        let target = replica.caught_up_voter(deadline).await?;
        replica.raft.trigger().transfer_leader(target.0).await.map_err(|_| TransferError::Stopped)?;
        replica.new_leader(deadline).await
    }

    /// Adds a replica that receives the log without a vote; how far it has come is in [`GroupStatus::matched`].
    ///
    /// openraft's own wait is not used: it takes a replica for caught up that lacks a few thousand entries, and so one
    /// that never answered while the log is short.
    pub async fn add_learner(&self, replica: ReplicaId, address: PeerAddress) -> Result<(), MembershipError> {
        let added = self.0.raft.add_learner(replica.0, address, false).await;
        added.map(|_| ()).map_err(|error| self.0.membership_error(error))
    }

    /// Takes out replicas that have no vote.
    pub async fn remove_learners(&self, learners: BTreeSet<ReplicaId>) -> Result<(), MembershipError> {
        let learners: BTreeSet<u64> = learners.into_iter().map(|replica| replica.0).collect();
        let removed = self.0.raft.change_membership(ChangeMembers::RemoveNodes(learners), false).await;
        removed.map(|_| ()).map_err(|error| self.0.membership_error(error))
    }

    /// Makes exactly these members the voters; others leave. They must be voters or learners already. Refused if the
    /// members change meanwhile.
    pub async fn change_members(&self, voters: BTreeSet<ReplicaId>) -> Result<(), MembershipError> {
        let last_membership_log_id = *self.0.metrics().membership_config.log_id();
        let unchanged = [Precondition::LastMembershipLogId { last_membership_log_id }];
        let voters: BTreeSet<u64> = voters.into_iter().map(|replica| replica.0).collect();
        let changed = self.0.raft.change_membership_if(voters, false, unchanged).await;
        changed.map(|_| ()).map_err(|error| self.0.membership_error(error))
    }

    pub fn status(&self) -> GroupStatus {
        let metrics = self.0.metrics();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let (voters, learners) = membership
            .nodes()
            .map(|(replica, address)| (ReplicaId(*replica), address.clone()))
            .partition(|(replica, _)| voters.contains(&replica.0));
        let matched = metrics.replication.iter().flatten();
        GroupStatus {
            group: self.0.group,
            replica: self.0.id,
            leadership: self.0.leadership.borrow().clone(),
            term: metrics.current_term,
            last: metrics.last_log_index,
            committed: metrics.local_committed.map(|position| position.index),
            applied: metrics.last_applied.map(|position| position.index),
            purged: metrics.purged.map(|position| position.index),
            changing: membership.get_joint_config().len() > 1,
            voters,
            learners,
            matched: matched
                .map(|(replica, position)| (ReplicaId(*replica), position.map(|position| position.index)))
                .collect(),
            fatal: metrics.running_state.err().map(|fatal| fatal.to_string()),
        }
    }

    /// Who leads, for as long as the receiver is held; closed once the replica has stopped.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.clone()
    }

    /// Stops the replica; returns once it writes nothing more, and the group may be opened again. What it had accepted
    /// may still commit elsewhere.
    pub async fn shutdown(self) {
        let running = self.0.running.lock().take();
        let Some(running) = running else { return };
        self.0.lane.close();
        if self.0.raft.shutdown().await.is_err() {
            tracing::warn!(
                group = self.0.group.0,
                replica = self.0.id.0,
                "the replica had broken before it was stopped"
            );
        }
        // Either has ended already if sending fails.
        let _ = running.stop_keeper.send(());
        let _ = running.keeper.await;
        let _ = running.applier_gone.await;
        self.0.node.forget(self.0.group);
    }
}

/// A payload that is on its way. Dropped, it stays on its way, and nobody learns what became of it.
pub struct Proposed {
    replica: Arc<Replica>,
    tenure: LeaderTerm,
    leading: watch::Receiver<Option<LeaderTerm>>,
    outcome: oneshot::Receiver<Written>,
    _permit: OwnedSemaphorePermit,
}

type Written = Result<ClientWriteResponse<Raft>, ClientWriteError<Raft>>;

impl Proposed {
    /// The second half of [`Group::propose`].
    pub async fn outcome(self) -> Result<Reply, ProposeError> {
        let Proposed { replica, tenure, mut leading, outcome, _permit } = self;
        let outcome = tokio::select! {
            biased;
            outcome = outcome => outcome.map_err(|_| ProposeError::Unknown)?,
            _ = leading.wait_for(|now| *now != Some(tenure)) => return Err(ProposeError::Unknown),
        };
        match outcome {
            // An entry with a payload has a reply; without one the machine broke and the replica stops.
            Ok(written) => written.data.into_reply().ok_or(ProposeError::Unknown),
            Err(ClientWriteError::ForwardToLeader(forward)) => {
                let (leader, term) = replica.forward(forward);
                Err(ProposeError::NotLeader { leader, term })
            }
            Err(_) => Err(ProposeError::Unknown),
        }
    }
}

impl Replica {
    /// The leadership a proposal is made under.
    fn tenure(
        &self,
        leading: &mut watch::Receiver<Option<LeaderTerm>>,
        bound_to: Option<LeaderTerm>,
    ) -> Result<LeaderTerm, ProposeError> {
        if self.node.is_damaged() {
            return Err(ProposeError::Stopped);
        }
        let now = *leading.borrow_and_update();
        match now {
            Some(tenure)
                if bound_to.is_none_or(|bound| bound == tenure) && !self.handing_over.load(Ordering::SeqCst) =>
            {
                Ok(tenure)
            }
            _ => Err(match &*self.leadership.borrow() {
                Leadership::Follower { term, leader } => {
                    ProposeError::NotLeader { leader: leader.clone(), term: *term }
                }
                Leadership::Leader { term } => ProposeError::NotLeader { leader: None, term: term.term },
                Leadership::Stopped => ProposeError::Stopped,
            }),
        }
    }

    /// Who to ask instead, as openraft knows it.
    fn forward(&self, forward: ForwardToLeader<Raft>) -> (Option<(ReplicaId, PeerAddress)>, u64) {
        let leader = forward.leader_id.map(ReplicaId).zip(forward.leader_node).filter(|(leader, _)| *leader != self.id);
        (leader, self.metrics().current_term)
    }

    /// A copy: holding the borrow would hold up the core.
    fn metrics(&self) -> RaftMetrics<Raft> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Waits for a voter that has the whole log and was heard of lately; of several, the one heard of last.
    async fn caught_up_voter(&self, deadline: Instant) -> Result<ReplicaId, TransferError> {
        let mut changes = self.raft.metrics();
        loop {
            let metrics = changes.borrow_watched().clone();
            if metrics.running_state.is_err() {
                return Err(TransferError::Stopped);
            }
            if !metrics.state.is_leader() {
                return Err(TransferError::NotLeader);
            }
            if let Some(target) = caught_up(&metrics, self.node.options.election_timeout_max) {
                return Ok(target);
            }
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(TransferError::Stopped),
                Err(_) => return Err(TransferError::NoTarget),
            }
        }
    }

    async fn new_leader(&self, deadline: Instant) -> Result<ReplicaId, TransferError> {
        let mut changes = self.raft.server_metrics();
        loop {
            let leader = changes.borrow_watched().current_leader;
            if let Some(leader) = leader.map(ReplicaId).filter(|leader| *leader != self.id) {
                return Ok(leader);
            }
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(TransferError::Stopped),
                Err(_) => {
                    tracing::warn!(group = self.group.0, replica = self.id.0, "leadership was offered and not taken");
                    return Err(TransferError::TimedOut);
                }
            }
        }
    }

    fn membership_error(&self, error: RaftError<Raft, ClientWriteError<Raft>>) -> MembershipError {
        match error {
            RaftError::Fatal(_) => MembershipError::Stopped,
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                let (leader, term) = self.forward(forward);
                MembershipError::NotLeader { leader, term }
            }
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => MembershipError::Unknown,
            RaftError::APIError(ClientWriteError::PreconditionFailed(failed)) => {
                MembershipError::Conflict(failed.to_string())
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(refused)) => match refused {
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                    MembershipError::Conflict(refused.to_string())
                }
                refused => MembershipError::Members(refused.to_string()),
            },
        }
    }
}

/// The voter to hand over to, if any has the whole log.
fn caught_up(metrics: &RaftMetrics<Raft>, heard_within: Duration) -> Option<ReplicaId> {
    let matched = metrics.replication.as_ref()?;
    let heard = metrics.heartbeat.as_ref()?;
    let voters = metrics.membership_config.voter_ids().filter(|voter| *voter != metrics.id);
    let lately = voters.filter_map(|voter| {
        let has_all = matched.get(&voter)?.map(|position| position.index) == metrics.last_log_index;
        let heard_at = heard.get(&voter)?.map(|at| at.into_inner())?;
        (has_all && heard_at.elapsed() < heard_within).then_some((heard_at, voter))
    });
    lately.max().map(|(_, voter)| ReplicaId(voter))
}

struct ResetOnDrop<'a>(&'a AtomicBool);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
