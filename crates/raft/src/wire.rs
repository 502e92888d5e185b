//! openraft's types on the wire and back. What arrives is checked; what leaves cannot be wrong.

use std::collections::BTreeMap;

use conclave_proto::internal::v1 as proto;
use conclave_types::NodeUuid;
use openraft::entry::RaftEntry as _;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use crate::PeerAddress;
use crate::types::{Entry, EntryPayload, LeaderId, LogId, Membership, Payload, Raft, StoredMembership, Vote};

/// Which remote procedure a call is for. Numbers are never reused.
pub(crate) mod kind {
    pub(crate) const APPEND: u32 = 1;
    pub(crate) const VOTE: u32 = 2;
    pub(crate) const PRE_VOTE: u32 = 3;
    pub(crate) const TRANSFER: u32 = 4;
    pub(crate) const SNAPSHOT_PART: u32 = 5;
}

/// A body that a peer of this version cannot have sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("field {0} is not acceptable")]
    Invalid(&'static str),
    #[error("the body cannot be decoded: {0}")]
    Body(#[from] prost::DecodeError),
}

fn required<T>(value: Option<T>, field: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::Missing(field))
}

pub(crate) fn log_id_to_wire(log_id: &LogId) -> proto::RaftLogId {
    proto::RaftLogId { leader: Some(leader_to_wire(&log_id.leader_id)), index: log_id.index }
}

pub(crate) fn log_id_from_wire(log_id: proto::RaftLogId) -> Result<LogId, WireError> {
    Ok(LogId::new(leader_from_wire(required(log_id.leader, "log_id.leader")?), log_id.index))
}

fn leader_to_wire(leader: &LeaderId) -> proto::RaftLeaderId {
    proto::RaftLeaderId { term: leader.term, replica: leader.node_id }
}

fn leader_from_wire(leader: proto::RaftLeaderId) -> LeaderId {
    LeaderId { term: leader.term, node_id: leader.replica }
}

pub(crate) fn vote_to_wire(vote: &Vote) -> proto::RaftVote {
    proto::RaftVote { leader: Some(leader_to_wire(&vote.leader_id)), committed: vote.committed }
}

pub(crate) fn vote_from_wire(vote: Option<proto::RaftVote>) -> Result<Vote, WireError> {
    let vote = required(vote, "vote")?;
    let leader_id = leader_from_wire(required(vote.leader, "vote.leader")?);
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn membership_to_wire(membership: &Membership) -> proto::RaftMembership {
    let configs = membership.get_joint_config().iter();
    let members = membership.nodes().map(|(replica, address)| proto::RaftMember {
        replica: *replica,
        node_uuid: address.node.map(|node| node.0.to_vec()).unwrap_or_default().into(),
        address: address.address.clone(),
    });
    proto::RaftMembership {
        configs: configs.map(|voters| proto::RaftVoters { replicas: voters.iter().copied().collect() }).collect(),
        members: members.collect(),
    }
}

/// An empty membership is what a group has before it is initialized.
pub(crate) fn membership_from_wire(membership: proto::RaftMembership) -> Result<Membership, WireError> {
    let mut nodes = BTreeMap::new();
    for member in membership.members {
        let node = match member.node_uuid.len() {
            0 => None,
            _ => {
                let uuid = member.node_uuid.as_ref().try_into();
                Some(NodeUuid(uuid.map_err(|_| WireError::Invalid("member.node_uuid"))?))
            }
        };
        nodes.insert(member.replica, PeerAddress { node, address: member.address });
    }
    let configs: Vec<_> = membership.configs.into_iter().map(|voters| voters.replicas.into_iter().collect()).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| WireError::Invalid("membership"))
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> proto::RaftStoredMembership {
    proto::RaftStoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(stored: proto::RaftStoredMembership) -> Result<StoredMembership, WireError> {
    let log_id = stored.log_id.map(log_id_from_wire).transpose()?;
    let membership = membership_from_wire(required(stored.membership, "membership")?)?;
    Ok(StoredMembership::new(log_id, membership))
}

fn entry_to_wire(entry: Entry) -> proto::RaftEntry {
    use proto::raft_entry::Payload as Wire;
    proto::RaftEntry {
        log_id: Some(log_id_to_wire(&entry.log_id)),
        payload: match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(payload) => Some(Wire::Normal(payload.0)),
            EntryPayload::Membership(membership) => Some(Wire::Membership(membership_to_wire(&membership))),
        },
    }
}

fn entry_from_wire(entry: proto::RaftEntry) -> Result<Entry, WireError> {
    use proto::raft_entry::Payload as Wire;
    let log_id = log_id_from_wire(required(entry.log_id, "entry.log_id")?)?;
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(Wire::Normal(payload)) => EntryPayload::Normal(Payload(payload)),
        Some(Wire::Membership(membership)) => EntryPayload::Membership(membership_from_wire(membership)?),
    };
    Ok(Entry::new(log_id, payload))
}

pub(crate) fn append_to_wire(request: AppendEntriesRequest<Raft>) -> proto::RaftAppendRequest {
    proto::RaftAppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_wire),
        entries: request.entries.into_iter().map(entry_to_wire).collect(),
        committed: request.leader_commit.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn append_from_wire(request: proto::RaftAppendRequest) -> Result<AppendEntriesRequest<Raft>, WireError> {
    let request = AppendEntriesRequest::<Raft> {
        vote: vote_from_wire(request.vote)?,
        prev_log_id: request.previous.map(log_id_from_wire).transpose()?,
        entries: request.entries.into_iter().map(entry_from_wire).collect::<Result<_, _>>()?,
        leader_commit: request.committed.map(log_id_from_wire).transpose()?,
    };
    let mut next = request.prev_log_id.map_or(0, |previous| previous.index.saturating_add(1));
    for entry in &request.entries {
        if entry.log_id.index != next {
            return Err(WireError::Invalid("entries"));
        }
        next = next.saturating_add(1);
    }
    Ok(request)
}

pub(crate) fn append_response_to_wire(response: AppendEntriesResponse<Raft>) -> proto::RaftAppendResponse {
    use proto::raft_append_response::Outcome;
    let outcome = match response {
        AppendEntriesResponse::Success => Outcome::Appended(proto::RaftAppended {}),
        AppendEntriesResponse::PartialSuccess(last) => {
            Outcome::AppendedPart(proto::RaftAppendedPart { last: last.as_ref().map(log_id_to_wire) })
        }
        AppendEntriesResponse::Conflict => Outcome::Conflict(proto::RaftConflict {}),
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(vote_to_wire(&vote)),
    };
    proto::RaftAppendResponse { outcome: Some(outcome) }
}

pub(crate) fn append_response_from_wire(
    response: proto::RaftAppendResponse,
) -> Result<AppendEntriesResponse<Raft>, WireError> {
    use proto::raft_append_response::Outcome;
    Ok(match required(response.outcome, "outcome")? {
        Outcome::Appended(_) => AppendEntriesResponse::Success,
        Outcome::AppendedPart(part) => {
            AppendEntriesResponse::PartialSuccess(part.last.map(log_id_from_wire).transpose()?)
        }
        Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
        Outcome::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_from_wire(Some(vote))?),
    })
}

pub(crate) fn vote_request_to_wire(request: &VoteRequest<Raft>) -> proto::RaftVoteRequest {
    proto::RaftVoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire(request: proto::RaftVoteRequest) -> Result<VoteRequest<Raft>, WireError> {
    let last = request.last.map(log_id_from_wire).transpose()?;
    let mut vote = VoteRequest::new(vote_from_wire(request.vote)?, last);
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

pub(crate) fn vote_response_to_wire(response: &VoteResponse<Raft>) -> proto::RaftVoteResponse {
    proto::RaftVoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn vote_response_from_wire(response: proto::RaftVoteResponse) -> Result<VoteResponse<Raft>, WireError> {
    let last = response.last.map(log_id_from_wire).transpose()?;
    Ok(VoteResponse::new(vote_from_wire(response.vote)?, last, response.granted))
}

pub(crate) fn transfer_to_wire(request: &TransferLeaderRequest<Raft>) -> proto::RaftTransferRequest {
    proto::RaftTransferRequest {
        from_leader: Some(vote_to_wire(request.from_leader())),
        to_replica: *request.to_node_id(),
        last: request.last_log_id().map(log_id_to_wire),
    }
}

pub(crate) fn transfer_from_wire(
    request: proto::RaftTransferRequest,
) -> Result<TransferLeaderRequest<Raft>, WireError> {
    let last = request.last.map(log_id_from_wire).transpose()?;
    Ok(TransferLeaderRequest::new(vote_from_wire(request.from_leader)?, request.to_replica, last))
}

pub(crate) fn transfer_response_to_wire(response: &TransferLeaderResponse<Raft>) -> proto::RaftTransferResponse {
    use proto::raft_transfer_response::Outcome;
    let outcome = match response {
        Ok(()) => Outcome::Accepted(proto::RaftTransferAccepted {}),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => Outcome::VoteChanged(vote_to_wire(actual)),
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Outcome::LogNotFlushed(proto::RaftLogNotFlushed { actual: actual.as_ref().map(log_id_to_wire) })
        }
    };
    proto::RaftTransferResponse { outcome: Some(outcome) }
}

/// The answer to `request`, which holds what the callee was expected to have.
pub(crate) fn transfer_response_from_wire(
    request: &TransferLeaderRequest<Raft>,
    response: proto::RaftTransferResponse,
) -> Result<TransferLeaderResponse<Raft>, WireError> {
    use proto::raft_transfer_response::Outcome;
    Ok(match required(response.outcome, "outcome")? {
        Outcome::Accepted(_) => Ok(()),
        Outcome::VoteChanged(actual) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote_from_wire(Some(actual))?,
        }),
        Outcome::LogNotFlushed(log) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: log.actual.map(log_id_from_wire).transpose()?,
        }),
    })
}
