//! An entry read back is the entry written, agrees with the generated types, and keeps its bytes from release to release.

use std::collections::BTreeMap;

use conclave_room::{
    Advance, Configure, ItemOptions, MessageRetention, NotBefore, Operation, Origin, Overflow, QueueState, Receiver,
    SessionFrame, SettingsPatch,
};
use conclave_types::limits::SLOTS;
use conclave_types::{
    AddedClocks, AttachmentNumber, DeliveryId, DocumentPath, ParticipantName, ProjectId, QueueName, RequiredClock,
    RoomName, RoomNumber, RoomUid, Sequence, SessionId, Slot, UpdateClocks, YjsClient,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::internal::v1 as wire;

fn uid() -> impl Strategy<Value = RoomUid> {
    (0..SLOTS, any::<u64>()).prop_map(|(slot, number)| RoomUid { slot: Slot(slot), number: RoomNumber(number) })
}

fn participant() -> impl Strategy<Value = ParticipantName> {
    "[a-zäß ]{1,20}".prop_map(|text| text.parse().expect("a valid name"))
}

fn queue() -> impl Strategy<Value = QueueName> {
    "[a-z]{1,40}".prop_map(|text| text.parse().expect("a valid name"))
}

fn project() -> impl Strategy<Value = ProjectId> {
    "[a-z]{1,63}".prop_map(|text| text.parse().expect("a valid name"))
}

fn room() -> impl Strategy<Value = RoomName> {
    "[a-z]{1,63}".prop_map(|text| text.parse().expect("a valid name"))
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId)
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..300), vec(any::<u8>(), 16_000..17_000)].prop_map(Bytes::from)
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[a-z]{0,8}", "[a-z]{0,200}", 0..4)
}

fn origin() -> impl Strategy<Value = Origin> {
    let frame =
        (uid(), session(), any::<[u64; 3]>(), participant()).prop_map(|(room, session, numbers, owner)| SessionFrame {
            room,
            session,
            attachment: AttachmentNumber(numbers[0]),
            owner,
            sequence: Sequence(numbers[1]),
            acknowledged: Sequence(numbers[2]),
        });
    prop_oneof![
        Just(Origin::Host),
        participant().prop_map(|participant| Origin::Call { participant }),
        (project(), participant(), vec(any::<u8>(), 0..64)).prop_map(|(project, participant, id)| Origin::Request {
            project,
            participant,
            request_id: id.into()
        }),
        frame.prop_map(Origin::Session),
    ]
}

fn receiver() -> impl Strategy<Value = Receiver> {
    prop_oneof![
        Just(Receiver::Unnamed),
        (session(), any::<u64>())
            .prop_map(|(session, sequence)| Receiver::Session { session, sequence: Sequence(sequence) }),
        (participant(), vec(any::<u8>(), 0..64))
            .prop_map(|(participant, id)| Receiver::Request { participant, request_id: id.into() }),
        participant().prop_map(|participant| Receiver::Consumer { participant }),
    ]
}

fn room_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0..SLOTS, project(), room(), labels(), labels()).prop_map(|(slot, project, room, metadata, annotations)| {
            Operation::CreateRoom { slot: Slot(slot), project, room, metadata, annotations }
        }),
        (uid(), option::of(labels()), option::of(labels()), option::of(retention()), any::<Option<u64>>()).prop_map(
            |(room, metadata, annotations, retention, expected_etag)| Operation::UpdateRoom {
                room,
                metadata,
                annotations,
                retention,
                expected_etag
            }
        ),
        (uid(), any::<Option<u64>>()).prop_map(|(room, expected_etag)| Operation::DeleteRoom { room, expected_etag }),
        (uid(), session(), participant(), any::<[u64; 2]>(), any::<bool>()).prop_map(
            |(room, session, owner, numbers, unacknowledged)| Operation::AttachSession {
                room,
                session,
                owner,
                presented: AttachmentNumber(numbers[0]),
                issued: Timestamp(numbers[1]),
                unacknowledged
            }
        ),
    ]
}

fn queue_operation() -> impl Strategy<Value = Operation> {
    let delivery = any::<(u64, u32)>().prop_map(|(item, attempt)| DeliveryId { item, attempt });
    prop_oneof![
        (uid(), queue(), any::<bool>(), participant(), vec(payload(), 0..4), vec((any::<u32>(), item_options()), 0..3))
            .prop_map(|(room, queue, create, sender, items, options)| Operation::SendItems {
                room,
                queue,
                create,
                sender,
                items,
                options
            }),
        (uid(), queue(), any::<(bool, bool, bool, u32, u32, u64)>(), "[a-z]{0,9}", receiver()).prop_map(
            |(room, queue, (create, again, take, max_items, window, lease_ms), consumer, receiver)| {
                Operation::LeaseItems {
                    room,
                    queue,
                    create,
                    max_items,
                    lease_ms,
                    consumer,
                    receiver,
                    again,
                    take,
                    window,
                }
            }
        ),
        (uid(), queue(), vec(delivery, 0..130)).prop_map(|(room, queue, deliveries)| Operation::AckDeliveries {
            room,
            queue,
            deliveries
        }),
        any::<u32>().prop_map(|limit| Operation::Advance(Advance { limit })),
    ]
}

fn item_options() -> impl Strategy<Value = ItemOptions> {
    let not_before = prop_oneof![
        Just(NotBefore::Now),
        any::<u64>().prop_map(NotBefore::After),
        any::<u64>().prop_map(|ms| NotBefore::At(Timestamp(ms))),
    ];
    let text = || option::of(vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    (0..=9u8, not_before, any::<Option<u64>>(), text(), text()).prop_map(
        |(priority, not_before, ttl_ms, group, message_id)| ItemOptions {
            priority,
            not_before,
            ttl_ms,
            group,
            message_id,
        },
    )
}

fn settings() -> impl Strategy<Value = SettingsPatch> {
    let state = prop::sample::select(vec![QueueState::Active, QueueState::Paused, QueueState::Closed]);
    let overflow = prop::sample::select(vec![Overflow::Reject, Overflow::DropOldest]);
    let numbers = any::<[Option<u64>; 6]>();
    let counts = any::<[Option<u32>; 3]>();
    let retention = option::of(option::of(1..u64::MAX));
    (option::of(state), option::of(overflow), numbers, counts, retention, option::of(option::of(queue()))).prop_map(
        |(state, overflow, numbers, counts, retention_ms, dead_letter_queue)| SettingsPatch {
            state,
            overflow,
            lease_ms: numbers[0],
            backoff_ms: numbers[1],
            max_backoff_ms: numbers[2],
            deduplication_window_ms: numbers[3],
            max_items: numbers[4],
            max_bytes: numbers[5],
            max_attempts: counts[0],
            max_in_flight: counts[1],
            max_in_flight_per_consumer: counts[2],
            retention_ms,
            dead_letter_queue,
        },
    )
}

fn queue_upkeep() -> impl Strategy<Value = Operation> {
    let deliveries = || vec(any::<(u64, u32)>().prop_map(|(item, attempt)| DeliveryId { item, attempt }), 0..9);
    prop_oneof![
        (uid(), queue(), deliveries(), any::<Option<u64>>(), any::<bool>(), "[a-zä]{0,9}").prop_map(
            |(room, queue, deliveries, delay_ms, reject, reason)| Operation::NackDeliveries {
                room,
                queue,
                deliveries,
                delay_ms,
                reject,
                reason
            }
        ),
        (uid(), queue(), deliveries(), any::<u64>()).prop_map(|(room, queue, deliveries, lease_ms)| {
            Operation::ExtendLeases { room, queue, deliveries, lease_ms }
        }),
        (uid(), queue(), any::<bool>(), settings()).prop_map(|(room, queue, create, settings)| {
            let how = if create { Configure::Create } else { Configure::Update };
            Operation::ConfigureQueue { room, queue, how, settings }
        }),
        (uid(), queue(), vec(any::<u64>(), 0..9)).prop_map(|(room, queue, items)| Operation::CancelItems {
            room,
            queue,
            items
        }),
        (uid(), queue(), option::of(queue()), any::<u32>())
            .prop_map(|(room, queue, to, max_items)| Operation::MoveItems { room, queue, to, max_items }),
        (uid(), queue(), any::<u32>()).prop_map(|(room, queue, max_items)| Operation::PurgeItems {
            room,
            queue,
            max_items
        }),
    ]
}

fn retention() -> impl Strategy<Value = MessageRetention> {
    any::<(u64, u64, Option<u64>)>().prop_map(|(max_messages, max_bytes, max_age_ms)| MessageRetention {
        max_messages,
        max_bytes,
        max_age_ms,
    })
}

fn document() -> impl Strategy<Value = DocumentPath> {
    "[a-zä]{1,20}(/[a-z. ]{3,20}){0,3}".prop_map(|text| text.parse().expect("a valid path"))
}

fn clocks() -> impl Strategy<Value = UpdateClocks> {
    let number = || prop_oneof![0..200_u64, any::<u64>()];
    let added = (number(), number(), 1..1_000_u64).prop_map(|(client, from, count)| AddedClocks {
        client: YjsClient(client),
        from,
        to: from.saturating_add(count),
    });
    let required = (number(), number()).prop_map(|(client, clock)| RequiredClock { client: YjsClient(client), clock });
    (vec(added, 0..20), vec(required, 0..20), any::<bool>()).prop_map(|(added, required, deletes)| UpdateClocks {
        added,
        required,
        deletes,
    })
}

fn document_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (uid(), document()).prop_map(|(room, path)| Operation::CreateDocument { room, path }),
        (uid(), document(), any::<bool>(), participant(), clocks(), payload()).prop_map(
            |(room, path, create, author, clocks, update)| Operation::PushUpdate {
                room,
                path,
                create,
                author,
                clocks,
                update
            }
        ),
        (uid(), document(), document()).prop_map(|(room, from, to)| Operation::RenameDocument { room, from, to }),
        (uid(), document()).prop_map(|(room, path)| Operation::DeleteDocument { room, path }),
        (uid(), participant(), payload()).prop_map(|(room, sender, message)| Operation::PostMessage {
            room,
            sender,
            message
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let operation = prop_oneof![room_operation(), queue_operation(), queue_upkeep(), document_operation()];
    (origin(), operation).prop_map(|(origin, operation)| Command { origin, operation })
}

proptest! {
    #[test]
    fn an_entry_read_back_is_the_entry_written(time: u64, commands in vec(command(), 0..6)) {
        let entry = encode_batch(Timestamp(time), &commands);
        prop_assert_eq!(decode_batch(entry), Ok((Timestamp(time), commands)));
    }

    /// Both ways through the generated types: the schema file says what is written, and nothing else is.
    #[test]
    fn an_entry_is_what_the_schema_file_says(time: u64, commands in vec(command(), 0..6)) {
        let entry = encode_batch(Timestamp(time), &commands);
        let generated = wire::Batch::decode(entry.clone()).expect("a batch");
        prop_assert_eq!(generated.commands.len(), commands.len());
        let again = Bytes::from(generated.encode_to_vec());
        prop_assert_eq!(again.len(), entry.len());
        prop_assert_eq!(decode_batch(again), Ok((Timestamp(time), commands)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_batch(bytes.into());
    }

    #[test]
    fn a_cut_or_changed_entry_never_panics(commands in vec(command(), 1..3), at: prop::sample::Index, flip: u8) {
        let mut entry = encode_batch(Timestamp(1), &commands).to_vec();
        let at = at.index(entry.len());
        entry[at] ^= flip;
        let _ = decode_batch(entry.clone().into());
        entry.truncate(at);
        let _ = decode_batch(entry.into());
    }
}

fn send_of(items: Vec<Bytes>) -> Command {
    let owner: ParticipantName = "ada".parse().expect("a valid name");
    let room = RoomUid { slot: Slot(7), number: RoomNumber(300) };
    Command {
        origin: Origin::Session(SessionFrame {
            room,
            session: SessionId([0xab; 16]),
            attachment: AttachmentNumber(1),
            owner: owner.clone(),
            sequence: Sequence(2),
            acknowledged: Sequence(1),
        }),
        operation: Operation::SendItems {
            room,
            queue: "jobs".parse().expect("a valid name"),
            create: true,
            sender: owner,
            items,
            options: vec![],
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(text: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(byte).collect::<Vec<u8>>().into()
}

const TIME: Timestamp = Timestamp(1_700_000_000_000);

fn a_send_and_an_advance() -> Vec<Command> {
    vec![
        send_of(vec![Bytes::from_static(b"\x0a\x02hi")]),
        Command { origin: Origin::Host, operation: Operation::Advance(Advance { limit: 512 }) },
    ]
}

/// An entry of [`a_send_and_an_advance`] without its schema, which is the same in all schemas.
const SEND_AND_ADVANCE: &str = concat!(
    "1080d095ffbc31",                                 // time
    "1a3e",                                           // a command
    "2222",                                           // session origin
    "080710ac021a10abababababababababababababababab", // room, session
    "20012a03616461",                                 // attachment, owner
    "30023801",                                       // sequence, acknowledged
    "7218",                                           // send items
    "080710ac02",                                     // room
    "1a046a6f6273",                                   // queue
    "2001",                                           // create
    "2a03616461",                                     // sender
    "32040a026869",                                   // item
    "1a08",                                           // a command
    "0a00",                                           // host origin
    "8a0103088004",                                   // advance
);

/// Bytes of logs that exist: they never change their meaning.
#[test]
fn an_entry_keeps_its_bytes() {
    assert_eq!(hex(&encode_batch(TIME, &a_send_and_an_advance())), format!("0803{SEND_AND_ADVANCE}"));
}

#[test]
fn an_entry_of_an_earlier_schema_is_still_read() {
    assert_eq!(decode_batch(of_hex(&format!("0802{SEND_AND_ADVANCE}"))), Ok((TIME, a_send_and_an_advance())));
    assert_eq!(decode_batch(of_hex(&format!("0801{SEND_AND_ADVANCE}"))), Ok((TIME, a_send_and_an_advance())));
    // An update of a room as schema 1 wrote it: metadata, and an etag.
    let update = decode_batch(of_hex("080110011a1a0a005a16080710ac021a0c0a0a0a046e616d651202687528bd05"));
    let operation = Operation::UpdateRoom {
        room: RoomUid { slot: Slot(7), number: RoomNumber(300) },
        metadata: Some(BTreeMap::from([("name".into(), "hu".into())])),
        annotations: None,
        retention: None,
        expected_etag: Some(701),
    };
    assert_eq!(update, Ok((Timestamp(1), vec![Command { origin: Origin::Host, operation }])));
}

#[test]
fn operations_of_schema_2_keep_their_bytes() {
    let room = RoomUid { slot: Slot(7), number: RoomNumber(300) };
    let path = || "a/b".parse().expect("a valid path");
    let ada: ParticipantName = "ada".parse().expect("a valid name");
    let clocks = UpdateClocks {
        added: vec![AddedClocks { client: YjsClient(300), from: 3, to: 5 }],
        required: vec![RequiredClock { client: YjsClient(9), clock: 4 }],
        deletes: true,
    };
    let retention = MessageRetention { max_messages: 10, max_bytes: 300, max_age_ms: Some(5) };
    let operations = [
        Operation::CreateDocument { room, path: path() },
        Operation::PushUpdate {
            room,
            path: path(),
            create: true,
            author: ada.clone(),
            clocks,
            update: Bytes::from_static(&[1, 2]),
        },
        Operation::RenameDocument { room, from: path(), to: "c".parse().expect("a valid path") },
        Operation::DeleteDocument { room, path: path() },
        Operation::PostMessage { room, sender: ada, message: Bytes::from_static(&[3]) },
        Operation::UpdateRoom {
            room,
            metadata: None,
            annotations: None,
            retention: Some(retention),
            expected_etag: None,
        },
    ];
    let commands = operations.map(|operation| Command { origin: Origin::Host, operation });
    assert_eq!(
        hex(&encode_batch(Timestamp(1), &commands)),
        concat!(
            "08031001",                                 // schema 3, time
            "1a0f0a0092010a080710ac021a03612f62",       // create a document
            "1a260a009a0121080710ac021a03612f62",       // push an update
            "20012a036164613204ac0203023a0209044001",   // create, author, added, required, deletes
            "4a020102",                                 // update
            "1a120a00a2010d080710ac021a03612f62220163", // rename a document
            "1a0f0a00aa010a080710ac021a03612f62",       // delete a document
            "1a120a00b2010d080710ac021a03616461220103", // post a message
            "1a120a005a0e080710ac023207080a10ac021805", // update a room
        )
    );
}

#[test]
fn schema_1_has_nothing_of_schema_2() {
    // A host's command each: create a document, and an update of a room with its field 6.
    let of_schema = |schema: u8, command: &[u8]| {
        let mut entry = vec![0x08, schema, 0x1a, command.len() as u8];
        entry.extend_from_slice(command);
        decode_batch(entry.into())
    };
    let create = [0x0a, 0, 0x92, 0x01, 0x03, 0x1a, 0x01, b'a'];
    let refused = Err(DecodeBatchError::UnknownField { message: "Command", field: 18 });
    assert!(of_schema(2, &create).is_ok());
    assert_eq!(of_schema(1, &create), refused);
    let update = [0x0a, 0, 0x5a, 0x02, 0x32, 0x00];
    let refused = Err(DecodeBatchError::UnknownField { message: "UpdateRoomOperation", field: 6 });
    assert!(of_schema(2, &update).is_ok());
    assert_eq!(of_schema(1, &update), refused);
}

#[test]
fn clocks_that_are_not_whole_are_refused() {
    // A push of document "a" with the packed list under this field.
    let push_with = |field: u8, list: &[u8]| {
        let mut push = vec![0x1a, 0x01, b'a', 0x2a, 0x01, b'b', field << 3 | 2, list.len() as u8];
        push.extend_from_slice(list);
        let mut entry = vec![0x08, 0x02, 0x1a, push.len() as u8 + 5, 0x0a, 0, 0x9a, 0x01, push.len() as u8];
        entry.extend(push);
        decode_batch(entry.into())
    };
    assert!(push_with(6, &[1, 2, 3]).is_ok());
    assert!(push_with(7, &[1, 2]).is_ok());
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let past_the_end = [&[1][..], &most, &[1]].concat();
    for (field, list) in [(6, &[1, 2][..]), (6, &[1, 2, 3, 4]), (7, &[1]), (6, &[1, 2, 0x80]), (6, &past_the_end)] {
        assert!(matches!(push_with(field, list), Err(DecodeBatchError::Malformed(_))), "{field} {list:?}");
    }
}

#[test]
fn payloads_are_slices_of_the_entry() {
    let entry = encode_batch(Timestamp(1), &[send_of(vec![Bytes::from(vec![5; 1_000])])]);
    let (_, commands) = decode_batch(entry.clone()).expect("a batch");
    let Operation::SendItems { items, .. } = &commands[0].operation else { panic!("a send") };
    assert!(entry.as_ptr_range().contains(&items[0].as_ptr()));

    let push = Operation::PushUpdate {
        room: RoomUid { slot: Slot(7), number: RoomNumber(300) },
        path: "a".parse().expect("a valid path"),
        create: true,
        author: "ada".parse().expect("a valid name"),
        clocks: UpdateClocks::default(),
        update: Bytes::from(vec![5; 1_000]),
    };
    let entry = encode_batch(Timestamp(1), &[Command { origin: Origin::Host, operation: push }]);
    let (_, commands) = decode_batch(entry.clone()).expect("a batch");
    let Operation::PushUpdate { update, .. } = &commands[0].operation else { panic!("a push") };
    assert!(entry.as_ptr_range().contains(&update.as_ptr()));
}

#[test]
fn an_unknown_schema_is_refused() {
    let batch = wire::Batch { schema: 4, time_ms: 1, commands: vec![wire::Command::default()] };
    let refused = decode_batch(batch.encode_to_vec().into());
    assert_eq!(refused, Err(DecodeBatchError::UnknownSchema { found: 4, known: 3 }));
    assert!(decode_batch(Bytes::new()).is_err());
}

#[test]
fn an_unknown_operation_or_field_is_refused_not_skipped() {
    let command_with = |extra: &[u8]| {
        let mut command = vec![0x0a, 0x00];
        command.extend_from_slice(extra);
        let mut entry = vec![0x08, 0x02, 0x1a, command.len() as u8];
        entry.extend(command);
        decode_batch(entry.into())
    };
    // Operations 23 (of schema 3) and 29, and an advance with a field 2.
    assert_eq!(
        command_with(&[0xba, 0x01, 0x00]),
        Err(DecodeBatchError::UnknownField { message: "Command", field: 23 })
    );
    assert_eq!(
        command_with(&[0xea, 0x01, 0x00]),
        Err(DecodeBatchError::UnknownField { message: "Command", field: 29 })
    );
    assert_eq!(
        command_with(&[0x8a, 0x01, 0x02, 0x10, 0x01]),
        Err(DecodeBatchError::UnknownField { message: "AdvanceOperation", field: 2 })
    );
    assert_eq!(command_with(&[]), Err(DecodeBatchError::Missing { message: "Command", field: "operation" }));
}
