//! What queues do beside sending, leasing and acknowledging.

use conclave_room::{Configure, ItemOptions, NotBefore, Operation, Overflow, QueueState, SettingsPatch};

use prost::encoding::encode_varint;

use super::{acked, bytes, element, flag, nested, optional_uint, room, uint};

pub(super) fn item_options(out: &mut Vec<u8>, index: u32, options: &ItemOptions) {
    nested(out, 7, 0, |out| {
        uint(out, 1, u64::from(index));
        uint(out, 2, u64::from(options.priority));
        match options.not_before {
            NotBefore::Now => {}
            NotBefore::After(ms) => optional_uint(out, 3, Some(ms)),
            NotBefore::At(time) => optional_uint(out, 4, Some(time.0)),
        }
        optional_uint(out, 5, options.ttl_ms);
        options.group.iter().for_each(|group| element(out, 6, group));
        options.message_id.iter().for_each(|message| element(out, 7, message));
    });
}

pub(super) fn operation(out: &mut Vec<u8>, operation: &Operation, expected: usize) {
    match operation {
        Operation::NackDeliveries { room: uid, queue, deliveries, delay_ms, reject, reason } => {
            nested(out, 23, expected, |out| {
                room(out, *uid);
                bytes(out, 3, queue.as_bytes());
                deliveries.iter().for_each(|delivery| acked(out, *delivery));
                optional_uint(out, 5, *delay_ms);
                flag(out, 6, *reject);
                bytes(out, 7, reason.as_bytes());
            });
        }
        Operation::ExtendLeases { room: uid, queue, deliveries, lease_ms } => nested(out, 24, expected, |out| {
            room(out, *uid);
            bytes(out, 3, queue.as_bytes());
            deliveries.iter().for_each(|delivery| acked(out, *delivery));
            uint(out, 5, *lease_ms);
        }),
        Operation::ConfigureQueue { room: uid, queue, how, settings } => nested(out, 25, expected, |out| {
            room(out, *uid);
            bytes(out, 3, queue.as_bytes());
            flag(out, 4, *how == Configure::Create);
            patch(out, settings);
        }),
        Operation::CancelItems { room: uid, queue, items } => nested(out, 26, expected, |out| {
            room(out, *uid);
            bytes(out, 3, queue.as_bytes());
            if !items.is_empty() {
                nested(out, 4, items.len() * 3, |out| items.iter().for_each(|item| encode_varint(*item, out)));
            }
        }),
        Operation::MoveItems { room: uid, queue, to, max_items } => nested(out, 27, expected, |out| {
            room(out, *uid);
            bytes(out, 3, queue.as_bytes());
            to.iter().for_each(|to| bytes(out, 4, to.as_bytes()));
            uint(out, 5, u64::from(*max_items));
        }),
        Operation::PurgeItems { room: uid, queue, max_items } => nested(out, 28, expected, |out| {
            room(out, *uid);
            bytes(out, 3, queue.as_bytes());
            uint(out, 4, u64::from(*max_items));
        }),
        _ => unreachable!("only operations of this module come here"),
    }
}

fn patch(out: &mut Vec<u8>, patch: &SettingsPatch) {
    let state = patch.state.map(|state| match state {
        QueueState::Active => 1,
        QueueState::Paused => 2,
        QueueState::Closed => 3,
    });
    let overflow = patch.overflow.map(|overflow| match overflow {
        Overflow::Reject => 1,
        Overflow::DropOldest => 2,
    });
    let numbers = [
        (5, state),
        (6, patch.lease_ms),
        (7, patch.max_attempts.map(u64::from)),
        (8, patch.backoff_ms),
        (9, patch.max_backoff_ms),
        (10, patch.deduplication_window_ms),
        (11, patch.max_items),
        (12, patch.max_bytes),
        (13, overflow),
        (14, patch.retention_ms.map(Option::unwrap_or_default)),
        (15, patch.max_in_flight.map(u64::from)),
        (16, patch.max_in_flight_per_consumer.map(u64::from)),
    ];
    numbers.into_iter().for_each(|(field, number)| optional_uint(out, field, number));
    if let Some(name) = &patch.dead_letter_queue {
        element(out, 17, name.as_ref().map_or(&[], |name| name.as_bytes()));
    }
}
