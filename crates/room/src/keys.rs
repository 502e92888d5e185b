//! The key space of one shard's state.
//!
//! ```text
//! group:u16 0x00 …                                           the Raft façade's own
//! group:u16 0x01 slot:u16 esc(project) esc(room)             room directory → room number
//! group:u16 0x02 slot:u16 room:u64 tag:u8 …                  data of one room → by tag
//! group:u16 0x03 deadline:u64 slot:u16 room:u64 kind:u8 id…  due index → empty
//! group:u16 0x04                                             shard header
//! group:u16 0x05 esc(project) esc(participant) esc(id)       request ids → kept outcome
//! group:u16 0x06 slot:u16 room:u64 document:u32 kind:u8 …    a document in this replica's own form → by kind
//! ```
//!
//! What follows a room's tag, and the kind of a document's own form:
//!
//! ```text
//! 00  room header                              30  queue header        queue:u32
//! 01  room labels                              31  item                queue:u32 item:u64
//! 10  session             id                   32  ready item          queue:u32 priority:u8 item:u64
//! 14  kept outcomes       id sequence:u64      33  delayed until       queue:u32 item:u64
//! 20  document header     document:u32         34  in-flight item      queue:u32 item:u64
//! 23  document clock      document:u32 client:u64
//! 25  document directory  esc(path)            35  delayed item        queue:u32 due:u64 item:u64
//! 26  document change     revision:u64         36  sent message        queue:u32 esc(message id)
//! 27  document changes                         37  message to forget   queue:u32 time:u64 esc(message id)
//! 28  dropped document    document:u32         38  end of a life       queue:u32 time:u64 item:u64
//!                                              39  item behind others  queue:u32 esc(group) item:u64
//! 40  message log                              3a  group of items      queue:u32 esc(group)
//! 41  message             revision:u64         3b  acked item          queue:u32 item:u64
//!                                              3c  queue directory     esc(queue)
//!                                              3d  consumer            queue:u32 esc(consumer)
//!
//! kind 0  local header    kind 1  base chunk  index:u32    kind 2  update  revision:u64
//! ```
//!
//! Class 06 means the same on every replica without being the same bytes: each replica compacts when it likes. So
//! applying an entry only puts updates there and never reads or deletes; [`crate::local`] does the rest.
//!
//! Fixed fields are big-endian, so byte order is number order. The group leads, so a snapshot or a destroy is one
//! range; the slot comes next, so that a split moves contiguous ranges. Text comes last and escaped (`00` becomes
//! `00 FF`, the end is `00 00`), so that one name is never a prefix of another's key.
//!
//! One due index for everything that waits for time, instead of one for each feature: the leader's timer then looks at
//! one head. Queues are keyed by a number given at their creation rather than by name, so that the keys of items are
//! short and fixed.

mod documents;
mod due;
mod local;
mod messages;
mod queues;

#[cfg(test)]
mod tests;

use std::ops::Range;

use conclave_types::{GroupId, ParticipantName, ProjectId, RoomName, RoomUid, SessionId, Slot};

use crate::TableError;
use crate::codec::damaged;

pub(crate) use due::{Due, QueueTimer};
pub(crate) use queues::QueueNumber;

const CLASS_DIRECTORY: u8 = 0x01;
const CLASS_ROOM: u8 = 0x02;
const CLASS_DUE: u8 = 0x03;
const CLASS_SHARD: u8 = 0x04;
const CLASS_REQUEST: u8 = 0x05;
const CLASS_LOCAL: u8 = 0x06;

/// What a room's key holds. The numbers are stored: a retired one stays listed, so that its bytes are never reused.
/// Kept for features to come: 02 change index, 21, 22 and 24 documents, 42 messages, 50–52 key-value, 60 participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    Header = 0x00,
    Labels = 0x01,
    Session = 0x10,
    KeptOutcomes = 0x14,
    DocumentHeader = 0x20,
    DocumentClock = 0x23,
    DocumentDirectory = 0x25,
    DocumentChange = 0x26,
    DocumentChanges = 0x27,
    DroppedDocument = 0x28,
    QueueHeader = 0x30,
    Item = 0x31,
    Ready = 0x32,
    DelayedUntil = 0x33,
    InFlight = 0x34,
    Delayed = 0x35,
    SentMessage = 0x36,
    ForgetMessage = 0x37,
    Expiry = 0x38,
    Grouped = 0x39,
    ItemGroup = 0x3a,
    Acked = 0x3b,
    QueueDirectory = 0x3c,
    Consumer = 0x3d,
    MessageLog = 0x40,
    Message = 0x41,
}

/// Makes the keys of one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    group: GroupId,
}

impl Keys {
    pub fn new(group: GroupId) -> Self {
        Keys { group }
    }

    fn class(&self, class: u8, capacity: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(3 + capacity);
        key.extend_from_slice(&self.group.0.to_be_bytes());
        key.push(class);
        key
    }

    pub fn shard(&self) -> Vec<u8> {
        self.class(CLASS_SHARD, 0)
    }

    pub fn directory(&self, slot: Slot, project: &ProjectId, room: &RoomName) -> Vec<u8> {
        let mut key = self.directory_project(slot, project);
        escape(room.as_bytes(), &mut key);
        key
    }

    /// Where the rooms of a project in a slot begin.
    pub fn directory_project(&self, slot: Slot, project: &ProjectId) -> Vec<u8> {
        let mut key = self.directory_slot(slot);
        escape(project.as_bytes(), &mut key);
        key
    }

    pub fn directory_slot(&self, slot: Slot) -> Vec<u8> {
        let mut key = self.class(CLASS_DIRECTORY, 2 + 2 * 66);
        key.extend_from_slice(&slot.0.to_be_bytes());
        key
    }

    pub fn directory_end(&self) -> Vec<u8> {
        self.class(CLASS_DIRECTORY + 1, 0)
    }

    pub fn parse_directory(&self, key: &[u8]) -> Result<(Slot, ProjectId, RoomName), TableError> {
        let broken = || damaged("room directory", "key");
        let mut rest = self.strip(key, CLASS_DIRECTORY).ok_or_else(broken)?;
        let slot = Slot(u16::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        let project = unescape(&mut rest).and_then(name).ok_or_else(broken)?;
        let room = unescape(&mut rest).and_then(name).ok_or_else(broken)?;
        if rest.is_empty() { Ok((slot, project, room)) } else { Err(broken()) }
    }

    fn room(&self, room: RoomUid, tag: Tag, capacity: usize) -> Vec<u8> {
        let mut key = self.class(CLASS_ROOM, 11 + capacity);
        key.extend_from_slice(&room.slot.0.to_be_bytes());
        key.extend_from_slice(&room.number.0.to_be_bytes());
        key.push(tag as u8);
        key
    }

    pub fn room_header(&self, room: RoomUid) -> Vec<u8> {
        self.room(room, Tag::Header, 0)
    }

    pub fn room_labels(&self, room: RoomUid) -> Vec<u8> {
        self.room(room, Tag::Labels, 0)
    }

    /// All of a room but its header.
    pub fn room_data(&self, room: RoomUid) -> Range<Vec<u8>> {
        let mut end = self.room(room, Tag::Header, 1);
        end.pop();
        end.push(0xff);
        self.room(room, Tag::Labels, 0)..end
    }

    pub fn session(&self, room: RoomUid, session: SessionId) -> Vec<u8> {
        let mut key = self.room(room, Tag::Session, 16);
        key.extend_from_slice(&session.0);
        key
    }

    /// The outcomes of one entry, by the first sequence among them.
    pub fn kept_outcomes(&self, room: RoomUid, session: SessionId, first: u64) -> Vec<u8> {
        let mut key = self.room(room, Tag::KeptOutcomes, 24);
        key.extend_from_slice(&session.0);
        key.extend_from_slice(&first.to_be_bytes());
        key
    }

    /// Every key of a tag.
    fn all_of(&self, room: RoomUid, tag: Tag) -> Range<Vec<u8>> {
        let from = self.room(room, tag, 0);
        let mut to = from.clone();
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        from..to
    }

    /// The tag and what follows it, of a key in [`Self::room_data`].
    pub fn parse_room_data<'k>(&self, key: &'k [u8]) -> Result<(u8, &'k [u8]), TableError> {
        match self.strip(key, CLASS_ROOM) {
            Some(rest) if rest.len() > 10 => Ok((rest[10], &rest[11..])),
            _ => Err(damaged("room data", "key")),
        }
    }

    /// What identifies a request inside its shard.
    pub fn request_id(project: &ProjectId, participant: &ParticipantName, request_id: &[u8]) -> Vec<u8> {
        let mut id = Vec::with_capacity(project.as_bytes().len() + participant.as_bytes().len() + request_id.len() + 6);
        escape(project.as_bytes(), &mut id);
        escape(participant.as_bytes(), &mut id);
        escape(request_id, &mut id);
        id
    }

    pub fn request(&self, request: &[u8]) -> Vec<u8> {
        let mut key = self.class(CLASS_REQUEST, request.len());
        key.extend_from_slice(request);
        key
    }

    fn strip<'k>(&self, key: &'k [u8], class: u8) -> Option<&'k [u8]> {
        key.strip_prefix(&self.group.0.to_be_bytes())?.strip_prefix(&[class])
    }
}

/// The first key that can follow another: right also behind the last revision there can be.
fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn name<T: std::str::FromStr>(bytes: Vec<u8>) -> Option<T> {
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

fn escape(bytes: &[u8], key: &mut Vec<u8>) {
    for byte in bytes {
        key.push(*byte);
        if *byte == 0 {
            key.push(0xff);
        }
    }
    key.extend_from_slice(&[0, 0]);
}

/// Takes one escaped string off the front; none when it is badly formed.
fn unescape(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match take::<1>(rest)? {
            [0] => match take::<1>(rest)? {
                [0] => return Some(bytes),
                [0xff] => bytes.push(0),
                _ => return None,
            },
            [byte] => bytes.push(byte),
        }
    }
}

/// The text at the end of a room's key.
fn parse_last<T: std::str::FromStr>(keys: &Keys, key: &[u8]) -> Result<Option<T>, TableError> {
    let (_, mut rest) = keys.parse_room_data(key)?;
    let text = unescape(&mut rest).and_then(name);
    Ok(text.filter(|_| rest.is_empty()))
}
