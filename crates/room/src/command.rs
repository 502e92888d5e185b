//! Commands: what is proposed, replicated and applied.
//!
//! A log entry holds a leader's time stamp and a list of commands. Every command is a transaction of its own with one
//! operation: it either takes effect as a whole, or is refused and leaves no trace but the outcome.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_types::limits::{DEFAULT_MAX_LOG_BYTES, DEFAULT_MAX_MESSAGES};
use conclave_types::{
    AttachmentNumber, DeliveryId, DocumentPath, ParticipantName, ProjectId, QueueName, RoomName, RoomUid, Sequence,
    SessionId, Slot, Timestamp, UpdateClocks,
};

use crate::queue::SettingsPatch;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub origin: Origin,
    pub operation: Operation,
}

/// Who proposed a command, which decides how a repetition of it is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The host itself: timers and dispatch. Never repeated blindly.
    Host,
    /// A unary call without a request id: cannot be repeated safely.
    Call { participant: ParticipantName },
    /// A unary call with a request id: the first outcome is kept for 10 minutes per (project, participant, id).
    Request { project: ProjectId, participant: ParticipantName, request_id: Bytes },
    /// A durable frame of a session: applied once, in order, outcome kept until acknowledged.
    Session(SessionFrame),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFrame {
    pub room: RoomUid,
    pub session: SessionId,
    pub attachment: AttachmentNumber,
    pub owner: ParticipantName,
    pub sequence: Sequence,
    /// The client holds every durable reply up to here.
    pub acknowledged: Sequence,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    CreateRoom {
        slot: Slot,
        project: ProjectId,
        room: RoomName,
        metadata: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    },
    /// Replaces what is given; `None` leaves it as it is.
    UpdateRoom {
        room: RoomUid,
        metadata: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        retention: Option<MessageRetention>,
        /// The etag is the revision of the last update.
        expected_etag: Option<u64>,
    },
    DeleteRoom {
        room: RoomUid,
        expected_etag: Option<u64>,
    },
    /// Attaches a client to a session that it resumes. A new session needs no command: its record is made by its first
    /// durable frame.
    AttachSession {
        room: RoomUid,
        session: SessionId,
        owner: ParticipantName,
        /// The attachment number of the presented token.
        presented: AttachmentNumber,
        /// When the presented token was issued, on the applied clock.
        issued: Timestamp,
        /// The client has unacknowledged durable frames: a session that expired cannot be renewed silently.
        unacknowledged: bool,
    },
    SendItems {
        room: RoomUid,
        queue: QueueName,
        create: bool,
        sender: ParticipantName,
        /// Each encoded once at the edge (`NewItem` as the client sent it); never opened here.
        items: Vec<Bytes>,
        /// What the leader read of those that ask for something, by their index.
        options: Vec<(u32, ItemOptions)>,
    },
    /// Leases ready items to a consumer. Proposed by the host for the consumer.
    LeaseItems {
        room: RoomUid,
        queue: QueueName,
        create: bool,
        max_items: u32,
        /// 0 for the queue's.
        lease_ms: u64,
        consumer: String,
        receiver: Receiver,
        /// A receive that is sent again: what `receiver` still holds leased is returned first, with the same attempts.
        again: bool,
        /// At most once: what is delivered is gone.
        take: bool,
        /// Most deliveries that the consumer may hold with these; 0 for no such bound.
        window: u32,
    },
    AckDeliveries {
        room: RoomUid,
        queue: QueueName,
        deliveries: Vec<DeliveryId>,
    },
    /// Gives deliveries back that led to nothing.
    NackDeliveries {
        room: RoomUid,
        queue: QueueName,
        deliveries: Vec<DeliveryId>,
        /// How long the items wait; none for what the queue does with failures.
        delay_ms: Option<u64>,
        /// The items are no use to anybody: dead letters at once.
        reject: bool,
        reason: String,
    },
    /// Lets leases end so long from now.
    ExtendLeases {
        room: RoomUid,
        queue: QueueName,
        deliveries: Vec<DeliveryId>,
        /// 0 for the queue's.
        lease_ms: u64,
    },
    ConfigureQueue {
        room: RoomUid,
        queue: QueueName,
        how: Configure,
        settings: SettingsPatch,
    },
    /// Removes items that nobody holds.
    CancelItems {
        room: RoomUid,
        queue: QueueName,
        items: Vec<u64>,
    },
    /// Moves the first ready items behind the last of another queue.
    MoveItems {
        room: RoomUid,
        queue: QueueName,
        /// None: dead letters, each to where it died.
        to: Option<QueueName>,
        max_items: u32,
    },
    /// Discards items that wait, at most so many.
    PurgeItems {
        room: RoomUid,
        queue: QueueName,
        max_items: u32,
    },
    /// Makes a document that is missing; one that exists is no error.
    CreateDocument {
        room: RoomUid,
        path: DocumentPath,
    },
    /// Appends a checked update if the document's clocks are where it expects them.
    PushUpdate {
        room: RoomUid,
        path: DocumentPath,
        create: bool,
        author: ParticipantName,
        /// As the leader's validator read them; never derived from the bytes here.
        clocks: UpdateClocks,
        update: Bytes,
    },
    RenameDocument {
        room: RoomUid,
        from: DocumentPath,
        to: DocumentPath,
    },
    DeleteDocument {
        room: RoomUid,
        path: DocumentPath,
    },
    /// Posts to the room's log.
    PostMessage {
        room: RoomUid,
        sender: ParticipantName,
        /// `NewMessage` as the client sent it; never opened here.
        message: Bytes,
    },
    /// Does what is due by the applied clock: ends leases, forgets sessions, requests and acks, removes deleted rooms.
    Advance(Advance),
}

impl Operation {
    /// The room it works in; none for one that makes a room, or works on the whole shard.
    pub fn room(&self) -> Option<RoomUid> {
        match self {
            Operation::CreateRoom { .. } | Operation::Advance(_) => None,
            Operation::UpdateRoom { room, .. }
            | Operation::DeleteRoom { room, .. }
            | Operation::AttachSession { room, .. }
            | Operation::SendItems { room, .. }
            | Operation::LeaseItems { room, .. }
            | Operation::AckDeliveries { room, .. }
            | Operation::NackDeliveries { room, .. }
            | Operation::ExtendLeases { room, .. }
            | Operation::ConfigureQueue { room, .. }
            | Operation::CancelItems { room, .. }
            | Operation::MoveItems { room, .. }
            | Operation::PurgeItems { room, .. }
            | Operation::CreateDocument { room, .. }
            | Operation::PushUpdate { room, .. }
            | Operation::RenameDocument { room, .. }
            | Operation::DeleteDocument { room, .. }
            | Operation::PostMessage { room, .. } => Some(*room),
        }
    }

    /// Whether its outcome is kept for repetition. Leases (which have their own memory: the in-flight records),
    /// attaching and timers are not.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Operation::LeaseItems { .. } | Operation::AttachSession { .. } | Operation::Advance(_))
    }
}

/// The receive call that took a lease, so that the same call sent again gets the same deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// A unary call without a request id: cannot be sent again.
    Unnamed,
    /// A receive frame of a session.
    Session { session: SessionId, sequence: Sequence },
    /// A unary call with a request id.
    Request { participant: ParticipantName, request_id: Bytes },
    /// A participant that consumes under the name of its consumer, whatever its stream.
    Consumer { participant: ParticipantName },
}

/// What an item asks for beside being delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemOptions {
    /// 0 to 9, the highest first.
    pub priority: u8,
    pub not_before: NotBefore,
    /// It lives so long, delivered or not.
    pub ttl_ms: Option<u64>,
    /// Items of a group are delivered one after the other.
    pub group: Option<Bytes>,
    /// Known by it, a second send of the same is recognised.
    pub message_id: Option<Bytes>,
}

/// The earliest moment of an item's first delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NotBefore {
    #[default]
    Now,
    /// So many milliseconds after the send.
    After(u64),
    At(Timestamp),
}

/// Whether a queue is made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configure {
    Create,
    Update,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Most records it changes; at least one due entry is handled.
    pub limit: u32,
}

/// How much of a room's log is kept. What exceeds any of these goes, oldest first, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRetention {
    pub max_messages: u64,
    pub max_bytes: u64,
    /// None: whatever their age.
    pub max_age_ms: Option<u64>,
}

impl Default for MessageRetention {
    fn default() -> Self {
        MessageRetention { max_messages: DEFAULT_MAX_MESSAGES, max_bytes: DEFAULT_MAX_LOG_BYTES, max_age_ms: None }
    }
}
