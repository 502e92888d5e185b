use conclave_types::{DocumentNumber, DocumentPath, QueueName, Revision, RoomNumber, Timestamp, YjsClient};
use proptest::prelude::*;

use super::*;

const KEYS: Keys = Keys { group: GroupId(3) };

fn uid() -> impl Strategy<Value = RoomUid> {
    (0..16_384u16, any::<u64>()).prop_map(|(slot, number)| RoomUid { slot: Slot(slot), number: RoomNumber(number) })
}

fn due() -> impl Strategy<Value = Due> {
    prop_oneof![
        (prop::sample::select(QueueTimer::ALL.to_vec()), uid(), any::<u32>())
            .prop_map(|(timer, room, queue)| Due::Queue(timer, room, QueueNumber(queue))),
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
        type Make = fn(RoomUid, QueueNumber, u64) -> Vec<u8>;
        let kinds: [Make; 6] = [
            |room, queue, item| KEYS.item(room, queue, item),
            |room, queue, item| KEYS.ready(room, queue, 4, item),
            |room, queue, item| KEYS.in_flight(room, queue, item),
            |room, queue, item| KEYS.acked(room, queue, item),
            |room, queue, item| KEYS.delayed_until(room, queue, item),
            |room, queue, item| KEYS.grouped(room, queue, b"g", item),
        ];
        for make in kinds {
            let (left, right) = (make(room, queue, a), make(room, queue, b));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(Keys::parse_item(&left).unwrap(), a);
            let range = Keys::items_from(make(room, queue, 0));
            prop_assert!(range.contains(&left));
            prop_assert!(!range.contains(&make(room, QueueNumber(queue.0.wrapping_add(1)), a)));
        }
    }

    #[test]
    fn ready_items_sort_by_priority_first(room in uid(), queue: u32, a in (0..10u8, any::<u64>()), b in (0..10u8, any::<u64>())) {
        let queue = QueueNumber(queue);
        let (left, right) = (KEYS.ready(room, queue, a.0, a.1), KEYS.ready(room, queue, b.0, b.1));
        prop_assert_eq!(left.cmp(&right), b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let of_priority = Keys::items_from(KEYS.ready(room, queue, a.0, 0));
        prop_assert_eq!(of_priority.contains(&right), a.0 == b.0);
        prop_assert!(KEYS.all_ready(room, queue).contains(&left));
    }

    #[test]
    fn what_waits_for_time_sorts_by_it(room in uid(), queue: u32, a in (any::<u64>(), any::<u64>()), b in (any::<u64>(), any::<u64>())) {
        let queue = QueueNumber(queue);
        type Make = fn(RoomUid, QueueNumber, Timestamp, u64) -> (Vec<u8>, Range<Vec<u8>>);
        let kinds: [Make; 2] = [
            |room, queue, at, item| (KEYS.delayed(room, queue, at, item), KEYS.delayed_from(room, queue, at)),
            |room, queue, at, item| (KEYS.expiry(room, queue, at, item), KEYS.expiries_from(room, queue, at)),
        ];
        for make in kinds {
            let ((left, from), (right, _)) =
                (make(room, queue, Timestamp(a.0), a.1), make(room, queue, Timestamp(b.0), b.1));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(Keys::parse_time_and_item(&left).unwrap(), (Timestamp(a.0), a.1));
            prop_assert_eq!(from.contains(&right), b.0 >= a.0);
        }
    }

    #[test]
    fn messages_groups_and_consumers_are_of_one_queue(
        room in uid(), queue: u32, other: u32, at: u64, later: u64, text: Vec<u8>, name: String, item: u64,
    ) {
        let (queue, other) = (QueueNumber(queue), QueueNumber(other));
        let forget = KEYS.forget_message(room, other, Timestamp(later), &text);
        prop_assert_eq!(KEYS.parse_forget_message(&forget).unwrap(), (Timestamp(later), text.clone()));
        let range = KEYS.forget_messages(room, queue, Timestamp(at));
        prop_assert_eq!(range.contains(&forget), queue == other && later >= at);

        let consumer = KEYS.consumer(room, other, &name);
        prop_assert_eq!(KEYS.consumers(room, queue).contains(&consumer), queue == other);
        prop_assert_eq!(KEYS.parse_consumer(&consumer).unwrap(), name);
        let grouped = KEYS.grouped(room, other, &text, item);
        prop_assert_eq!(KEYS.all_grouped(room, queue).contains(&grouped), queue == other);
    }

    #[test]
    fn a_group_holds_its_items_and_no_others(room in uid(), queue: u32, a: Vec<u8>, b: Vec<u8>, item: u64) {
        let queue = QueueNumber(queue);
        let range = Keys::items_from(KEYS.grouped(room, queue, &a, 0));
        prop_assert_eq!(range.contains(&KEYS.grouped(room, queue, &b, item)), a == b);
        prop_assert_eq!(KEYS.item_group(room, queue, &a) == KEYS.item_group(room, queue, &b), a == b);
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
            KEYS.ready(room, queue, 9, item), KEYS.in_flight(room, queue, item), KEYS.acked(room, queue, item),
            KEYS.delayed(room, queue, Timestamp(item), item), KEYS.delayed_until(room, queue, item),
            KEYS.expiry(room, queue, Timestamp(item), item), KEYS.sent_message(room, queue, &id),
            KEYS.forget_message(room, queue, Timestamp(item), &id), KEYS.item_group(room, queue, &id),
            KEYS.grouped(room, queue, &id, item), KEYS.consumer(room, queue, "worker"),
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
            let _ = (KEYS.parse_forget_message(&key), KEYS.parse_consumer(&key), Keys::parse_time_and_item(&key));
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
        KEYS.ready(room, QueueNumber(5), 2, 6),
        [0, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0x32, 0, 0, 0, 5, 7, 0, 0, 0, 0, 0, 0, 0, 6]
    );
    assert_eq!(
        KEYS.due(Timestamp(8), &Due::Queue(QueueTimer::Leases, room, QueueNumber(5))),
        [0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 0, 5]
    );
    assert_eq!(KEYS.request(b"x"), [0, 3, 5, b'x']);

    let of_queue = |tag, rest: &[u8]| [&[0, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, tag, 0, 0, 0, 5][..], rest].concat();
    let (queue, time) = (QueueNumber(5), Timestamp(8));
    let (of_item, of_time) = ([0, 0, 0, 0, 0, 0, 0, 6], [0, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!(KEYS.queue_header(room, queue), of_queue(0x30, &[]));
    assert_eq!(KEYS.item(room, queue, 6), of_queue(0x31, &of_item));
    assert_eq!(KEYS.delayed_until(room, queue, 6), of_queue(0x33, &of_item));
    assert_eq!(KEYS.in_flight(room, queue, 6), of_queue(0x34, &of_item));
    assert_eq!(KEYS.delayed(room, queue, time, 6), of_queue(0x35, &[of_time, of_item].concat()));
    assert_eq!(KEYS.sent_message(room, queue, b"m"), of_queue(0x36, b"m\x00\x00"));
    assert_eq!(KEYS.forget_message(room, queue, time, b"m"), of_queue(0x37, &[&of_time[..], b"m\x00\x00"].concat()));
    assert_eq!(KEYS.expiry(room, queue, time, 6), of_queue(0x38, &[of_time, of_item].concat()));
    assert_eq!(KEYS.grouped(room, queue, b"g", 6), of_queue(0x39, &[&b"g\x00\x00"[..], &of_item].concat()));
    assert_eq!(KEYS.item_group(room, queue, b"g"), of_queue(0x3a, b"g\x00\x00"));
    assert_eq!(KEYS.acked(room, queue, 6), of_queue(0x3b, &of_item));
    assert_eq!(KEYS.consumer(room, queue, "c"), of_queue(0x3d, b"c\x00\x00"));

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
    for (timer, kind) in QueueTimer::ALL.into_iter().zip([1, 2, 8, 9, 10]) {
        assert_eq!(KEYS.due(Timestamp(8), &Due::Queue(timer, room, queue)), at(kind, &[0, 0, 0, 5]));
    }
    assert_eq!(KEYS.due(Timestamp(8), &Due::Trim(room)), at(6, &[]));
    assert_eq!(KEYS.due(Timestamp(8), &Due::Dropped(room, document)), at(7, &[0, 0, 0, 5]));
}
