//! The key space of one shard's state.
//!
//! ```text
//! group:u16 0x00 …                                      the Raft façade's own
//! group:u16 0x01 slot:u16 esc(project) esc(room)        room directory      → room number
//! group:u16 0x02 slot:u16 room:u64 tag:u8 …             data of one room    → by tag
//! group:u16 0x03 deadline:u64 slot:u16 room:u64 kind:u8 id…  due index      → empty
//! group:u16 0x04                                        shard header
//! group:u16 0x05 esc(project) esc(participant) esc(id)  request ids         → kept outcome
//! ```
//!
//! Fixed fields are big-endian, so byte order is number order. The group leads, so a snapshot or a destroy is one
//! range; the slot comes next, so that a split moves contiguous ranges. Text comes last and escaped (`00` becomes
//! `00 FF`, the end is `00 00`), so that one name is never a prefix of another's key.
//!
//! One due index for everything that waits for time, instead of one for each feature: the leader's timer then looks at
//! one head. Queues are keyed by a number given at their creation rather than by name, so that the keys of items are
//! short and fixed.

use std::ops::Range;

use conclave_types::{
    GroupId, ParticipantName, ProjectId, QueueName, RoomName, RoomNumber, RoomUid, SessionId, Slot, Timestamp,
};

use crate::TableError;
use crate::codec::damaged;

/// A queue's number inside its room, from 1 in order of creation; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueNumber(pub u32);

const CLASS_DIRECTORY: u8 = 0x01;
const CLASS_ROOM: u8 = 0x02;
const CLASS_DUE: u8 = 0x03;
const CLASS_SHARD: u8 = 0x04;
const CLASS_REQUEST: u8 = 0x05;

/// What a room's key holds. The numbers are stored: a retired one stays listed, so that its bytes are never reused.
/// Kept for features to come: 02 change index, 20–24 documents, 35–39 and 3A delayed items, dedup, dead letters and
/// groups, 40–42 messages, 50–52 key-value, 60 participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    Header = 0x00,
    Labels = 0x01,
    Session = 0x10,
    KeptOutcomes = 0x14,
    QueueHeader = 0x30,
    Item = 0x31,
    Ready = 0x32,
    InFlight = 0x34,
    Acked = 0x3b,
    QueueDirectory = 0x3c,
}

/// Where in its queue's order an item of the default priority stands: 0 would be first of all, so that the nine
/// priorities above the default have room before it.
const PRIORITY_DEFAULT: u8 = 9;

/// What becomes due. The numbers are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Leases of a queue may have ended.
    Leases(RoomUid, QueueNumber),
    /// Acknowledgements of a queue may be forgotten.
    Acked(RoomUid, QueueNumber),
    /// A session may have expired.
    Session(RoomUid, SessionId),
    /// Data of a deleted room waits to be removed.
    Purge(RoomUid),
    /// A request id may be forgotten; the rest of its key in class 5.
    Request(Vec<u8>),
}

const DUE_LEASES: u8 = 1;
const DUE_ACKED: u8 = 2;
const DUE_SESSION: u8 = 3;
const DUE_PURGE: u8 = 4;
const DUE_REQUEST: u8 = 5;

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

    pub fn queue_directory(&self, room: RoomUid, queue: &QueueName) -> Vec<u8> {
        let mut key = self.room(room, Tag::QueueDirectory, 130);
        escape(queue.as_bytes(), &mut key);
        key
    }

    pub fn queue_directory_all(&self, room: RoomUid) -> Range<Vec<u8>> {
        let from = self.room(room, Tag::QueueDirectory, 0);
        let mut to = from.clone();
        to.push(0xff);
        from..to
    }

    fn queue(&self, room: RoomUid, tag: Tag, queue: QueueNumber, capacity: usize) -> Vec<u8> {
        let mut key = self.room(room, tag, 4 + capacity);
        key.extend_from_slice(&queue.0.to_be_bytes());
        key
    }

    pub fn queue_header(&self, room: RoomUid, queue: QueueNumber) -> Vec<u8> {
        self.queue(room, Tag::QueueHeader, queue, 0)
    }

    fn queue_item(&self, room: RoomUid, tag: Tag, queue: QueueNumber, item: u64) -> Vec<u8> {
        let mut key = self.queue(room, tag, queue, 8);
        key.extend_from_slice(&item.to_be_bytes());
        key
    }

    pub fn item(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        self.queue_item(room, Tag::Item, queue, item)
    }

    pub fn in_flight(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        self.queue_item(room, Tag::InFlight, queue, item)
    }

    pub fn acked(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        self.queue_item(room, Tag::Acked, queue, item)
    }

    pub fn ready(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        let mut key = self.queue(room, Tag::Ready, queue, 9);
        key.push(PRIORITY_DEFAULT);
        key.extend_from_slice(&item.to_be_bytes());
        key
    }

    /// Keys of a queue from an item on, made by [`Self::ready`], [`Self::in_flight`] or [`Self::acked`].
    pub fn items_from(first: Vec<u8>) -> Range<Vec<u8>> {
        let mut end = first[..first.len() - 8].to_vec();
        end.extend_from_slice(&[0xff; 9]);
        first..end
    }

    /// The item at the end of a key made by [`Self::ready`], [`Self::in_flight`] or [`Self::acked`].
    pub fn parse_item(key: &[u8]) -> Result<u64, TableError> {
        let item = key.last_chunk::<8>().ok_or_else(|| damaged("queue", "item key"))?;
        Ok(u64::from_be_bytes(*item))
    }

    /// The tag and what follows it, of a key in [`Self::room_data`].
    pub fn parse_room_data<'k>(&self, key: &'k [u8]) -> Result<(u8, &'k [u8]), TableError> {
        match self.strip(key, CLASS_ROOM) {
            Some(rest) if rest.len() > 10 => Ok((rest[10], &rest[11..])),
            _ => Err(damaged("room data", "key")),
        }
    }

    pub fn due(&self, deadline: Timestamp, due: &Due) -> Vec<u8> {
        let (kind, room) = match due {
            Due::Leases(room, _) => (DUE_LEASES, *room),
            Due::Acked(room, _) => (DUE_ACKED, *room),
            Due::Session(room, _) => (DUE_SESSION, *room),
            Due::Purge(room) => (DUE_PURGE, *room),
            Due::Request(_) => (DUE_REQUEST, RoomUid { slot: Slot(0), number: RoomNumber(0) }),
        };
        let mut key = self.due_from(deadline);
        key.extend_from_slice(&room.slot.0.to_be_bytes());
        key.extend_from_slice(&room.number.0.to_be_bytes());
        key.push(kind);
        match due {
            Due::Leases(_, queue) | Due::Acked(_, queue) => key.extend_from_slice(&queue.0.to_be_bytes()),
            Due::Session(_, session) => key.extend_from_slice(&session.0),
            Due::Purge(_) => {}
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
            DUE_LEASES => Due::Leases(room, QueueNumber(u32::from_be_bytes(take(&mut rest).ok_or_else(broken)?))),
            DUE_ACKED => Due::Acked(room, QueueNumber(u32::from_be_bytes(take(&mut rest).ok_or_else(broken)?))),
            DUE_SESSION => Due::Session(room, SessionId(take(&mut rest).ok_or_else(broken)?)),
            DUE_PURGE => Due::Purge(room),
            DUE_REQUEST => Due::Request(std::mem::take(&mut rest).to_vec()),
            _ => return Err(damaged("due index", "unknown kind")),
        };
        if rest.is_empty() { Ok((deadline, due)) } else { Err(broken()) }
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

/// The name in a key of [`Keys::queue_directory_all`].
pub(crate) fn parse_queue_name(keys: &Keys, key: &[u8]) -> Result<QueueName, TableError> {
    let (_, mut rest) = keys.parse_room_data(key)?;
    let queue = unescape(&mut rest).and_then(name);
    queue.filter(|_| rest.is_empty()).ok_or_else(|| damaged("queue directory", "key"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: Keys = Keys { group: GroupId(3) };

    fn uid() -> impl Strategy<Value = RoomUid> {
        (0..16_384u16, any::<u64>()).prop_map(|(slot, number)| RoomUid { slot: Slot(slot), number: RoomNumber(number) })
    }

    fn due() -> impl Strategy<Value = Due> {
        prop_oneof![
            (uid(), any::<u32>()).prop_map(|(room, queue)| Due::Leases(room, QueueNumber(queue))),
            (uid(), any::<u32>()).prop_map(|(room, queue)| Due::Acked(room, QueueNumber(queue))),
            (uid(), any::<[u8; 16]>()).prop_map(|(room, id)| Due::Session(room, SessionId(id))),
            uid().prop_map(Due::Purge),
            any::<Vec<u8>>().prop_map(Due::Request),
        ]
    }

    proptest! {
        #[test]
        fn escaped_text_survives_and_keeps_its_order(a: Vec<u8>, b: Vec<u8>, tail: Vec<u8>) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            escape(&a, &mut left);
            escape(&b, &mut right);
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            left.extend_from_slice(&tail);
            let mut rest = &left[..];
            prop_assert_eq!(unescape(&mut rest), Some(a));
            prop_assert_eq!(rest, &tail[..]);
        }

        #[test]
        fn due_entries_survive_and_sort_by_deadline(a in (any::<u64>(), due()), b in (any::<u64>(), due())) {
            let key = |(deadline, due): &(u64, Due)| KEYS.due(Timestamp(*deadline), due);
            prop_assert_eq!(KEYS.parse_due(&key(&a)).unwrap(), (Timestamp(a.0), a.1.clone()));
            if a.0 != b.0 {
                prop_assert_eq!(key(&a).cmp(&key(&b)), a.0.cmp(&b.0));
            }
            prop_assert!(KEYS.due_from(Timestamp(0)) <= key(&a) && key(&a) < KEYS.due_end());
        }

        #[test]
        fn items_sort_by_number_inside_their_range(room in uid(), queue: u32, a: u64, b: u64) {
            let queue = QueueNumber(queue);
            for make in [Keys::ready, Keys::in_flight, Keys::acked] {
                let (left, right) = (make(&KEYS, room, queue, a), make(&KEYS, room, queue, b));
                prop_assert_eq!(left.cmp(&right), a.cmp(&b));
                prop_assert_eq!(Keys::parse_item(&left).unwrap(), a);
                let range = Keys::items_from(make(&KEYS, room, queue, 0));
                prop_assert!(range.contains(&left));
                prop_assert!(!range.contains(&make(&KEYS, room, QueueNumber(queue.0.wrapping_add(1)), a)));
            }
        }

        #[test]
        fn a_room_holds_its_keys_and_no_others(room in uid(), other in uid(), queue: u32, item: u64, id: [u8; 16]) {
            let (session, queue) = (SessionId(id), QueueNumber(queue));
            let range = KEYS.room_data(room);
            let name: QueueName = "jobs".parse().unwrap();
            let keys = |room| [
                KEYS.room_labels(room), KEYS.session(room, session), KEYS.kept_outcomes(room, session, item),
                KEYS.queue_directory(room, &name), KEYS.queue_header(room, queue), KEYS.item(room, queue, item),
                KEYS.ready(room, queue, item), KEYS.in_flight(room, queue, item), KEYS.acked(room, queue, item),
            ];
            for key in keys(room) {
                prop_assert!(range.contains(&key));
            }
            prop_assert!(!range.contains(&KEYS.room_header(room)));
            for key in keys(other) {
                prop_assert_eq!(range.contains(&key), room == other);
            }
            prop_assert_eq!(parse_queue_name(&KEYS, &KEYS.queue_directory(room, &name)).unwrap(), name.clone());
        }

        #[test]
        fn foreign_keys_never_panic(key: Vec<u8>) {
            let mut with_class = vec![0, 3, 3];
            with_class.extend_from_slice(&key);
            for key in [&key, &with_class] {
                let _ = (KEYS.parse_due(key), KEYS.parse_directory(key), KEYS.parse_room_data(key));
            }
        }
    }

    #[test]
    fn key_bytes_are_as_they_were_first_stored() {
        let room = RoomUid { slot: Slot(0x0102), number: RoomNumber(7) };
        let (project, name) = ("p".parse().unwrap(), "r".parse().unwrap());
        assert_eq!(KEYS.shard(), [0, 3, 4]);
        assert_eq!(KEYS.directory(room.slot, &project, &name), [0, 3, 1, 1, 2, b'p', 0, 0, b'r', 0, 0]);
        assert_eq!(KEYS.parse_directory(&KEYS.directory(room.slot, &project, &name)), Ok((room.slot, project, name)));
        assert_eq!(KEYS.room_header(room), [0, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0]);
        assert_eq!(
            KEYS.ready(room, QueueNumber(5), 6),
            [0, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0x32, 0, 0, 0, 5, 9, 0, 0, 0, 0, 0, 0, 0, 6]
        );
        assert_eq!(
            KEYS.due(Timestamp(8), &Due::Leases(room, QueueNumber(5))),
            [0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 0, 5]
        );
        assert_eq!(KEYS.request(b"x"), [0, 3, 5, b'x']);
    }
}
