use conclave_types::{DocumentNumber, DocumentPath, QueueName, Revision, RoomNumber, Timestamp, YjsClient};
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
        uid().prop_map(Due::Trim),
        (uid(), any::<u32>()).prop_map(|(room, number)| Due::Dropped(room, DocumentNumber(number))),
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
        let (document, client, revision) = (DocumentNumber(queue.0), YjsClient(item), Revision(item));
        let path: DocumentPath = "a/b".parse().unwrap();
        let keys = |room| [
            KEYS.document_directory(room, &path), KEYS.document_header(room, document),
            KEYS.document_clock(room, document, client), KEYS.document_change(room, revision),
            KEYS.document_changes(room), KEYS.dropped_document(room, document), KEYS.message_log(room),
            KEYS.message(room, revision),
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
        prop_assert_eq!(KEYS.parse_queue_name(&KEYS.queue_directory(room, &name)).unwrap(), name.clone());
        prop_assert_eq!(KEYS.parse_document_path(&KEYS.document_directory(room, &path)).unwrap(), path.clone());
        let header = KEYS.document_header(room, document);
        prop_assert!(KEYS.document_headers(room).contains(&header));
        prop_assert_eq!(KEYS.parse_document_number(&header).unwrap(), document);
    }

    #[test]
    fn what_has_a_revision_sorts_by_it(room in uid(), number: u32, a: u64, b: u64) {
        let document = DocumentNumber(number);
        type Make = fn(RoomUid, DocumentNumber, Revision) -> (Vec<u8>, Range<Vec<u8>>);
        let kinds: [Make; 3] = [
            |room, _, at| (KEYS.message(room, at), KEYS.messages_after(room, at)),
            |room, _, at| (KEYS.document_change(room, at), KEYS.document_changes_after(room, at)),
            |room, document, at| (KEYS.update(room, document, at), KEYS.updates_after(room, document, at)),
        ];
        for make in kinds {
            let ((left, after), (right, _)) = (make(room, document, Revision(a)), make(room, document, Revision(b)));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(after.contains(&right), b > a);
            prop_assert_eq!(Keys::parse_revision(&left).unwrap(), Revision(a));
        }
    }

    #[test]
    fn a_document_holds_its_local_keys_and_no_others(room in uid(), number: u32, other: u32, index: u32, at: u64) {
        let (document, other) = (DocumentNumber(number), DocumentNumber(other));
        let range = KEYS.local_document(room, document)..KEYS.local_document_end(room, document);
        let keys = |document| [
            KEYS.local_header(room, document), KEYS.base_chunk(room, document, index),
            KEYS.update(room, document, Revision(at)),
        ];
        for key in keys(other) {
            prop_assert_eq!(range.contains(&key), document == other);
            prop_assert!(KEYS.local_all().contains(&key));
            prop_assert!(!KEYS.room_data(room).contains(&key));
            prop_assert_eq!(KEYS.parse_local(&key).unwrap(), (room, other));
        }
        let [header, chunk, update] = keys(document);
        let chunks = KEYS.base_chunks_from(room, document, 0);
        prop_assert!(chunks.contains(&chunk) && !chunks.contains(&header) && !chunks.contains(&update));
        prop_assert_eq!(KEYS.base_chunks_from(room, document, 1).contains(&chunk), index > 0);
        let clocks = KEYS.document_clocks(room, document);
        let clock = KEYS.document_clock(room, other, YjsClient(at));
        prop_assert_eq!(clocks.contains(&clock), document == other);
        prop_assert_eq!(Keys::parse_clock(&clock).unwrap(), YjsClient(at));
    }

    #[test]
    fn foreign_keys_never_panic(key: Vec<u8>) {
        for class in 1..7 {
            let key = [&[0, 3, class][..], &key].concat();
            let _ = (KEYS.parse_due(&key), KEYS.parse_directory(&key), KEYS.parse_room_data(&key));
            let _ = (KEYS.parse_local(&key), KEYS.parse_document_path(&key), KEYS.parse_document_number(&key));
        }
        let _ = (KEYS.parse_due(&key), KEYS.parse_local(&key), Keys::parse_clock(&key), Keys::parse_revision(&key));
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

    let document = DocumentNumber(5);
    let of_room = |rest: &[u8]| [&[0, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7][..], rest].concat();
    let path = "a/b".parse().unwrap();
    assert_eq!(KEYS.document_header(room, document), of_room(&[0x20, 0, 0, 0, 5]));
    let clock = KEYS.document_clock(room, document, YjsClient(6));
    assert_eq!(clock, of_room(&[0x23, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6]));
    assert_eq!(KEYS.document_directory(room, &path), of_room(b"\x25a/b\x00\x00"));
    assert_eq!(KEYS.document_change(room, Revision(6)), of_room(&[0x26, 0, 0, 0, 0, 0, 0, 0, 6]));
    assert_eq!(KEYS.document_changes(room), of_room(&[0x27]));
    assert_eq!(KEYS.dropped_document(room, document), of_room(&[0x28, 0, 0, 0, 5]));
    assert_eq!(KEYS.message_log(room), of_room(&[0x40]));
    assert_eq!(KEYS.message(room, Revision(6)), of_room(&[0x41, 0, 0, 0, 0, 0, 0, 0, 6]));
    let local = |rest: &[u8]| [&[0, 3, 6, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 5][..], rest].concat();
    assert_eq!(KEYS.local_header(room, document), local(&[0]));
    assert_eq!(KEYS.base_chunk(room, document, 6), local(&[1, 0, 0, 0, 6]));
    assert_eq!(KEYS.update(room, document, Revision(6)), local(&[2, 0, 0, 0, 0, 0, 0, 0, 6]));
    let at =
        |kind, rest: &[u8]| [&[0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, kind][..], rest].concat();
    assert_eq!(KEYS.due(Timestamp(8), &Due::Trim(room)), at(6, &[]));
    assert_eq!(KEYS.due(Timestamp(8), &Due::Dropped(room, document)), at(7, &[0, 0, 0, 5]));
}
