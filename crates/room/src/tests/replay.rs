//! The same commands in the same order leave the same state, however they were divided into entries and batches.
//! What differs by design is left out: the keys of kept outcomes, one an entry, and the list of them; and what a replica
//! holds of documents in its own form, whatever it does with it in between.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_types::{DocumentNumber, Revision, RoomNumber, RoomUid, Sequence, SessionId, Timestamp};
use proptest::prelude::*;

use super::audit::audit;
use super::harness::*;
use super::rooms::set_room;
use crate::codec::Record;
use crate::keys::{Keys, Tag};
use crate::local::{swap_base, sweep};
use crate::memory::MemoryTables;
use crate::session::SessionRecord;
use crate::{
    Batch, Command, ItemOptions, MessageRetention, NotBefore, Operation, Origin, Outcome, Overflow, QueueState,
    Receiver, SettingsPatch, read,
};

fn command() -> impl Strategy<Value = Command> {
    let operation = prop_oneof![
        2 => (0..3u8).prop_map(|name| create_room(["room", "other", "third"][name as usize])),
        1 => room().prop_map(|room| Operation::DeleteRoom { room, expected_etag: None }),
        1 => (room(), prop::option::of(1..4u64)).prop_map(|(room, expected_etag)| Operation::UpdateRoom {
            room,
            metadata: Some([("k".to_owned(), "v".to_owned())].into()),
            annotations: None,
            retention: None,
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
        // A limit that is never met: what a purge counts against it are also kept outcomes, whose keys differ by design.
        2 => Just(advance(10_000)),
        12 => in_a_room(queue_operation()),
        8 => in_a_room(document_operation()),
        4 => in_a_room((0..9usize).prop_map(|bytes| post(&"m".repeat(bytes)))),
        1 => (room(), 0..5u64, prop::option::of(1..3_000u64)).prop_map(|(room, max_messages, max_age_ms)| {
            let retention = Some(MessageRetention { max_messages, max_age_ms, ..MessageRetention::default() });
            Operation::UpdateRoom { room, metadata: None, annotations: None, retention, expected_etag: None }
        }),
    ];
    (operation, origin()).prop_map(|(operation, mut origin)| {
        if let (Origin::Session(frame), Some(room)) = (&mut origin, operation.room()) {
            frame.room = room;
        }
        Command { origin, operation }
    })
}

fn queue_operation() -> impl Strategy<Value = Operation> {
    let of = || prop::collection::vec((1..8u64, 1..3u32), 1..4);
    let options = (0..3u8, 0..3u8, prop::option::of(1..2_000u64), 0..3u8, 0..3u8).prop_map(
        |(priority, delay, ttl_ms, group, message)| ItemOptions {
            priority: priority * 4,
            not_before: if delay == 0 { NotBefore::After(500) } else { NotBefore::Now },
            ttl_ms,
            group: [Some("g".into()), None, None][usize::from(group)].clone(),
            message_id: [Some("m".into()), None, None][usize::from(message)].clone(),
        },
    );
    let patch = (0..3u32, 0..4u64, 1..9u64, any::<bool>(), any::<bool>()).prop_map(
        |(max_attempts, backoff, max_items, drops, is_paused)| SettingsPatch {
            max_attempts: Some(max_attempts),
            backoff_ms: Some(backoff * 100),
            max_items: Some(max_items),
            overflow: Some(if drops { Overflow::DropOldest } else { Overflow::Reject }),
            state: Some(if is_paused { QueueState::Paused } else { QueueState::Active }),
            ..SettingsPatch::default()
        },
    );
    let name = prop::sample::select(vec!["jobs", "jobs", "other", "jobs.dead"]);
    let operation = prop_oneof![
        6 => prop::collection::vec(options, 1..4)
            .prop_map(|options| send_each(&options.into_iter().map(|options| ("body", options)).collect::<Vec<_>>())),
        4 => (1..4u32, prop::sample::select(vec!["a", "b"]), 0..3u32)
            .prop_map(|(most, consumer, window)| lease_for(consumer, most, window)),
        1 => (1..4u32).prop_map(take),
        3 => (of(), prop::option::of(0..500u64)).prop_map(|(of, delay)| nack(&of, delay)),
        3 => of().prop_map(|of| reject(&of)),
        2 => (of(), 1..2_000u64).prop_map(|(of, lease_ms)| extend(&of, lease_ms)),
        2 => (any::<bool>(), patch)
            .prop_map(|(is_new, patch)| if is_new { make(patch) } else { configure(patch) }),
        2 => prop::collection::vec(1..8u64, 1..4).prop_map(|items| cancel(&items)),
        2 => (prop::option::of(Just("other")), 1..4u32).prop_map(|(to, most)| move_items(to, most)),
        1 => (1..4u32).prop_map(purge),
    ];
    (operation, name).prop_map(|(operation, name)| on(name, operation))
}

/// Frames of two sessions that mostly send, one after the other as a client does, with what may come between.
fn sends() -> impl Strategy<Value = Vec<Step>> {
    let bodies = || (1..4usize).prop_map(|count| send(&vec!["body"; count]));
    let patch = (0..9u64, 0..20u64, any::<bool>(), 0..3u8, 0..4u8).prop_map(
        |(max_items, max_bytes, drops, state, retention)| SettingsPatch {
            max_items: Some(max_items + 1),
            max_bytes: Some(max_bytes * 4),
            overflow: Some(if drops { Overflow::DropOldest } else { Overflow::Reject }),
            state: Some([QueueState::Active, QueueState::Paused, QueueState::Closed][usize::from(state)]),
            retention_ms: Some((retention == 0).then_some(500)),
            ..SettingsPatch::default()
        },
    );
    let operation = prop_oneof![
        30 => bodies(),
        3 => bodies().prop_map(|send| on("other", send)),
        2 => Just(send_with(&["body"], || ItemOptions { priority: 9, ..ItemOptions::default() })),
        2 => Just(lease(4)),
        2 => patch.prop_map(configure),
        1 => Just(configure(SettingsPatch { retention_ms: Some(Some(500)), ..SettingsPatch::default() })),
        2 => Just(configure(SettingsPatch { max_items: Some(1_000), max_bytes: Some(0), ..SettingsPatch::default() })),
        1 => bodies().prop_map(|send| in_room(send, RoomUid { slot: SLOT, number: RoomNumber(2) })),
        1 => Just(Operation::DeleteRoom { room: ROOM, expected_etag: None }),
    ];
    let frame = (0..8u8, 0..12u8, 0..12u64, 0..6u64, any::<bool>(), operation);
    prop::collection::vec((frame, any::<bool>(), any::<bool>()), 1..60).prop_map(|frames| {
        let rooms = ["room", "other"].map(|name| (create_room(name).into(), 0, false, false, Local::Nothing));
        let mut last = [0u64; 2];
        let steps = frames.into_iter().map(move |((session, other, step, lag, is_whole, operation), entry, batch)| {
            let session = usize::from(session == 0);
            // Mostly the next one; sometimes one again, or a gap.
            let sequence = if step < 10 { last[session] + 1 } else { (last[session] + 2 * (step - 10)).max(1) };
            last[session] = last[session].max(sequence);
            let attachment = [1, 1, 2][usize::from(other.saturating_sub(9))];
            let mut command = frame_of(attachment, sequence, sequence.saturating_sub(lag), operation);
            if let Origin::Session(frame) = &mut command.origin {
                frame.session = SessionId([session as u8; 16]);
                if other == 1 {
                    frame.owner = "eve".parse().unwrap();
                }
            }
            (command, 0, entry && !is_whole, batch && !is_whole, Local::Nothing)
        });
        rooms.into_iter().chain(steps).collect()
    })
}

fn document_operation() -> impl Strategy<Value = Operation> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        6 => (name(), 1..3u64, 0..4u64, 1..3u64, prop::bool::weighted(0.3))
            .prop_map(|(name, client, from, count, deletes)| {
                push_with(name, clocks(&[(client, from, from + count)], &[], deletes), "update")
            }),
        1 => name().prop_map(create_document),
        1 => (name(), name()).prop_map(|(from, to)| rename_document(from, to)),
        1 => name().prop_map(delete_document),
    ]
}

fn in_a_room(operation: impl Strategy<Value = Operation>) -> impl Strategy<Value = Operation> {
    (operation, room()).prop_map(|(operation, room)| in_room(operation, room))
}

/// What one replica does by itself between two batches.
#[derive(Debug, Clone)]
enum Local {
    Nothing,
    Swap {
        room: RoomUid,
        document: u32,
        back: u64,
    },
    Sweep(usize),
    /// All of it gone: applying never reads it.
    Lose,
}

fn local() -> impl Strategy<Value = Local> {
    prop_oneof![
        2 => Just(Local::Nothing),
        6 => (room(), 1..4u32, 0..3u64).prop_map(|(room, document, back)| Local::Swap { room, document, back }),
        2 => (1..9usize).prop_map(Local::Sweep),
        1 => Just(Local::Lose),
    ]
}

impl Local {
    fn run(&self, tables: &mut MemoryTables) {
        let writes = match *self {
            Local::Nothing => return,
            Local::Swap { room, document, back } => {
                let number = DocumentNumber(document);
                let Some(view) = read::document_by_number(tables, GROUP, room, number).unwrap() else { return };
                let header = read::local_header(tables, GROUP, room, number).unwrap();
                let upto = Revision(view.revision.0.saturating_sub(back));
                let base = vec![1; 70_000 * usize::from(back == 0)];
                swap_base(tables, GROUP, room, number, header.as_ref(), &base, upto).unwrap().unwrap_or_default()
            }
            Local::Sweep(limit) => sweep(tables, GROUP, None, limit).unwrap().0,
            Local::Lose => {
                let all = Keys::new(GROUP).local_all();
                tables.dump().into_keys().filter(|key| all.contains(key)).map(|key| (key, None)).collect()
            }
        };
        tables.write(writes);
    }
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

/// A command, the time that passed before it, where the divided run ends an entry or a batch, and what its replica does
/// by itself after such a batch.
type Step = (Command, u64, bool, bool, Local);

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![6 => Just(0), 3 => 1..1_000u64, 1 => Just(6 * MINUTE)];
    (command(), wait, any::<bool>(), any::<bool>(), local())
}

/// Applies the steps; an entry ends before time passes, and where `ends_entry` says so.
fn run(
    steps: &[Step],
    ends_entry: impl Fn(&Step) -> bool,
    ends_batch: impl Fn(&Step) -> bool,
    acts_alone: bool,
) -> (MemoryTables, Vec<Outcome>) {
    let mut batches: Vec<Vec<(u64, Vec<Command>)>> = vec![vec![(START, Vec::new())]];
    let mut alone = vec![&Local::Nothing];
    let mut now = START;
    for step in steps {
        now += step.1;
        if ends_batch(step) {
            batches.push(Vec::new());
            alone.push(if acts_alone { &step.4 } else { &Local::Nothing });
        }
        let batch = batches.last_mut().unwrap();
        if batch.is_empty() || step.1 > 0 || ends_entry(step) {
            batch.push((now, Vec::new()));
        }
        batch.last_mut().unwrap().1.push(step.0.clone());
    }
    let (mut tables, mut outcomes) = (MemoryTables::default(), Vec::new());
    for (entries, local) in batches.into_iter().zip(alone) {
        let mut batch = Batch::new(GROUP, &tables).unwrap();
        for (time, commands) in entries {
            outcomes.extend(batch.apply(Timestamp(time), commands).unwrap().outcomes);
        }
        let writes = batch.into_writes();
        tables.write(writes);
        audit(&tables);
        local.run(&mut tables);
    }
    (tables, outcomes)
}

fn comparable(tables: &MemoryTables) -> BTreeMap<Vec<u8>, Bytes> {
    let keys = Keys::new(GROUP);
    let tag = |key: &[u8]| keys.parse_room_data(key).map_or(0, |(tag, _)| tag);
    let mut dump = tables.dump();
    dump.retain(|key, _| tag(key) != Tag::KeptOutcomes as u8 && !keys.local_all().contains(key));
    for (key, value) in &mut dump {
        if tag(key) == Tag::Session as u8 {
            let record = SessionRecord::decode(value.clone()).unwrap();
            *value = SessionRecord { kept: Vec::new(), ..record }.encode();
        }
    }
    dump
}

/// Applies the steps as one entry, one by one, and divided as they say; hands out the first and the last state.
fn alike_however_divided(steps: &[Step]) -> Result<(MemoryTables, MemoryTables), TestCaseError> {
    let (whole, outcomes) = run(steps, |_| false, |_| false, false);
    let (single, single_outcomes) = run(steps, |_| true, |_| true, true);
    let (divided, divided_outcomes) = run(steps, |step| step.2, |step| step.3, true);
    prop_assert_eq!(&outcomes, &single_outcomes);
    prop_assert_eq!(&outcomes, &divided_outcomes);
    prop_assert_eq!(comparable(&whole), comparable(&single));
    prop_assert_eq!(comparable(&whole), comparable(&divided));
    Ok((whole, divided))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn division_into_entries_and_batches_changes_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let (whole, divided) = alike_however_divided(&steps)?;
        for number in 1..4 {
            let room = RoomUid { slot: SLOT, number: RoomNumber(number) };
            let documents = |tables| read::list_documents(tables, GROUP, room, None, 9).unwrap();
            prop_assert_eq!(documents(&whole), documents(&divided));
            let queues = |tables| read::list_queues(tables, GROUP, room, None, 9).unwrap();
            prop_assert_eq!(queues(&whole), queues(&divided));
            let log = |tables| read::messages(tables, GROUP, room, Revision(0), 99, usize::MAX).unwrap();
            prop_assert_eq!(log(&whole), log(&divided));
        }
    }

    #[test]
    fn a_run_of_sends_is_what_its_sends_are(steps in sends()) {
        alike_however_divided(&steps)?;
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
