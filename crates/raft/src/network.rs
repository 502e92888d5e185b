//! openraft's calls to peers, over the [`PeerTransport`](crate::PeerTransport) port.
//!
//! Every call has a deadline of its own; openraft does not cut hung ones. Appends to one follower go one after the
//! other: while one is under way the next gathers what was proposed meanwhile. One that only says what is committed waits
//! for the next ([`commit_notice`]).

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conclave_faults::{Bug, planted};
use conclave_proto::internal::v1 as proto;
use conclave_types::{GroupId, ReplicaId};
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use openraft::OptionalSend;
use openraft::RPCTypes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message;

use crate::commit_notice;
use crate::node::Shared;
use crate::snapshot::SnapshotState;
use crate::snapshot::outgoing::{Part, Parts};
use crate::types::{Raft, Snapshot, SnapshotMeta, Vote};
use crate::wire::{self, WireError, kind};
use crate::{Lane, PeerAddress, PeerCall, PeerError};

/// Makes the clients of one replica.
pub(crate) struct Peers {
    pub(crate) node: Arc<Shared>,
    pub(crate) group: GroupId,
    pub(crate) replica: ReplicaId,
}

/// Calls one other replica.
pub(crate) struct Peer {
    node: Arc<Shared>,
    group: GroupId,
    from: ReplicaId,
    to: ReplicaId,
    address: PeerAddress,
    appends: Appends,
}

/// What the appends of a client carry.
#[derive(Clone, Copy)]
enum Appends {
    Entries,
    Heartbeats,
}

impl Peers {
    fn peer(&self, target: u64, address: &PeerAddress, appends: Appends) -> Peer {
        Peer {
            node: self.node.clone(),
            group: self.group,
            from: self.replica,
            to: ReplicaId(target),
            address: address.clone(),
            appends,
        }
    }
}

impl RaftNetworkFactory<Raft> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, address: &PeerAddress) -> Peer {
        self.peer(target, address, Appends::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, address: &PeerAddress) -> Peer {
        self.peer(target, address, Appends::Heartbeats)
    }
}

/// Why a call failed, before openraft's words for it.
#[derive(Debug)]
enum CallError {
    Peer(PeerError),
    Answer(WireError),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Peer(error) => error.fmt(f),
            CallError::Answer(error) => write!(f, "the answer is malformed: {error}"),
        }
    }
}

impl From<WireError> for CallError {
    fn from(error: WireError) -> Self {
        CallError::Answer(error)
    }
}

impl Peer {
    async fn call<A: Message + Default>(
        &self,
        lane: Lane,
        kind: u32,
        body: impl Message,
        deadline: Duration,
    ) -> Result<A, CallError> {
        // Nobody may vote for what this node holds, or append it.
        if self.node.is_damaged() {
            return Err(CallError::Peer(PeerError::Refused("the store of this node is damaged".into())));
        }
        let body = Bytes::from(body.encode_to_vec());
        let call = PeerCall { group: self.group, to: self.to, from: self.from, kind, body };
        let answer = self.node.transport.call(self.address.clone(), lane, call, deadline);
        // The transport keeps the deadline; this is for one that does not.
        let answer = match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer.map_err(CallError::Peer)?,
            Err(_) => return Err(CallError::Peer(PeerError::Timeout(deadline))),
        };
        Ok(A::decode(answer).map_err(WireError::from)?)
    }

    fn rpc_error(&self, action: RPCTypes, error: CallError) -> RPCError<Raft> {
        match error {
            CallError::Peer(PeerError::Timeout(timeout)) => {
                RPCError::Timeout(Timeout { action, id: self.from.0, target: self.to.0, timeout })
            }
            // Backs off: the peer is gone, starting, or knows better than to listen.
            CallError::Peer(PeerError::Unreachable(_) | PeerError::Refused(_)) | CallError::Answer(_) => {
                RPCError::Unreachable(Unreachable::from_string(error))
            }
            CallError::Peer(PeerError::Busy) => RPCError::Network(NetworkError::from_string(error)),
        }
    }

    /// Sends a whole snapshot; returns the vote of the peer that installed or refused it.
    async fn send_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        mut parts: Parts,
    ) -> Result<Vote, StreamingError<Raft>> {
        let network = |reason: String| StreamingError::Network(NetworkError::from_string(reason));
        let Ok(_slot) = self.node.snapshot_sends.acquire().await else {
            return Err(network("the node is stopping".into()));
        };
        let transfer = self.node.next_transfer();
        while let Some(part) = parts.next_part().map_err(|error| network(error.to_string()))? {
            let deadline = match part.end {
                // The peer installs before it answers.
                Some(_) => self.node.options.snapshot_timeout,
                None => self.node.options.snapshot_part_timeout,
            };
            // The first part asks whether the peer takes any: while it is busy that is often in vain.
            if part.sequence > 0 {
                self.node.snapshot_pace.take(part.pairs.len()).await;
            }
            let part = part_to_wire(part, vote, transfer, &meta);
            let answer = self.call(Lane::Snapshot, kind::SNAPSHOT_PART, part, deadline).await;
            let answer: proto::RaftSnapshotResponse =
                answer.map_err(|error| StreamingError::from(self.rpc_error(RPCTypes::InstallSnapshot, error)))?;
            use proto::raft_snapshot_response::Outcome;
            match answer.outcome {
                Some(Outcome::Continue(_)) => {}
                Some(Outcome::Finished(vote)) => {
                    return wire::vote_from_wire(Some(vote)).map_err(|error| network(error.to_string()));
                }
                Some(Outcome::Restart(restart)) => return Err(network(restart.reason)),
                None => return Err(network("the answer is empty".into())),
            }
        }
        Err(network("the peer never finished".into()))
    }
}

fn part_to_wire(part: Part, vote: Vote, transfer: u64, meta: &SnapshotMeta) -> proto::RaftSnapshotPart {
    proto::RaftSnapshotPart {
        vote: Some(wire::vote_to_wire(&vote)),
        transfer,
        sequence: part.sequence,
        pairs: part.pairs,
        checksum: part.checksum,
        end: part.end.map(|(hash, total_bytes)| proto::RaftSnapshotEnd {
            last: meta.last_log_id.as_ref().map(wire::log_id_to_wire),
            membership: Some(wire::stored_membership_to_wire(&meta.last_membership)),
            hash,
            total_bytes,
        }),
    }
}

impl RaftNetworkV2<Raft> for Peer {
    type SnapshotData = SnapshotState;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Raft>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Raft>, RPCError<Raft>> {
        let (lane, deadline) = match self.appends {
            // A heartbeat's time to live is one interval, and openraft cuts it there.
            Appends::Heartbeats => (Lane::Control, option.hard_ttl()),
            Appends::Entries => (Lane::Data, self.node.options.append_timeout),
        };
        let answer = self.call(lane, kind::APPEND, wire::append_to_wire(request), deadline).await;
        let answer = answer.and_then(|answer| Ok(wire::append_response_from_wire(answer)?));
        match (answer, self.appends) {
            (Err(_), Appends::Entries) if planted(Bug::AcknowledgeBeforeQuorum) => Ok(AppendEntriesResponse::Success),
            (answer, _) => answer.map_err(|error| self.rpc_error(RPCTypes::AppendEntries, error)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Raft>, RPCError<Raft>>>, RPCError<Raft>>>
    where
        S: Stream<Item = AppendEntriesRequest<Raft>> + OptionalSend + Unpin + 'static,
    {
        stream_append_sequential(self, commit_notice::sparing(requests), option)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Raft>,
        option: RPCOption,
    ) -> Result<VoteResponse<Raft>, RPCError<Raft>> {
        self.ask_vote(kind::VOTE, request, option).await
    }

    /// An unreachable peer is an error, never a grant: else an isolated replica would elect itself in vain for ever.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Raft>,
        option: RPCOption,
    ) -> Result<VoteResponse<Raft>, RPCError<Raft>> {
        self.ask_vote(kind::PRE_VOTE, request, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Raft>, StreamingError<Raft>> {
        let SnapshotState::Pinned { group, view } = snapshot.snapshot else {
            let reason = "only this node's own state can be sent";
            return Err(StreamingError::Network(NetworkError::from_string(reason)));
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot.meta, Parts::new(view, group)) => sent.map(SnapshotResponse::new),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Raft>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Raft>, RPCError<Raft>> {
        let body = wire::transfer_to_wire(&request);
        let answer = self.call(Lane::Control, kind::TRANSFER, body, option.hard_ttl()).await;
        let answer = answer.and_then(|answer| Ok(wire::transfer_response_from_wire(&request, answer)?));
        answer.map_err(|error| self.rpc_error(RPCTypes::TransferLeader, error))
    }
}

impl Peer {
    async fn ask_vote(
        &self,
        kind: u32,
        request: VoteRequest<Raft>,
        option: RPCOption,
    ) -> Result<VoteResponse<Raft>, RPCError<Raft>> {
        let body = wire::vote_request_to_wire(&request);
        let answer = self.call(Lane::Control, kind, body, option.hard_ttl()).await;
        let answer = answer.and_then(|answer| Ok(wire::vote_response_from_wire(answer)?));
        answer.map_err(|error| self.rpc_error(RPCTypes::Vote, error))
    }
}

/// Numbers a node's transfers, so that a receiver tells them apart.
#[derive(Debug, Default)]
pub(crate) struct TransferNumbers(AtomicU64);

impl TransferNumbers {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
