//! An entry read back is the entry written, agrees with the generated types, and keeps its bytes from release to release.

mod strategies;

use std::collections::BTreeMap;

use conclave_room::{Advance, MessageRetention, Operation, Origin, SessionFrame};
use conclave_types::{
    AddedClocks, AttachmentNumber, ParticipantName, RequiredClock, RoomNumber, RoomUid, Sequence, SessionId, Slot,
    UpdateClocks, YjsClient,
};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use strategies::command;

use super::*;
use crate::internal::v1 as wire;

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
