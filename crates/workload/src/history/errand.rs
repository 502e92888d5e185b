//! The rarer operations: rooms that come and go, documents that are renamed and deleted, presence, ephemeral messages.
//!
//! They are apart from the load's rooms, which stay; what they say about a room's life has an order of its own.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    pub actor: u32,
    pub invoked: u64,
    /// None as long as nobody answered.
    pub answered: Option<u64>,
    pub call: ErrandCall,
    pub told: ErrandTold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrandCall {
    /// Labels are metadata of the room; each is written once.
    CreateRoom {
        room: u16,
        label: u32,
    },
    GetRoom {
        room: u16,
    },
    /// `expected`: the label that was read with the etag which is the condition.
    UpdateRoom {
        room: u16,
        label: u32,
        expected: Option<u32>,
    },
    DeleteRoom {
        room: u16,
    },
    ListRooms,
    RenameDocument,
    DeleteDocument,
    SendAwareness,
    AttachParticipant,
    DetachParticipant,
    ListParticipants,
    SendEphemeral,
    ReceiveEphemeral,
    WatchParticipants,
    WatchRoom,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrandTold {
    Done,
    /// The room is there, with this label.
    Label(u32),
    /// There is no such room.
    Absent,
    /// There is one already.
    Present,
    /// The room is there and is not as the condition wants it.
    Mismatch,
    Refused(String),
    Unknown(String),
}

impl ErrandCall {
    /// Every kind, as a summary names them.
    pub const KINDS: [&str; 15] = [
        "create room",
        "get another room",
        "update room",
        "delete room",
        "list rooms",
        "rename document",
        "delete document",
        "send awareness",
        "attach participant",
        "detach participant",
        "list participants",
        "send ephemeral",
        "receive ephemeral",
        "watch participants",
        "watch room",
    ];

    pub fn kind(&self) -> &'static str {
        match self {
            ErrandCall::CreateRoom { .. } => "create room",
            ErrandCall::GetRoom { .. } => "get another room",
            ErrandCall::UpdateRoom { .. } => "update room",
            ErrandCall::DeleteRoom { .. } => "delete room",
            ErrandCall::ListRooms => "list rooms",
            ErrandCall::RenameDocument => "rename document",
            ErrandCall::DeleteDocument => "delete document",
            ErrandCall::SendAwareness => "send awareness",
            ErrandCall::AttachParticipant => "attach participant",
            ErrandCall::DetachParticipant => "detach participant",
            ErrandCall::ListParticipants => "list participants",
            ErrandCall::SendEphemeral => "send ephemeral",
            ErrandCall::ReceiveEphemeral => "receive ephemeral",
            ErrandCall::WatchParticipants => "watch participants",
            ErrandCall::WatchRoom => "watch room",
        }
    }
}
