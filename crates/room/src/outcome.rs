//! Outcomes and effects: what applying a command returns.
//!
//! An outcome that is kept for repetition holds codes, ids and revisions only, at most 64 bytes encoded; never bodies.
//! Effects are hints for the leader; losing one loses nothing, because a new leader rebuilds from the tables.

use bytes::Bytes;
use conclave_types::{
    AttachmentNumber, DeliveryId, DocumentNumber, DocumentPath, ParticipantName, QueueName, Revision, RoomUid,
    SessionId, Timestamp,
};

use crate::queue::DeadLetter;

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
        /// Of those that are new; if none is, where the first of them already stands (0: not known any more).
        first_item: u64,
        revision: Revision,
        /// Indices of items whose message was sent before; nothing was done with them.
        duplicates: Vec<u32>,
    },
    /// `deliveries` is empty when nothing was ready.
    Leased {
        deliveries: Vec<DeliveredItem>,
        revision: Revision,
    },
    /// Deliveries were acknowledged, given back or extended: one result for each of the command, in its order.
    Settled {
        results: Vec<DeliveryResult>,
        revision: Revision,
    },
    QueueConfigured {
        revision: Revision,
    },
    /// One result for each item of the command, in its order.
    ItemsCancelled {
        results: Vec<CancelResult>,
        revision: Revision,
    },
    ItemsMoved {
        moved: u64,
        /// Ready items that stayed.
        left: u64,
        revision: Revision,
    },
    ItemsPurged {
        purged: u64,
        /// Items that still wait.
        left: u64,
        revision: Revision,
    },
    /// `created` is false when it was there already; the revision is then its last change's.
    DocumentReady {
        document: DocumentNumber,
        created: bool,
        revision: Revision,
    },
    /// The document holds the update: since `revision`, or, if it held it before, at least since then.
    Pushed {
        revision: Revision,
    },
    DocumentRenamed {
        revision: Revision,
    },
    DocumentDeleted {
        revision: Revision,
    },
    Posted {
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
    pub priority: u8,
    pub group: Option<Bytes>,
    pub dead: Option<DeadLetter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The delivery was out, and what the command asks for happened.
    Done,
    /// It was acknowledged before, or stands in the command twice.
    AlreadyDone,
    /// The lease is over, or went to another delivery. Nothing happened.
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelResult {
    Cancelled,
    /// The queue does not hold it, or never did.
    Gone,
    /// A receiver holds it.
    InFlight,
}

/// Why a command had no effect. Fits `error_reason.proto` one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    RoomNotFound,
    RoomExists,
    EtagMismatch,
    QueueNotFound,
    QueueExists,
    QueueLimit,
    /// It takes no sends.
    QueueClosed,
    /// It holds as much as it may.
    QueueFull,
    /// Items cannot go from a queue to itself.
    SameQueue,
    /// The queue never issued this delivery; `index` says which of the command's.
    DeliveryUnknown {
        index: u32,
    },
    DocumentNotFound,
    DocumentExists,
    DocumentLimit,
    /// The update's clocks do not follow the document's.
    NeedSync,
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
    /// This consumer of the queue holds less than it did.
    ConsumerFreed { room: RoomUid, queue: QueueName, consumer: String },
    /// Participants can see a change. Of one entry in order of revision.
    Changed(Change),
    /// The document's stored updates and base are to be removed from this replica.
    DocumentDropped { room: RoomUid, document: DocumentNumber },
    /// A newer attachment took the session over: older streams end.
    SessionAttached { room: RoomUid, session: SessionId, attachment: AttachmentNumber },
    /// The room is gone: its attachments end.
    RoomDeleted { room: RoomUid },
}

/// A change that watchers of a room are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub room: RoomUid,
    pub revision: Revision,
    pub time: Timestamp,
    /// None when nobody in particular did it.
    pub participant: Option<ParticipantName>,
    /// The session that did it, which is not told.
    pub session: Option<SessionId>,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    DocumentCreated {
        document: DocumentNumber,
        path: DocumentPath,
    },
    DocumentUpdated {
        document: DocumentNumber,
        path: DocumentPath,
        update: Bytes,
    },
    DocumentRenamed {
        document: DocumentNumber,
        from: DocumentPath,
        to: DocumentPath,
    },
    DocumentDeleted {
        document: DocumentNumber,
        path: DocumentPath,
    },
    MessagePosted {
        message: Bytes,
    },
    /// The queue's sizes after the entry; one a queue and entry, at the revision of its last change.
    QueueChanged {
        queue: QueueName,
        ready: u64,
        leased: u64,
    },
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
