//! Checks that hold for the tables of a shard after every entry, whatever was applied.

mod queues;

use std::collections::{BTreeMap, BTreeSet};

use conclave_types::{
    DocumentNumber, DocumentPath, QueueName, Revision, RoomNumber, RoomUid, SessionId, Slot, Timestamp,
};

use super::harness::GROUP;
use crate::codec::Record;
use crate::document::changes::{ChangeRecord, DocumentChanges};
use crate::document::delete::DroppedDocument;
use crate::document::{DocumentClock, DocumentHeader};
use crate::keys::{Due, Keys, QueueNumber, QueueTimer, Tag};
use crate::memory::MemoryTables;
use crate::message::{MessageLog, MessageRecord};
use crate::room::{RoomHeader, RoomState};
use crate::session::{KeptRange, OpenOutcomes, SessionRecord};
use crate::state::ShardHeader;

use queues::QueueTables;

type QueueId = (RoomUid, QueueNumber);

#[derive(Default)]
struct Seen {
    queues: BTreeMap<QueueId, QueueTables>,
    queue_names: BTreeMap<(RoomUid, QueueName), QueueNumber>,
    sessions: BTreeMap<(RoomUid, SessionId), SessionRecord>,
    kept: BTreeMap<(RoomUid, SessionId), Vec<KeptRange>>,
    due: BTreeSet<(Timestamp, Vec<u8>)>,
    rooms: BTreeSet<RoomUid>,
    active: BTreeMap<RoomUid, RoomHeader>,
    documents: BTreeMap<(RoomUid, DocumentNumber), DocumentHeader>,
    paths: BTreeMap<(RoomUid, DocumentPath), DocumentNumber>,
    clocks: BTreeSet<(RoomUid, DocumentNumber)>,
    dropped: BTreeMap<(RoomUid, DocumentNumber), DroppedDocument>,
    changes: BTreeMap<RoomUid, DocumentChanges>,
    changed: BTreeMap<RoomUid, Vec<(Revision, ChangeRecord)>>,
    logs: BTreeMap<RoomUid, MessageLog>,
    messages: BTreeMap<RoomUid, Vec<(Revision, MessageRecord)>>,
    requests: usize,
}

pub(super) fn audit(tables: &MemoryTables) {
    let keys = Keys::new(GROUP);
    let seen = look(tables, &keys);
    let header = ShardHeader::load(tables, &keys).unwrap();
    let seen_clock = header.clock;
    for (queue, tables) in seen.queues.iter().filter(|((room, _), _)| seen.active.contains_key(room)) {
        tables.audit(&keys, *queue, seen_clock);
    }
    for (room, header) in &seen.active {
        audit_queues(&seen, *room, header);
        audit_documents(&seen, *room, header);
        audit_messages(&seen, *room, header, seen_clock);
    }
    for (id, record) in &seen.sessions {
        if seen.active.contains_key(&id.0) {
            assert_eq!(seen.kept.get(id).unwrap_or(&Vec::new()), &record.kept, "kept outcomes of {id:?}");
        }
        assert!(record.acknowledged <= record.last);
    }
    let is_orphan = |id: &&(RoomUid, SessionId)| seen.active.contains_key(&id.0) && !seen.sessions.contains_key(*id);
    assert_eq!(seen.kept.keys().find(is_orphan), None, "kept outcomes without a session");

    let mut owned: BTreeSet<(Timestamp, Vec<u8>)> = BTreeSet::new();
    let mut own = |deadline, due: Due| assert!(owned.insert((deadline, keys.due(deadline, &due))));
    for ((room, queue), tables) in &seen.queues {
        // In a room being deleted, the header may be gone already, and its due entries with it.
        for (timer, at) in tables.header.iter().flat_map(|header| QueueTimer::ALL.into_iter().zip(header.timers)) {
            at.into_iter().for_each(|at| own(at, Due::Queue(timer, *room, *queue)));
        }
    }
    for ((room, session), record) in &seen.sessions {
        own(record.due, Due::Session(*room, *session));
    }
    for ((room, document), dropped) in &seen.dropped {
        own(dropped.due, Due::Dropped(*room, *document));
    }
    for (room, log) in &seen.logs {
        log.due.into_iter().for_each(|at| own(at, Due::Trim(*room)));
    }
    for entry in &owned {
        let (_, due) = keys.parse_due(&entry.1).unwrap();
        if let Due::Queue(_, room, _) | Due::Session(room, _) | Due::Trim(room) | Due::Dropped(room, _) = due {
            // In a room being deleted, due entries may be gone before their records, not the other way round.
            assert!(seen.due.contains(entry) || !seen.active.contains_key(&room), "nobody looks after {due:?}");
        }
    }
    let mut requests = 0;
    for (deadline, key) in &seen.due {
        assert!(*deadline >= header.due_from, "a due entry before the head hint");
        let (_, due) = keys.parse_due(key).unwrap();
        match due {
            Due::Request(_) => requests += 1,
            Due::Purge(room) => assert!(seen.rooms.contains(&room)),
            _ => assert!(owned.contains(&(*deadline, key.clone())), "a due entry without an owner: {due:?}"),
        }
    }
    assert_eq!(requests, seen.requests);
}

/// Each queue has one name, and its number is one of those that the room gave.
fn audit_queues(seen: &Seen, room: RoomUid, header: &RoomHeader) {
    let of_room = |((of, number), tables): (&QueueId, &QueueTables)| {
        (*of == room).then(|| (tables.header.as_ref().map(|header| header.name.clone()).unwrap(), *number))
    };
    let queues: BTreeMap<QueueName, QueueNumber> = seen.queues.iter().filter_map(of_room).collect();
    let names = seen.queue_names.iter().filter(|((of, _), _)| *of == room);
    assert_eq!(queues, names.map(|((_, name), number)| (name.clone(), *number)).collect());
    assert_eq!(queues.values().map(|number| number.0).collect::<BTreeSet<_>>(), (1..=header.queues).collect());
    let headers =
        seen.queues.iter().filter(|((of, _), _)| *of == room).filter_map(|(_, tables)| tables.header.as_ref());
    for queue in headers {
        assert!(queue.revision <= queue.changed && queue.changed <= header.revision, "revisions of {}", queue.name);
    }
}

fn audit_documents(seen: &Seen, room: RoomUid, header: &RoomHeader) {
    let documents: BTreeMap<_, _> = seen
        .documents
        .iter()
        .filter(|((of, _), _)| *of == room)
        .map(|((_, number), header)| (*number, header))
        .collect();
    let paths: BTreeMap<_, _> =
        seen.paths.iter().filter(|((of, _), _)| *of == room).map(|((_, path), number)| (*number, path)).collect();
    assert_eq!(documents.iter().map(|(number, header)| (*number, &header.path)).collect::<BTreeMap<_, _>>(), paths);
    assert_eq!(seen.paths.keys().filter(|(of, _)| *of == room).count(), paths.len(), "one path a document");
    assert_eq!(header.live_documents as usize, documents.len());
    assert!(documents.keys().all(|number| (1..=header.documents).contains(&number.0)));
    assert!(documents.values().all(|document| document.create_revision <= document.revision));
    assert!(documents.values().all(|document| document.revision <= header.revision));
    for clock in seen.clocks.iter().filter(|(of, _)| *of == room) {
        assert!(documents.contains_key(&clock.1) != seen.dropped.contains_key(clock), "clocks of {clock:?}");
    }
    let changes = seen.changes.get(&room).copied().unwrap_or_default();
    let changed = seen.changed.get(&room).map_or(&[][..], |changed| changed);
    assert_eq!(changes.count, changed.len() as u64);
    assert!(changed.iter().all(|(revision, _)| *revision > changes.trimmed_to && *revision <= header.revision));
}

fn audit_messages(seen: &Seen, room: RoomUid, header: &RoomHeader, clock: Timestamp) {
    let log = seen.logs.get(&room).copied().unwrap_or_default();
    let messages = seen.messages.get(&room).map_or(&[][..], |messages| messages);
    let bytes: u64 = messages.iter().map(|(_, record)| record.message.len() as u64).sum();
    assert_eq!((log.count, log.bytes), (messages.len() as u64, bytes));
    assert!(messages.iter().all(|(revision, _)| *revision > log.trimmed_to && *revision <= log.last));
    assert!(log.trimmed_to <= log.last && log.last <= header.revision);
    if let Some((_, oldest)) = messages.first() {
        assert_eq!(log.oldest, oldest.time);
    }
    let is_too_long = log.count > log.retention.max_messages || log.bytes > log.retention.max_bytes;
    let ends = log.retention.max_age_ms.filter(|_| log.count > 0).map(|age| log.oldest.plus_ms(age));
    assert_eq!(log.due.is_some(), is_too_long || ends.is_some(), "a log is due when something exceeds, or will");
    assert!(!is_too_long || log.due <= Some(clock.plus_ms(1_000)), "too long for too long");
}

fn look(tables: &MemoryTables, keys: &Keys) -> Seen {
    let mut seen = Seen::default();
    for (key, value) in tables.dump() {
        match key[2] {
            1 => {
                let (slot, _, _) = keys.parse_directory(&key).unwrap();
                seen.rooms.insert(RoomUid { slot, number: RoomNumber::decode(value).unwrap() });
            }
            2 => look_at_room(&mut seen, keys, &key, value),
            3 => {
                seen.due.insert((keys.parse_due(&key).unwrap().0, key));
            }
            4 | 6 => {}
            5 => seen.requests += 1,
            class => panic!("unknown class {class}"),
        }
    }
    seen
}

fn look_at_room(seen: &mut Seen, keys: &Keys, key: &[u8], value: bytes::Bytes) {
    let room = RoomUid {
        slot: Slot(u16::from_be_bytes(key[3..5].try_into().unwrap())),
        number: RoomNumber(u64::from_be_bytes(key[5..13].try_into().unwrap())),
    };
    let (tag, rest) = keys.parse_room_data(key).unwrap();
    seen.rooms.insert(room);
    if tag == Tag::Header as u8 {
        let header = RoomHeader::decode(value).unwrap();
        if header.state == RoomState::Active {
            seen.active.insert(room, header);
        }
    } else if (0x20..0x30).contains(&tag) {
        look_at_document(seen, keys, room, key, value);
    } else if tag == Tag::MessageLog as u8 {
        seen.logs.insert(room, MessageLog::decode(value).unwrap());
    } else if tag == Tag::Message as u8 {
        let revision = Keys::parse_revision(key).unwrap();
        seen.messages.entry(room).or_default().push((revision, MessageRecord::decode(value).unwrap()));
    } else if tag == Tag::QueueDirectory as u8 {
        let name = keys.parse_queue_name(key).unwrap();
        seen.queue_names.insert((room, name), QueueNumber::decode(value).unwrap());
    } else if tag == Tag::Session as u8 {
        let id = SessionId(rest.try_into().unwrap());
        seen.sessions.insert((room, id), SessionRecord::decode(value).unwrap());
    } else if tag == Tag::KeptOutcomes as u8 {
        let id = SessionId(rest[..16].try_into().unwrap());
        let outcomes = OpenOutcomes::decode(value).unwrap();
        assert_eq!(rest[16..], outcomes.first().0.to_be_bytes());
        seen.kept.entry((room, id)).or_default().push(outcomes.range());
    } else if (0x30..0x40).contains(&tag) {
        let queue = (room, QueueNumber(u32::from_be_bytes(rest[..4].try_into().unwrap())));
        let known = seen.queues.entry(queue).or_default().look_at(keys, queue, key, value);
        assert!(known, "unknown tag {tag}");
    }
}

fn look_at_document(seen: &mut Seen, keys: &Keys, room: RoomUid, key: &[u8], value: bytes::Bytes) {
    let (tag, rest) = keys.parse_room_data(key).unwrap();
    let number = || DocumentNumber(u32::from_be_bytes(rest[..4].try_into().unwrap()));
    if tag == Tag::DocumentHeader as u8 {
        seen.documents.insert((room, number()), DocumentHeader::decode(value).unwrap());
    } else if tag == Tag::DocumentClock as u8 {
        assert!(DocumentClock::decode(value).unwrap().0 > 0);
        seen.clocks.insert((room, number()));
    } else if tag == Tag::DocumentDirectory as u8 {
        let path = keys.parse_document_path(key).unwrap();
        seen.paths.insert((room, path), DocumentNumber::decode(value).unwrap());
    } else if tag == Tag::DocumentChange as u8 {
        let revision = Keys::parse_revision(key).unwrap();
        seen.changed.entry(room).or_default().push((revision, ChangeRecord::decode(value).unwrap()));
    } else if tag == Tag::DocumentChanges as u8 {
        seen.changes.insert(room, DocumentChanges::decode(value).unwrap());
    } else if tag == Tag::DroppedDocument as u8 {
        seen.dropped.insert((room, number()), DroppedDocument::decode(value).unwrap());
    } else {
        panic!("unknown tag {tag}");
    }
}
