//! An entry read back is the entry written, agrees with the generated types, and keeps its bytes from release to release.

use std::collections::BTreeMap;

use conclave_room::{Advance, Operation, Origin, Receiver, SessionFrame};
use conclave_types::limits::SLOTS;
use conclave_types::{
    AttachmentNumber, DeliveryId, ParticipantName, ProjectId, QueueName, RoomName, RoomNumber, RoomUid, Sequence,
    SessionId, Slot,
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
    ]
}

fn room_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0..SLOTS, project(), room(), labels(), labels()).prop_map(|(slot, project, room, metadata, annotations)| {
            Operation::CreateRoom { slot: Slot(slot), project, room, metadata, annotations }
        }),
        (uid(), option::of(labels()), option::of(labels()), any::<Option<u64>>()).prop_map(
            |(room, metadata, annotations, expected_etag)| Operation::UpdateRoom {
                room,
                metadata,
                annotations,
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
        (uid(), queue(), any::<bool>(), participant(), vec(payload(), 0..4)).prop_map(
            |(room, queue, create, sender, items)| Operation::SendItems { room, queue, create, sender, items }
        ),
        (uid(), queue(), any::<(bool, bool, u32, u64)>(), "[a-z]{0,9}", receiver()).prop_map(
            |(room, queue, (create, again, max_items, lease_ms), consumer, receiver)| Operation::LeaseItems {
                room,
                queue,
                create,
                max_items,
                lease_ms,
                consumer,
                receiver,
                again
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

fn command() -> impl Strategy<Value = Command> {
    let operation = prop_oneof![room_operation(), queue_operation()];
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
        },
    }
}

/// Bytes of logs that exist: they never change their meaning.
#[test]
fn an_entry_keeps_its_bytes() {
    let commands = [
        send_of(vec![Bytes::from_static(b"\x0a\x02hi")]),
        Command { origin: Origin::Host, operation: Operation::Advance(Advance { limit: 512 }) },
    ];
    let entry = encode_batch(Timestamp(1_700_000_000_000), &commands);
    let hex: String = entry.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "0801",                                           // schema 1
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
        )
    );
}

#[test]
fn payloads_are_slices_of_the_entry() {
    let entry = encode_batch(Timestamp(1), &[send_of(vec![Bytes::from(vec![5; 1_000])])]);
    let (_, commands) = decode_batch(entry.clone()).expect("a batch");
    let Operation::SendItems { items, .. } = &commands[0].operation else { panic!("a send") };
    assert!(entry.as_ptr_range().contains(&items[0].as_ptr()));
}

#[test]
fn an_unknown_schema_is_refused() {
    let batch = wire::Batch { schema: 2, time_ms: 1, commands: vec![wire::Command::default()] };
    let refused = decode_batch(batch.encode_to_vec().into());
    assert_eq!(refused, Err(DecodeBatchError::UnknownSchema { found: 2, known: 1 }));
    assert!(decode_batch(Bytes::new()).is_err());
}

#[test]
fn an_unknown_operation_or_field_is_refused_not_skipped() {
    let command_with = |extra: &[u8]| {
        let mut command = vec![0x0a, 0x00];
        command.extend_from_slice(extra);
        let mut entry = vec![0x08, 0x01, 0x1a, command.len() as u8];
        entry.extend(command);
        decode_batch(entry.into())
    };
    // Operation 18, and an advance with a field 2.
    assert_eq!(
        command_with(&[0x92, 0x01, 0x00]),
        Err(DecodeBatchError::UnknownField { message: "Command", field: 18 })
    );
    assert_eq!(
        command_with(&[0x8a, 0x01, 0x02, 0x10, 0x01]),
        Err(DecodeBatchError::UnknownField { message: "AdvanceOperation", field: 2 })
    );
    assert_eq!(command_with(&[]), Err(DecodeBatchError::Missing { message: "Command", field: "operation" }));
}
