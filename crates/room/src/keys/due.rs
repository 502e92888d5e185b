//! The due index: what waits for time, by deadline.

use conclave_types::{DocumentNumber, RoomNumber, RoomUid, SessionId, Slot, Timestamp};

use super::{CLASS_DUE, Keys, QueueNumber, take};
use crate::TableError;
use crate::codec::damaged;

/// What becomes due. The numbers are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Something of a queue waits for this moment.
    Queue(QueueTimer, RoomUid, QueueNumber),
    /// A session may have expired.
    Session(RoomUid, SessionId),
    /// Data of a deleted room waits to be removed.
    Purge(RoomUid),
    /// Messages of a room may be more or older than it keeps.
    Trim(RoomUid),
    /// Clocks of a deleted document wait to be removed.
    Dropped(RoomUid, DocumentNumber),
    /// A request id may be forgotten; the rest of its key in class 5.
    Request(Vec<u8>),
}

/// What of a queue waits for time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QueueTimer {
    /// Leases may have ended.
    Leases,
    /// Acknowledgements may be forgotten.
    Acked,
    /// Delayed items may be ready.
    Delayed,
    /// Items may have outlived their time.
    Expiry,
    /// Ids of messages may be forgotten.
    Deduplication,
}

impl QueueTimer {
    pub const ALL: [QueueTimer; 5] =
        [QueueTimer::Leases, QueueTimer::Acked, QueueTimer::Delayed, QueueTimer::Expiry, QueueTimer::Deduplication];

    fn kind(self) -> u8 {
        match self {
            QueueTimer::Leases => DUE_LEASES,
            QueueTimer::Acked => DUE_ACKED,
            QueueTimer::Delayed => DUE_DELAYED,
            QueueTimer::Expiry => DUE_EXPIRY,
            QueueTimer::Deduplication => DUE_DEDUPLICATION,
        }
    }
}

const DUE_LEASES: u8 = 1;
const DUE_ACKED: u8 = 2;
const DUE_SESSION: u8 = 3;
const DUE_PURGE: u8 = 4;
const DUE_REQUEST: u8 = 5;
const DUE_TRIM: u8 = 6;
const DUE_DROPPED: u8 = 7;
const DUE_DELAYED: u8 = 8;
const DUE_EXPIRY: u8 = 9;
const DUE_DEDUPLICATION: u8 = 10;

impl Keys {
    pub fn due(&self, deadline: Timestamp, due: &Due) -> Vec<u8> {
        let (kind, room) = match due {
            Due::Queue(timer, room, _) => (timer.kind(), *room),
            Due::Session(room, _) => (DUE_SESSION, *room),
            Due::Purge(room) => (DUE_PURGE, *room),
            Due::Trim(room) => (DUE_TRIM, *room),
            Due::Dropped(room, _) => (DUE_DROPPED, *room),
            Due::Request(_) => (DUE_REQUEST, RoomUid { slot: Slot(0), number: RoomNumber(0) }),
        };
        let mut key = self.due_from(deadline);
        key.extend_from_slice(&room.slot.0.to_be_bytes());
        key.extend_from_slice(&room.number.0.to_be_bytes());
        key.push(kind);
        match due {
            Due::Queue(_, _, queue) => key.extend_from_slice(&queue.0.to_be_bytes()),
            Due::Session(_, session) => key.extend_from_slice(&session.0),
            Due::Dropped(_, document) => key.extend_from_slice(&document.0.to_be_bytes()),
            Due::Purge(_) | Due::Trim(_) => {}
            Due::Request(request) => key.extend_from_slice(request),
        }
        key
    }

    /// Where the due entries of a deadline begin.
    pub fn due_from(&self, deadline: Timestamp) -> Vec<u8> {
        let mut key = self.class(CLASS_DUE, 40);
        key.extend_from_slice(&deadline.0.to_be_bytes());
        key
    }

    pub fn due_end(&self) -> Vec<u8> {
        self.class(CLASS_DUE + 1, 0)
    }

    pub fn parse_due(&self, key: &[u8]) -> Result<(Timestamp, Due), TableError> {
        let broken = || damaged("due index", "key");
        let mut rest = self.strip(key, CLASS_DUE).ok_or_else(broken)?;
        let deadline = Timestamp(u64::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        let slot = Slot(u16::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        let number = RoomNumber(u64::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        let room = RoomUid { slot, number };
        let [kind] = take(&mut rest).ok_or_else(broken)?;
        let due = match kind {
            DUE_SESSION => Due::Session(room, SessionId(take(&mut rest).ok_or_else(broken)?)),
            DUE_PURGE => Due::Purge(room),
            DUE_TRIM => Due::Trim(room),
            DUE_DROPPED => Due::Dropped(room, DocumentNumber(u32::from_be_bytes(take(&mut rest).ok_or_else(broken)?))),
            DUE_REQUEST => Due::Request(std::mem::take(&mut rest).to_vec()),
            kind => {
                let timer = QueueTimer::ALL.into_iter().find(|timer| timer.kind() == kind);
                let timer = timer.ok_or_else(|| damaged("due index", "unknown kind"))?;
                Due::Queue(timer, room, QueueNumber(u32::from_be_bytes(take(&mut rest).ok_or_else(broken)?)))
            }
        };
        if rest.is_empty() { Ok((deadline, due)) } else { Err(broken()) }
    }
}
