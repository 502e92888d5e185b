//! Request ids: a unary call sent again gets the outcome of the first time, for 10 minutes.
//!
//! The outcome is kept with what the request did (kind of operation, slot, room). The same id on another operation is
//! refused, instead of answering with an outcome that means something else.

use bytes::Bytes;
use conclave_types::limits::REQUEST_ID_EXPIRY_MS;
use conclave_types::{ParticipantName, ProjectId, Timestamp};

use crate::advance::Budget;
use crate::apply::transact;
use crate::codec::{Reader, Record, Writer};
use crate::keys::{Due, Keys};
use crate::session::kept;
use crate::state::{State, load};
use crate::{Operation, Outcome, Refusal, TableError, Tables};

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeptRequest {
    target: Target,
    outcome: Bytes,
}

/// What an operation does and where; a stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    kind: u8,
    slot: u64,
    /// 0 for a room that is being created.
    room: u64,
}

impl Target {
    /// None for operations whose outcome is never kept.
    fn of(operation: &Operation) -> Option<Target> {
        let (kind, room) = match operation {
            Operation::CreateRoom { slot, .. } => return Some(Target { kind: 1, slot: slot.0.into(), room: 0 }),
            Operation::UpdateRoom { room, .. } => (2, room),
            Operation::DeleteRoom { room, .. } => (3, room),
            Operation::SendItems { room, .. } => (4, room),
            Operation::AckDeliveries { room, .. } => (5, room),
            Operation::CreateDocument { room, .. } => (6, room),
            Operation::PushUpdate { room, .. } => (7, room),
            Operation::RenameDocument { room, .. } => (8, room),
            Operation::DeleteDocument { room, .. } => (9, room),
            Operation::PostMessage { room, .. } => (10, room),
            Operation::NackDeliveries { room, .. } => (11, room),
            Operation::ExtendLeases { room, .. } => (12, room),
            Operation::ConfigureQueue { room, .. } => (13, room),
            Operation::CancelItems { room, .. } => (14, room),
            Operation::MoveItems { room, .. } => (15, room),
            Operation::PurgeItems { room, .. } => (16, room),
            Operation::AttachSession { .. } | Operation::LeaseItems { .. } | Operation::Advance(_) => return None,
        };
        Some(Target { kind, slot: room.slot.0.into(), room: room.number.0 })
    }
}

impl Record for KeptRequest {
    const NAME: &'static str = "kept request";

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.target.kind);
        writer.varint(self.target.slot);
        writer.varint(self.target.room);
        writer.rest(&self.outcome);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let target = Target { kind: reader.u8()?, slot: reader.varint()?, room: reader.varint()? };
        Ok(KeptRequest { target, outcome: reader.rest() })
    }
}

pub(crate) fn run(
    state: &mut State<'_>,
    project: &ProjectId,
    participant: &ParticipantName,
    request_id: &[u8],
    operation: Operation,
) -> Result<Outcome, TableError> {
    let Some(target) = Target::of(&operation) else { return transact(state, operation) };
    let id = Keys::request_id(project, participant, request_id);
    let key = state.keys.request(&id);
    if let Some(kept) = load::<KeptRequest>(&state.overlay, &key)? {
        return if kept.target == target {
            kept::decode(kept.outcome)
        } else {
            Ok(Outcome::Refused(Refusal::RequestIdReused))
        };
    }
    let outcome = transact(state, operation)?;
    state.overlay.put(key, KeptRequest { target, outcome: kept::encode(&outcome)? }.encode());
    state.schedule(state.clock().plus_ms(REQUEST_ID_EXPIRY_MS), &Due::Request(id));
    Ok(outcome)
}

/// Forgets a request whose time is over.
pub(crate) fn forget(state: &mut State<'_>, deadline: Timestamp, id: Vec<u8>, budget: &mut Budget) {
    budget.spend(1);
    state.overlay.delete(state.keys.request(&id));
    state.unschedule(deadline, &Due::Request(id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let kept = KeptRequest { target: Target { kind: 4, slot: 5, room: 6 }, outcome: Bytes::from_static(&[3, 1]) };
        assert_eq!(&kept.encode()[..], [1, 4, 5, 6, 3, 1]);
        assert_eq!(KeptRequest::decode(kept.encode()), Ok(kept));
    }
}
