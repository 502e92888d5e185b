//! Request ids: a unary call sent again gets the outcome of the first time, for 10 minutes.
//!
//! The outcome is kept with what the request did (kind of operation, slot, room, and the queue's or document's name). The
//! same id on another operation, or on another queue, is refused, instead of answering with an outcome that means something else.

use bytes::Bytes;
use conclave_types::limits::REQUEST_ID_EXPIRY_MS;
use conclave_types::{ParticipantName, ProjectId, RoomUid, Timestamp};

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

/// What an operation does and to what; a stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    kind: u8,
    slot: u64,
    /// 0 for a room that is being created.
    room: u64,
    /// Of the queue or document, or of the room that is being created: items are numbered by queue, so an answer of one
    /// queue would be believed of another. Empty for the room itself.
    name: Bytes,
}

impl Target {
    /// None for operations whose outcome is never kept.
    fn of(operation: &Operation) -> Option<Target> {
        let (kind, room, name): (u8, &RoomUid, &[u8]) = match operation {
            Operation::CreateRoom { slot, room, .. } => {
                let name = Bytes::copy_from_slice(room.as_bytes());
                return Some(Target { kind: 1, slot: slot.0.into(), room: 0, name });
            }
            Operation::UpdateRoom { room, .. } => (2, room, &[]),
            Operation::DeleteRoom { room, .. } => (3, room, &[]),
            Operation::SendItems { room, queue, .. } => (4, room, queue.as_bytes()),
            Operation::AckDeliveries { room, queue, .. } => (5, room, queue.as_bytes()),
            Operation::CreateDocument { room, path } => (6, room, path.as_bytes()),
            Operation::PushUpdate { room, path, .. } => (7, room, path.as_bytes()),
            Operation::RenameDocument { room, from, .. } => (8, room, from.as_bytes()),
            Operation::DeleteDocument { room, path } => (9, room, path.as_bytes()),
            Operation::PostMessage { room, .. } => (10, room, &[]),
            Operation::NackDeliveries { room, queue, .. } => (11, room, queue.as_bytes()),
            Operation::ExtendLeases { room, queue, .. } => (12, room, queue.as_bytes()),
            Operation::ConfigureQueue { room, queue, .. } => (13, room, queue.as_bytes()),
            Operation::CancelItems { room, queue, .. } => (14, room, queue.as_bytes()),
            Operation::MoveItems { room, queue, .. } => (15, room, queue.as_bytes()),
            Operation::PurgeItems { room, queue, .. } => (16, room, queue.as_bytes()),
            Operation::AttachSession { .. } | Operation::LeaseItems { .. } | Operation::Advance(_) => return None,
        };
        let name = Bytes::copy_from_slice(name);
        Some(Target { kind, slot: room.slot.0.into(), room: room.number.0, name })
    }
}

impl Record for KeptRequest {
    const NAME: &'static str = "kept request";
    /// 2: names what the request was about.
    const VERSION: u8 = 2;

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.target.kind);
        writer.varint(self.target.slot);
        writer.varint(self.target.room);
        writer.bytes(&self.target.name);
        writer.rest(&self.outcome);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (kind, slot, room, name) = (reader.u8()?, reader.varint()?, reader.varint()?, reader.bytes()?);
        let target = Target { kind, slot, room, name };
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
        let kept = KeptRequest {
            target: Target { kind: 4, slot: 5, room: 6, name: "q".into() },
            outcome: Bytes::from_static(&[3, 1]),
        };
        assert_eq!(&kept.encode()[..], [2, 4, 5, 6, 1, b'q', 3, 1]);
        assert_eq!(KeptRequest::decode(kept.encode()), Ok(kept));
    }
}
