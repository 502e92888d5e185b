//! Encodes a batch in one pass, straight from the domain's types: a payload is copied once, into the entry.

mod queues;

use std::collections::BTreeMap;

use conclave_room::{Advance, Command, MessageRetention, Operation, Origin, Receiver};
use conclave_types::{DeliveryId, RoomUid, Timestamp, UpdateClocks};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::SCHEMA;

pub(super) fn batch(out: &mut Vec<u8>, time: Timestamp, commands: &[Command]) {
    uint(out, 1, u64::from(SCHEMA));
    uint(out, 2, time.0);
    for command in commands {
        nested(out, 3, expected_bytes(command), |out| {
            origin(out, &command.origin);
            operation(out, &command.operation);
        });
    }
}

/// About what a command takes when encoded. Only a guess: it decides how much is reserved, never what is written.
pub(super) fn expected_bytes(command: &Command) -> usize {
    const SMALL_FIELDS: usize = 96;
    SMALL_FIELDS + operation_bytes(&command.operation)
}

fn operation_bytes(operation: &Operation) -> usize {
    const SMALL_FIELDS: usize = 40;
    match operation {
        Operation::SendItems { items, options, .. } => {
            items.iter().map(|item| item.len() + 3).sum::<usize>() + options.len() * SMALL_FIELDS + SMALL_FIELDS
        }
        Operation::AckDeliveries { deliveries, .. }
        | Operation::NackDeliveries { deliveries, .. }
        | Operation::ExtendLeases { deliveries, .. } => deliveries.len() * 8 + SMALL_FIELDS,
        Operation::PushUpdate { path, clocks, update, .. } => {
            path.as_bytes().len() + added_bytes(clocks) + required_bytes(clocks) + update.len() + SMALL_FIELDS
        }
        Operation::PostMessage { message, .. } => message.len() + SMALL_FIELDS,
        _ => SMALL_FIELDS,
    }
}

fn origin(out: &mut Vec<u8>, origin: &Origin) {
    match origin {
        Origin::Host => nested(out, 1, 0, |_| {}),
        Origin::Call { participant } => nested(out, 2, 0, |out| bytes(out, 1, participant.as_bytes())),
        Origin::Request { project, participant, request_id } => nested(out, 3, 0, |out| {
            bytes(out, 1, project.as_bytes());
            bytes(out, 2, participant.as_bytes());
            bytes(out, 3, request_id);
        }),
        Origin::Session(frame) => nested(out, 4, 0, |out| {
            room(out, frame.room);
            bytes(out, 3, &frame.session.0);
            uint(out, 4, frame.attachment.0);
            bytes(out, 5, frame.owner.as_bytes());
            uint(out, 6, frame.sequence.0);
            uint(out, 7, frame.acknowledged.0);
        }),
    }
}

fn operation(out: &mut Vec<u8>, operation: &Operation) {
    let expected = operation_bytes(operation);
    match operation {
        Operation::CreateRoom { slot, project, room, metadata, annotations } => nested(out, 10, expected, |out| {
            uint(out, 1, u64::from(slot.0));
            bytes(out, 2, project.as_bytes());
            bytes(out, 3, room.as_bytes());
            labels(out, 4, metadata);
            labels(out, 5, annotations);
        }),
        Operation::UpdateRoom { room: uid, metadata, annotations, retention: kept, expected_etag } => {
            nested(out, 11, expected, |out| {
                room(out, *uid);
                metadata.iter().for_each(|entries| labels(out, 3, entries));
                annotations.iter().for_each(|entries| labels(out, 4, entries));
                optional_uint(out, 5, *expected_etag);
                kept.iter().for_each(|kept| retention(out, kept));
            });
        }
        Operation::DeleteRoom { room: uid, expected_etag } => nested(out, 12, expected, |out| {
            room(out, *uid);
            optional_uint(out, 3, *expected_etag);
        }),
        Operation::AttachSession { room: uid, session, owner, presented, issued, unacknowledged } => {
            nested(out, 13, expected, |out| {
                room(out, *uid);
                bytes(out, 3, &session.0);
                bytes(out, 4, owner.as_bytes());
                uint(out, 5, presented.0);
                uint(out, 6, issued.0);
                flag(out, 7, *unacknowledged);
            });
        }
        Operation::SendItems { room: uid, queue, create, sender, items, options } => {
            nested(out, 14, expected, |out| {
                room(out, *uid);
                bytes(out, 3, queue.as_bytes());
                flag(out, 4, *create);
                bytes(out, 5, sender.as_bytes());
                items.iter().for_each(|item| element(out, 6, item));
                options.iter().for_each(|(index, options)| queues::item_options(out, *index, options));
            });
        }
        Operation::LeaseItems {
            room: uid,
            queue,
            create,
            max_items,
            lease_ms,
            consumer,
            receiver: by,
            again,
            take,
            window,
        } => {
            nested(out, 15, expected, |out| {
                room(out, *uid);
                bytes(out, 3, queue.as_bytes());
                flag(out, 4, *create);
                uint(out, 5, u64::from(*max_items));
                uint(out, 6, *lease_ms);
                bytes(out, 7, consumer.as_bytes());
                receiver(out, by);
                flag(out, 10, *again);
                flag(out, 11, *take);
                uint(out, 12, u64::from(*window));
            });
        }
        Operation::AckDeliveries { room: uid, queue, deliveries } => nested(out, 16, expected, |out| {
            room(out, *uid);
            bytes(out, 3, queue.as_bytes());
            deliveries.iter().for_each(|delivery| acked(out, *delivery));
        }),
        Operation::NackDeliveries { .. }
        | Operation::ExtendLeases { .. }
        | Operation::ConfigureQueue { .. }
        | Operation::CancelItems { .. }
        | Operation::MoveItems { .. }
        | Operation::PurgeItems { .. } => queues::operation(out, operation, expected),
        Operation::CreateDocument { room: uid, path } => nested(out, 18, expected, |out| {
            room(out, *uid);
            bytes(out, 3, path.as_bytes());
        }),
        Operation::PushUpdate { room: uid, path, create, author, clocks: known, update } => {
            nested(out, 19, expected, |out| {
                room(out, *uid);
                bytes(out, 3, path.as_bytes());
                flag(out, 4, *create);
                bytes(out, 5, author.as_bytes());
                clocks(out, known);
                bytes(out, 9, update);
            });
        }
        Operation::RenameDocument { room: uid, from, to } => nested(out, 20, expected, |out| {
            room(out, *uid);
            bytes(out, 3, from.as_bytes());
            bytes(out, 4, to.as_bytes());
        }),
        Operation::DeleteDocument { room: uid, path } => nested(out, 21, expected, |out| {
            room(out, *uid);
            bytes(out, 3, path.as_bytes());
        }),
        Operation::PostMessage { room: uid, sender, message } => nested(out, 22, expected, |out| {
            room(out, *uid);
            bytes(out, 3, sender.as_bytes());
            bytes(out, 4, message);
        }),
        Operation::Advance(Advance { limit }) => nested(out, 17, 0, |out| uint(out, 1, u64::from(*limit))),
    }
}

fn room(out: &mut Vec<u8>, room: RoomUid) {
    uint(out, 1, u64::from(room.slot.0));
    uint(out, 2, room.number.0);
}

fn receiver(out: &mut Vec<u8>, receiver: &Receiver) {
    match receiver {
        Receiver::Unnamed => {}
        Receiver::Session { session, sequence } => nested(out, 8, 0, |out| {
            bytes(out, 1, &session.0);
            uint(out, 2, sequence.0);
        }),
        Receiver::Request { participant, request_id } => nested(out, 9, 0, |out| {
            bytes(out, 1, participant.as_bytes());
            bytes(out, 2, request_id);
        }),
        Receiver::Consumer { participant } => nested(out, 13, 0, |out| bytes(out, 1, participant.as_bytes())),
    }
}

fn acked(out: &mut Vec<u8>, delivery: DeliveryId) {
    nested(out, 4, 0, |out| {
        uint(out, 1, delivery.item);
        uint(out, 2, u64::from(delivery.attempt));
    });
}

fn retention(out: &mut Vec<u8>, retention: &MessageRetention) {
    nested(out, 6, 0, |out| {
        uint(out, 1, retention.max_messages);
        uint(out, 2, retention.max_bytes);
        optional_uint(out, 3, retention.max_age_ms);
    });
}

/// Fields 6 to 8 of a push.
fn clocks(out: &mut Vec<u8>, clocks: &UpdateClocks) {
    if !clocks.added.is_empty() {
        nested(out, 6, added_bytes(clocks), |out| {
            for added in &clocks.added {
                encode_varint(added.client.0, out);
                encode_varint(added.from, out);
                encode_varint(added.to - added.from, out);
            }
        });
    }
    if !clocks.required.is_empty() {
        nested(out, 7, required_bytes(clocks), |out| {
            for required in &clocks.required {
                encode_varint(required.client.0, out);
                encode_varint(required.clock, out);
            }
        });
    }
    flag(out, 8, clocks.deletes);
}

/// A client of 32 bits, as Yjs draws them, and small clocks.
fn added_bytes(clocks: &UpdateClocks) -> usize {
    clocks.added.len() * 9
}

fn required_bytes(clocks: &UpdateClocks) -> usize {
    clocks.required.len() * 8
}

fn labels(out: &mut Vec<u8>, field: u32, entries: &BTreeMap<String, String>) {
    nested(out, field, 0, |out| {
        for (key, value) in entries {
            nested(out, 1, 0, |out| {
                bytes(out, 1, key.as_bytes());
                bytes(out, 2, value.as_bytes());
            });
        }
    });
}

const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;

fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        optional_uint(out, field, Some(value));
    }
}

fn optional_uint(out: &mut Vec<u8>, field: u32, value: Option<u64>) {
    if let Some(value) = value {
        encode_varint(u64::from(field << 3 | VARINT), out);
        encode_varint(value, out);
    }
}

fn flag(out: &mut Vec<u8>, field: u32, value: bool) {
    uint(out, field, u64::from(value));
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        element(out, field, value);
    }
}

/// An element of a list is written even when it is empty.
fn element(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    encode_varint(u64::from(field << 3 | LENGTH_DELIMITED), out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Writes the content first and its length afterwards, into room kept by the expected length; where that was wrong the
/// content moves by a byte or two.
fn nested(out: &mut Vec<u8>, field: u32, expected: usize, content: impl FnOnce(&mut Vec<u8>)) {
    encode_varint(u64::from(field << 3 | LENGTH_DELIMITED), out);
    let kept = encoded_len_varint(expected as u64);
    let at = out.len();
    out.resize(at + kept, 0);
    content(out);
    let length = (out.len() - at - kept) as u64;
    let needed = encoded_len_varint(length);
    if needed != kept {
        let end = out.len();
        out.resize(end.max(end + needed - kept), 0);
        out.copy_within(at + kept..end, at + needed);
        out.truncate(end + needed - kept);
    }
    encode_varint(length, &mut &mut out[at..at + needed]);
}
