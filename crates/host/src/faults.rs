//! The faults a host answers with. Their form and their codes are `conclave_proto::status`'s; here stands only what
//! needs the host's own words.

use std::time::Duration;

pub use conclave_proto::status::ApiError as Fault;
use conclave_proto::v1::ErrorReason;
use conclave_types::RoomName;
use tonic::Status;
use tracing::error;

use crate::proposer::Unproposed;

/// When the client of an overloaded shard may come again: a few entries later.
const OVERLOADED_RETRY: Duration = Duration::from_millis(100);

pub fn room_not_found(name: &RoomName) -> Fault {
    Fault::new(ErrorReason::RoomNotFound, format!("room {name} does not exist"))
}

pub fn unproposed(unproposed: Unproposed) -> Fault {
    match unproposed {
        Unproposed::NotLeader => Fault::not_leader(None, 0),
        Unproposed::Unknown => Fault::outcome_unknown(),
        Unproposed::Overloaded => Fault::overloaded(OVERLOADED_RETRY),
    }
}

/// The state machine answered with an outcome of another operation: a bug.
pub fn other_outcome(operation: &'static str, outcome: &conclave_room::Outcome) -> Fault {
    error!(operation, ?outcome, "an operation got the outcome of another");
    Fault::internal(operation)
}

pub fn storage() -> Fault {
    Fault::internal("storage")
}

/// What ended the client's side of a stream: a frame over its limit, bytes that are no frame, or a lost connection.
pub fn inbound(status: &Status) -> Fault {
    match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            let limit = conclave_types::limits::MAX_FRAME_BYTES;
            let message = format!("a frame is over its limit of {limit} bytes: {}", status.message());
            let fault = Fault::new(ErrorReason::TooLarge, message).with("field", "frame").with("limit", limit);
            Fault { code: tonic::Code::ResourceExhausted, ..fault }
        }
        _ => Fault::new(ErrorReason::Malformed, format!("the stream cannot be read on: {}", status.message())),
    }
}

/// A fault that says nothing of the request but that this leadership cannot serve it: the stream ends, and the gateway
/// takes the frame elsewhere.
pub fn ends_stream(fault: &Fault) -> bool {
    matches!(
        fault.reason,
        ErrorReason::NotLeader
            | ErrorReason::NoLeader
            | ErrorReason::OutcomeUnknown
            | ErrorReason::StaleEpoch
            | ErrorReason::Draining
            | ErrorReason::Overloaded
            | ErrorReason::Internal
    )
}

/// A stored item that was checked when it was sent can no longer be read: a bug or damage.
pub fn unreadable(reason: &conclave_proto::wire::Malformed) -> Fault {
    error!(%reason, "a stored item cannot be read");
    Fault::internal("item")
}
