//! Any command there can be.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_room::{
    Advance, Command, Configure, ItemOptions, MessageRetention, NotBefore, Operation, Origin, Overflow, QueueState,
    Receiver, SessionFrame, SettingsPatch,
};
use conclave_types::limits::SLOTS;
use conclave_types::{
    AddedClocks, AttachmentNumber, DeliveryId, DocumentPath, ParticipantName, ProjectId, QueueName, RequiredClock,
    RoomName, RoomNumber, RoomUid, Sequence, SessionId, Slot, Timestamp, UpdateClocks, YjsClient,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

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

pub fn command() -> impl Strategy<Value = Command> {
    let operation = prop_oneof![room_operation(), queue_operation(), queue_upkeep(), document_operation()];
    (origin(), operation).prop_map(|(origin, operation)| Command { origin, operation })
}
