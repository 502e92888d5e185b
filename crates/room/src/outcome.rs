//! Outcomes and effects: what applying a command returns.
//!
//! An outcome that is kept for repetition holds codes, ids and revisions only, at most 64 bytes encoded; never bodies.
//! Effects are hints for the leader; losing one loses nothing, because a new leader rebuilds from the tables.

use bytes::Bytes;
use conclave_types::{
    AttachmentNumber, DeliveryId, ParticipantName, QueueName, Revision, RoomUid, SessionId, Timestamp,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    RoomCreated {
        room: RoomUid,
        revision: Revision,
    },
    RoomUpdated {
        revision: Revision,
    },
    RoomDeleted {
        revision: Revision,
    },
    Attached {
        attachment: AttachmentNumber,
    },
    /// The session is not known and nothing is lost by beginning a new one.
    SessionUnknown,
    Sent {
        first_item: u64,
        revision: Revision,
    },
    /// `deliveries` is empty when nothing was ready.
    Leased {
        deliveries: Vec<DeliveredItem>,
        revision: Revision,
    },
    /// One result for each delivery of the command, in its order.
    Acked {
        results: Vec<DeliveryResult>,
        revision: Revision,
    },
    /// More is due than the limit allowed.
    Advanced {
        more: bool,
    },
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredItem {
    pub delivery: DeliveryId,
    /// The item as it was sent.
    pub item: Bytes,
    pub sender: ParticipantName,
    pub send_time: Timestamp,
    pub revision: Revision,
    pub deadline: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryResult {
    Acked,
    AlreadyAcked,
    Stale,
}

/// Why a command had no effect. Fits `error_reason.proto` one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    RoomNotFound,
    RoomExists,
    EtagMismatch,
    QueueNotFound,
    QueueLimit,
    /// The queue never issued this delivery; `index` says which of the command's.
    DeliveryUnknown {
        index: u32,
    },
    Superseded,
    SessionExpired,
    /// Another participant or room owns this session.
    SessionForeign,
    /// A repeated sequence whose outcome is not kept: it was refused before the log, or acknowledged long ago.
    NotApplied,
    /// A repetition whose command does not fit the kept outcome (a request id used for something else).
    RequestIdReused,
}

/// What the leader does after the entry is written. Followers drop them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Items of this queue became ready.
    QueueReady { room: RoomUid, queue: QueueName },
    /// A newer attachment took the session over: older streams end.
    SessionAttached { room: RoomUid, session: SessionId, attachment: AttachmentNumber },
    /// The room is gone: its attachments end.
    RoomDeleted { room: RoomUid },
}

/// What one entry did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    pub effects: Vec<Effect>,
    /// The shard's clock after the entry.
    pub clock: Timestamp,
}
