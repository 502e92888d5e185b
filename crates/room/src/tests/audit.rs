//! Checks that hold for the tables of a shard after every entry, whatever was applied.

use std::collections::{BTreeMap, BTreeSet};

use conclave_types::{RoomNumber, RoomUid, SessionId, Slot, Timestamp};

use super::harness::GROUP;
use crate::codec::Record;
use crate::keys::{Due, Keys, QueueNumber, Tag};
use crate::memory::MemoryTables;
use crate::queue::{Acked, InFlight, QueueHeader};
use crate::room::{RoomHeader, RoomState};
use crate::session::{KeptRange, OpenOutcomes, SessionRecord};
use crate::state::ShardHeader;

type QueueId = (RoomUid, QueueNumber);

#[derive(Default)]
struct Seen {
    queues: BTreeMap<QueueId, QueueHeader>,
    items: BTreeSet<(QueueId, u64)>,
    ready: BTreeSet<(QueueId, u64)>,
    in_flight: BTreeMap<(QueueId, u64), InFlight>,
    acked: BTreeMap<(QueueId, u64), Acked>,
    sessions: BTreeMap<(RoomUid, SessionId), SessionRecord>,
    kept: BTreeMap<(RoomUid, SessionId), Vec<KeptRange>>,
    due: BTreeSet<(Timestamp, Vec<u8>)>,
    rooms: BTreeSet<RoomUid>,
    active: BTreeSet<RoomUid>,
    requests: usize,
}

pub(super) fn audit(tables: &MemoryTables) {
    let keys = Keys::new(GROUP);
    let seen = look(tables, &keys);
    let header = ShardHeader::load(tables, &keys).unwrap();
    for (queue, header) in seen.queues.iter().filter(|((room, _), _)| seen.active.contains(room)) {
        audit_queue(&seen, *queue, header);
    }
    for (id, record) in &seen.sessions {
        if seen.active.contains(&id.0) {
            assert_eq!(seen.kept.get(id).unwrap_or(&Vec::new()), &record.kept, "kept outcomes of {id:?}");
        }
        assert!(record.acknowledged <= record.last);
    }
    let is_orphan = |id: &&(RoomUid, SessionId)| seen.active.contains(&id.0) && !seen.sessions.contains_key(*id);
    assert_eq!(seen.kept.keys().find(is_orphan), None, "kept outcomes without a session");

    let mut owned: BTreeSet<(Timestamp, Vec<u8>)> = BTreeSet::new();
    let mut own = |deadline, due: Due| assert!(owned.insert((deadline, keys.due(deadline, &due))));
    for ((room, queue), header) in &seen.queues {
        header.leases_due.into_iter().for_each(|at| own(at, Due::Leases(*room, *queue)));
        header.acked_due.into_iter().for_each(|at| own(at, Due::Acked(*room, *queue)));
    }
    for ((room, session), record) in &seen.sessions {
        own(record.due, Due::Session(*room, *session));
    }
    for entry in &owned {
        let (_, due) = keys.parse_due(&entry.1).unwrap();
        if let Due::Leases(room, _) | Due::Acked(room, _) | Due::Session(room, _) = due {
            // In a room being deleted, due entries may be gone before their records, not the other way round.
            assert!(seen.due.contains(entry) || !seen.active.contains(&room), "nobody looks after {due:?}");
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

fn audit_queue(seen: &Seen, queue: QueueId, header: &QueueHeader) {
    let of_queue = |(id, item): &(QueueId, u64)| (*id == queue).then_some(*item);
    let ready: BTreeSet<u64> = seen.ready.iter().filter_map(of_queue).collect();
    let in_flight: BTreeSet<u64> = seen.in_flight.keys().filter_map(of_queue).collect();
    let acked: BTreeSet<u64> = seen.acked.keys().filter_map(of_queue).collect();
    let items: BTreeSet<u64> = seen.items.iter().filter_map(of_queue).collect();

    assert!(ready.is_disjoint(&in_flight) && items.is_disjoint(&acked));
    assert_eq!(&ready | &in_flight, items, "every item is ready or in flight");
    assert_eq!((header.ready, header.leased), (ready.len() as u64, in_flight.len() as u64));
    assert!(items.iter().chain(&acked).all(|item| (1..=header.last_item).contains(item)));
    assert!(ready.iter().all(|item| *item >= header.ready_from), "ready hint");
    assert!(in_flight.iter().all(|item| *item >= header.leased_from), "leased hint");
    assert!(acked.iter().all(|item| *item >= header.acked_from), "acked hint");
    assert!(acked.is_empty() || header.acked_due.is_some(), "acks that nobody forgets");
    assert!(in_flight.is_empty() || header.leases_due.is_some(), "leases that nobody ends");
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
            4 => {}
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
    let queue = || (room, QueueNumber(u32::from_be_bytes(rest[..4].try_into().unwrap())));
    let item = || (queue(), Keys::parse_item(key).unwrap());
    if tag == Tag::Header as u8 {
        if RoomHeader::decode(value).unwrap().state == RoomState::Active {
            seen.active.insert(room);
        }
    } else if tag == Tag::QueueHeader as u8 {
        seen.queues.insert(queue(), QueueHeader::decode(value).unwrap());
    } else if tag == Tag::Item as u8 {
        seen.items.insert(item());
    } else if tag == Tag::Ready as u8 {
        seen.ready.insert(item());
    } else if tag == Tag::InFlight as u8 {
        seen.in_flight.insert(item(), InFlight::decode(value).unwrap());
    } else if tag == Tag::Acked as u8 {
        seen.acked.insert(item(), Acked::decode(value).unwrap());
    } else if tag == Tag::Session as u8 {
        let id = SessionId(rest.try_into().unwrap());
        seen.sessions.insert((room, id), SessionRecord::decode(value).unwrap());
    } else if tag == Tag::KeptOutcomes as u8 {
        let id = SessionId(rest[..16].try_into().unwrap());
        let outcomes = OpenOutcomes::decode(value).unwrap();
        assert_eq!(rest[16..], outcomes.first().0.to_be_bytes());
        seen.kept.entry((room, id)).or_default().push(outcomes.range());
    }
}
