//! The same commands in the same order leave the same state, however they were divided into entries and batches.
//! What differs by design is left out: the keys of kept outcomes, one an entry, and the list of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_types::{RoomNumber, RoomUid, Sequence, SessionId, Timestamp};
use proptest::prelude::*;

use super::audit::audit;
use super::harness::*;
use super::rooms::set_room;
use crate::codec::Record;
use crate::keys::{Keys, Tag};
use crate::memory::MemoryTables;
use crate::session::SessionRecord;
use crate::{Batch, Command, Operation, Origin, Outcome, Receiver};

fn command() -> impl Strategy<Value = Command> {
    let operation = prop_oneof![
        2 => (0..3u8).prop_map(|name| create_room(["room", "other", "third"][name as usize])),
        1 => room().prop_map(|room| Operation::DeleteRoom { room, expected_etag: None }),
        1 => (room(), prop::option::of(1..4u64)).prop_map(|(room, expected_etag)| Operation::UpdateRoom {
            room,
            metadata: Some([("k".to_owned(), "v".to_owned())].into()),
            annotations: None,
            expected_etag,
        }),
        6 => (room(), 1..4usize).prop_map(|(room, count)| in_room(send(&vec!["body"; count]), room)),
        4 => (room(), 1..4u32, 1..2_000u64, 1..3u64, any::<bool>()).prop_map(|(room, most, lease_ms, sequence, again)| {
            let receiver = Receiver::Session { session: SESSION, sequence: Sequence(sequence) };
            in_room(lease_as(most, receiver, again, lease_ms), room)
        }),
        4 => (room(), prop::collection::vec((1..8u64, 1..3u32), 1..4))
            .prop_map(|(room, deliveries)| in_room(ack(&deliveries), room)),
        1 => (1..3u64, any::<bool>()).prop_map(|(presented, unacknowledged)| attach(presented, START, unacknowledged)),
        2 => Just(advance(10_000)),
    ];
    (operation, origin()).prop_map(|(operation, mut origin)| {
        if let (Origin::Session(frame), Some(room)) = (&mut origin, operation.room()) {
            frame.room = room;
        }
        Command { origin, operation }
    })
}

fn room() -> impl Strategy<Value = RoomUid> {
    (1..4u64).prop_map(|number| RoomUid { slot: SLOT, number: RoomNumber(number) })
}

fn in_room(mut operation: Operation, room: RoomUid) -> Operation {
    set_room(&mut operation, room);
    operation
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        2 => Just(Origin::Host),
        1 => (0..4u8).prop_map(|id| request(&id.to_string(), lease(0)).origin),
        4 => (0..2u8, 1..3u64, 1..30u64, 0..20u64).prop_map(|(session, attachment, sequence, acknowledged)| {
            let mut origin = frame_of(attachment, sequence, acknowledged, lease(0)).origin;
            if let Origin::Session(frame) = &mut origin {
                frame.session = SessionId([session; 16]);
            }
            origin
        }),
    ]
}

/// A command, the time that passed before it, and where the divided run ends an entry or a batch.
type Step = (Command, u64, bool, bool);

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![6 => Just(0), 3 => 1..1_000u64, 1 => Just(6 * MINUTE)];
    (command(), wait, any::<bool>(), any::<bool>())
}

/// Applies the steps; an entry ends before time passes, and where `ends_entry` says so.
fn run(
    steps: &[Step],
    ends_entry: impl Fn(&Step) -> bool,
    ends_batch: impl Fn(&Step) -> bool,
) -> (MemoryTables, Vec<Outcome>) {
    let mut batches: Vec<Vec<(u64, Vec<Command>)>> = vec![vec![(START, Vec::new())]];
    let mut now = START;
    for step in steps {
        now += step.1;
        if ends_batch(step) {
            batches.push(Vec::new());
        }
        let batch = batches.last_mut().unwrap();
        if batch.is_empty() || step.1 > 0 || ends_entry(step) {
            batch.push((now, Vec::new()));
        }
        batch.last_mut().unwrap().1.push(step.0.clone());
    }
    let (mut tables, mut outcomes) = (MemoryTables::default(), Vec::new());
    for entries in batches {
        let mut batch = Batch::new(GROUP, &tables).unwrap();
        for (time, commands) in entries {
            outcomes.extend(batch.apply(Timestamp(time), commands).unwrap().outcomes);
        }
        let writes = batch.into_writes();
        tables.write(writes);
        audit(&tables);
    }
    (tables, outcomes)
}

fn comparable(tables: &MemoryTables) -> BTreeMap<Vec<u8>, Bytes> {
    let keys = Keys::new(GROUP);
    let tag = |key: &[u8]| keys.parse_room_data(key).map_or(0, |(tag, _)| tag);
    let mut dump = tables.dump();
    dump.retain(|key, _| tag(key) != Tag::KeptOutcomes as u8);
    for (key, value) in &mut dump {
        if tag(key) == Tag::Session as u8 {
            let record = SessionRecord::decode(value.clone()).unwrap();
            *value = SessionRecord { kept: Vec::new(), ..record }.encode();
        }
    }
    dump
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn division_into_entries_and_batches_changes_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let (whole, outcomes) = run(&steps, |_| false, |_| false);
        let (single, single_outcomes) = run(&steps, |_| true, |_| true);
        let (divided, divided_outcomes) = run(&steps, |step| step.2, |step| step.3);
        prop_assert_eq!(&outcomes, &single_outcomes);
        prop_assert_eq!(&outcomes, &divided_outcomes);
        prop_assert_eq!(comparable(&whole), comparable(&single));
        prop_assert_eq!(comparable(&whole), comparable(&divided));
    }

    #[test]
    fn a_refused_command_leaves_no_writes(steps in prop::collection::vec(step(), 1..40)) {
        let mut shard = Shard::new();
        for (command, wait, ..) in steps {
            shard.wait(wait);
            shard.entry(Vec::new());
            let before = shard.tables.dump();
            let keeps_records = !matches!(command.origin, Origin::Host);
            if let Outcome::Refused(_) = shard.run(command)
                && !keeps_records
            {
                prop_assert_eq!(shard.tables.dump(), before);
            }
        }
    }
}
