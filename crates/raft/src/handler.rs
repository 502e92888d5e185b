//! Answers peers' calls: finds the replica, hands the call to openraft, and bounds what is in work.

use std::sync::Arc;

use bytes::Bytes;
use conclave_proto::internal::v1 as proto;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::AppendEntriesResponse;
use prost::Message;

use crate::group::Replica;
use crate::node::Shared;
use crate::peers::PeerFuture;
use crate::snapshot::incoming::{ReceivedEnd, ReceivedPart, Taken, Transfer};
use crate::types::{Snapshot, SnapshotMeta, Vote};
use crate::wire::{self, WireError, kind};
use crate::{PeerCall, PeerError, PeerHandler};

pub(crate) struct Handler(pub(crate) Arc<Shared>);

impl PeerHandler for Handler {
    fn handle(&self, call: PeerCall) -> PeerFuture {
        let shared = self.0.clone();
        Box::pin(async move {
            // What this node holds cannot be relied on: it is as good as not there.
            if shared.is_damaged() {
                return Err(PeerError::Refused("the store of this node is damaged".into()));
            }
            let replica = shared.replica(call.group).filter(|replica| replica.id == call.to);
            let Some(replica) = replica else {
                return Err(PeerError::Refused(format!("replica {} is not here", call.to.0)));
            };
            match call.kind {
                kind::APPEND => replica.answer_append(call.body).await,
                kind::VOTE => replica.answer_vote(call.body).await,
                kind::PRE_VOTE => replica.answer_pre_vote(call.body).await,
                kind::TRANSFER => replica.answer_transfer(call.body).await,
                kind::SNAPSHOT_PART => replica.answer_snapshot_part(call).await,
                unknown => Err(PeerError::Refused(format!("call of unknown kind {unknown}"))),
            }
        })
    }
}

impl From<WireError> for PeerError {
    fn from(error: WireError) -> Self {
        PeerError::Refused(format!("malformed call: {error}"))
    }
}

fn stopped(error: impl std::fmt::Display) -> PeerError {
    PeerError::Refused(format!("the replica has stopped: {error}"))
}

fn decode<T: Message + Default>(body: Bytes) -> Result<T, WireError> {
    Ok(T::decode(body)?)
}

fn encode(message: impl Message) -> Bytes {
    message.encode_to_vec().into()
}

impl Replica {
    async fn answer_append(&self, body: Bytes) -> Result<Bytes, PeerError> {
        let request = wire::append_from_wire(decode(body)?)?;
        // Heartbeats are small and must come through, or a busy group would lose its leader.
        let _permit = match request.entries.is_empty() {
            true => None,
            false => Some(self.appends.try_acquire().map_err(|_| PeerError::Busy)?),
        };
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        // Who is refused leads nobody here, and must not keep this replica from electing another.
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.heard.leader();
        }
        Ok(encode(wire::append_response_to_wire(response)))
    }

    async fn answer_vote(&self, body: Bytes) -> Result<Bytes, PeerError> {
        let request = wire::vote_request_from_wire(decode(body)?)?;
        let response = self.raft.vote(request).await.map_err(stopped)?;
        Ok(encode(wire::vote_response_to_wire(&response)))
    }

    async fn answer_pre_vote(&self, body: Bytes) -> Result<Bytes, PeerError> {
        let request = wire::vote_request_from_wire(decode(body)?)?;
        let response = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(encode(wire::vote_response_to_wire(&response)))
    }

    async fn answer_transfer(&self, body: Bytes) -> Result<Bytes, PeerError> {
        let request = wire::transfer_from_wire(decode(body)?)?;
        let response = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        Ok(encode(wire::transfer_response_to_wire(&response)))
    }

    async fn answer_snapshot_part(&self, call: PeerCall) -> Result<Bytes, PeerError> {
        use proto::raft_snapshot_response::Outcome;
        let part: proto::RaftSnapshotPart = decode(call.body)?;
        let vote = wire::vote_from_wire(part.vote)?;
        if let Some(higher) = self.higher_vote(&vote) {
            return Ok(snapshot_response(Outcome::Finished(wire::vote_to_wire(&higher))));
        }
        let transfer = Transfer { group: call.group, to: call.to, from: call.from, number: part.transfer };
        let end = part.end.map(end_from_wire).transpose()?;
        let part = ReceivedPart { sequence: part.sequence, pairs: part.pairs, checksum: part.checksum, end };
        let idle_limit = self.node.options.snapshot_part_timeout;
        let taken = self.node.incoming.lock().take(&self.node.engine, transfer, part, idle_limit);
        match taken {
            Taken::Continue => Ok(snapshot_response(Outcome::Continue(proto::RaftSnapshotContinue {}))),
            Taken::Busy => Err(PeerError::Busy),
            Taken::Failed(error) => {
                self.node.queue.fail(error.clone()).await;
                Err(stopped(error))
            }
            Taken::Restart(reason) => {
                tracing::warn!(group = call.group.0, from = call.from.0, reason, "dropped a snapshot under way");
                Ok(snapshot_response(Outcome::Restart(proto::RaftSnapshotRestart { reason: reason.into() })))
            }
            Taken::Complete(meta, snapshot) => {
                let installed = self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await;
                let vote = installed.map_err(stopped)?.vote;
                Ok(snapshot_response(Outcome::Finished(wire::vote_to_wire(&vote))))
            }
        }
    }

    /// The vote of this replica, if it outranks the sender's: then the snapshot would be refused at its end.
    fn higher_vote(&self, vote: &Vote) -> Option<Vote> {
        let known = self.raft.server_metrics().borrow_watched().vote;
        (known > *vote).then_some(known)
    }
}

fn snapshot_response(outcome: proto::raft_snapshot_response::Outcome) -> Bytes {
    encode(proto::RaftSnapshotResponse { outcome: Some(outcome) })
}

fn end_from_wire(end: proto::RaftSnapshotEnd) -> Result<ReceivedEnd, WireError> {
    let membership = end.membership.ok_or(WireError::Missing("end.membership"))?;
    let meta = SnapshotMeta {
        last_log_id: end.last.map(wire::log_id_from_wire).transpose()?,
        last_membership: wire::stored_membership_from_wire(membership)?,
    };
    Ok(ReceivedEnd { meta, hash: end.hash, total_bytes: end.total_bytes })
}
