//! Requests about queues.

use std::ops::RangeInclusive;
use std::time::Duration;

use conclave_proto::items::{encode_items, item_options};
use conclave_proto::v1;
use conclave_proto::v1::queue_settings::{Overflow as AskedOverflow, State as AskedState};
use conclave_room::{Configure, Operation, Overflow, QueueState, Receiver, SettingsPatch};
use conclave_types::limits::{
    LEASE_RANGE_MS, MAX_BACKOFF_MS, MAX_BATCH_ITEMS, MAX_DEDUPLICATION_WINDOW_MS, MAX_IN_FLIGHT_RANGE,
    MAX_ITEM_TIME_MS, MAX_MAX_ATTEMPTS, MAX_MAX_ITEMS, MAX_PURGE_ITEMS, MAX_QUEUE_BYTES, MAX_REASON_BYTES,
    MAX_RECEIVE_WAIT_MS,
};
use conclave_types::{DeliveryId, ParticipantName, QueueName, RoomUid, Timestamp};
use prost_types::Duration as AskedDuration;

use super::{batch_size, milliseconds};
use crate::consume::Consume;
use crate::faults::Fault;
use crate::receive::Receive;

/// Deliveries that a consumer may hold when it names no window, and the most it may name.
const DEFAULT_WINDOW: u32 = 64;
pub const MAX_WINDOW: u32 = 1_000;
/// How deep a body of JSON may be nested: many who read one call themselves for each level.
const MAX_JSON_DEPTH: usize = 128;

/// `now` is the room's clock.
pub fn send_items(
    room: RoomUid,
    queue: QueueName,
    sender: ParticipantName,
    request: v1::SendItemsRequest,
    now: Timestamp,
) -> Result<Operation, Fault> {
    let items = encode_items(&request.items)?;
    let mut options = Vec::new();
    for (index, item) in request.items.iter().enumerate() {
        json(item, index)?;
        if let Some(asked) = item_options(item, index, now)? {
            options.push((index as u32, asked));
        }
    }
    Ok(Operation::SendItems { room, queue, create: request.create.unwrap_or(true), sender, items, options })
}

/// A body that says it is JSON is one JSON value, and not nested so deep that reading it is a danger. Nothing of it is
/// kept.
fn json(item: &v1::NewItem, index: usize) -> Result<(), Fault> {
    let kind = item.content_type.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") && !kind.to_ascii_lowercase().ends_with("+json") {
        return Ok(());
    }
    let refused = |why: String| {
        let rule = format!("is not the JSON that its content_type says: {why}");
        Fault::field_invalid(&format!("items[{index}].body"), &rule)
    };
    let text = std::str::from_utf8(&item.body).map_err(|error| refused(error.to_string()))?;
    let value: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    value.map_err(|error| refused(error.to_string()))?;
    match json_depth(text) {
        0..=MAX_JSON_DEPTH => Ok(()),
        depth => Err(refused(format!("it is nested {depth} deep, and {MAX_JSON_DEPTH} is the limit"))),
    }
}

/// How deep a JSON value is nested: 0 for one that holds no others.
fn json_depth(value: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Goes behind the end of a string that has begun.
fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

pub fn ack_deliveries(room: RoomUid, queue: QueueName, request: v1::AckDeliveriesRequest) -> Result<Operation, Fault> {
    Ok(Operation::AckDeliveries { room, queue, deliveries: deliveries(&request.deliveries)? })
}

pub fn nack_deliveries(
    room: RoomUid,
    queue: QueueName,
    request: v1::NackDeliveriesRequest,
) -> Result<Operation, Fault> {
    let delay_ms = request.delay.map(|delay| bounded("delay", delay, 0..=MAX_ITEM_TIME_MS, "0 to 366 days"));
    if request.reject && delay_ms.is_some() {
        return Err(Fault::field_invalid("delay", "must not be set with reject: a dead letter does not wait"));
    }
    if request.reason.len() > MAX_REASON_BYTES {
        return Err(Fault::too_large("reason", MAX_REASON_BYTES, request.reason.len()));
    }
    Ok(Operation::NackDeliveries {
        room,
        queue,
        deliveries: deliveries(&request.deliveries)?,
        delay_ms: delay_ms.transpose()?,
        reject: request.reject,
        reason: request.reason,
    })
}

pub fn extend_leases(room: RoomUid, queue: QueueName, request: v1::ExtendLeasesRequest) -> Result<Operation, Fault> {
    let deliveries = deliveries(&request.deliveries)?;
    Ok(Operation::ExtendLeases { room, queue, deliveries, lease_ms: lease(request.lease)? })
}

pub fn create_queue(room: RoomUid, queue: QueueName, request: v1::CreateQueueRequest) -> Result<Operation, Fault> {
    configure(room, queue, Configure::Create, request.settings)
}

pub fn update_queue(room: RoomUid, queue: QueueName, request: v1::UpdateQueueRequest) -> Result<Operation, Fault> {
    configure(room, queue, Configure::Update, request.settings)
}

pub fn cancel_items(room: RoomUid, queue: QueueName, request: v1::CancelItemsRequest) -> Result<Operation, Fault> {
    batch_size("items", request.items.len())?;
    Ok(Operation::CancelItems { room, queue, items: request.items })
}

pub fn move_items(
    room: RoomUid,
    queue: QueueName,
    to: Option<QueueName>,
    request: &v1::MoveItemsRequest,
) -> Result<Operation, Fault> {
    let max_items = if request.max_items == 0 { MAX_BATCH_ITEMS as u32 } else { request.max_items };
    batch_size("max_items", max_items as usize)?;
    if to.as_ref() == Some(&queue) {
        return Err(Fault::field_invalid("destination", "must be another queue"));
    }
    Ok(Operation::MoveItems { room, queue, to, max_items })
}

pub fn purge_items(room: RoomUid, queue: QueueName, request: &v1::PurgeItemsRequest) -> Result<Operation, Fault> {
    match request.max_items {
        0 => Ok(Operation::PurgeItems { room, queue, max_items: MAX_PURGE_ITEMS }),
        max_items @ 1..=MAX_PURGE_ITEMS => Ok(Operation::PurgeItems { room, queue, max_items }),
        _ => Err(Fault::field_invalid("max_items", "must be 1 to 1,000")),
    }
}

/// `receiver` names the call, so that the same call sent again gets the same deliveries.
pub fn receive_items(
    room: RoomUid,
    queue: QueueName,
    participant: ParticipantName,
    receiver: Receiver,
    again: bool,
    request: v1::ReceiveItemsRequest,
) -> Result<Receive, Fault> {
    let max_items = request.max_items.max(1);
    batch_size("max_items", max_items as usize)?;
    if request.take && request.lease.is_some() {
        return Err(Fault::field_invalid("lease", "must not be set with take: nothing is leased"));
    }
    let lease_ms = lease(request.lease)?;
    let wait_ms = request.wait.map_or(Ok(0), |wait| milliseconds("wait", wait))?;
    if wait_ms > MAX_RECEIVE_WAIT_MS {
        return Err(Fault::field_invalid("wait", "must be 0 to 60 seconds"));
    }
    Ok(Receive {
        room,
        queue,
        create: request.create.unwrap_or(true),
        max_items,
        lease_ms,
        wait: Duration::from_millis(wait_ms),
        consumer: consumer(&request.consumer, &participant)?,
        participant,
        receiver,
        again,
        take: request.take,
    })
}

/// What a stream of deliveries asks for.
pub fn consume(
    queue: QueueName,
    create: bool,
    name: &str,
    window: u32,
    asked_lease: Option<AskedDuration>,
    participant: &ParticipantName,
) -> Result<Consume, Fault> {
    let window = if window == 0 { DEFAULT_WINDOW } else { window };
    if window > MAX_WINDOW {
        return Err(Fault::field_invalid("window", "must be 1 to 1,000"));
    }
    Ok(Consume { queue, create, consumer: consumer(name, participant)?, window, lease_ms: lease(asked_lease)? })
}

fn consumer(name: &str, participant: &ParticipantName) -> Result<String, Fault> {
    if name.is_empty() {
        return Ok(participant.as_str().to_owned());
    }
    let name = name.parse::<ParticipantName>().map_err(|error| Fault::name_invalid(&error))?;
    Ok(name.as_str().to_owned())
}

/// 0 for the queue's.
fn lease(asked: Option<AskedDuration>) -> Result<u64, Fault> {
    asked.map_or(Ok(0), |lease| bounded("lease", lease, LEASE_RANGE_MS, "1 second to 12 hours"))
}

fn deliveries(ids: &[v1::DeliveryId]) -> Result<Vec<DeliveryId>, Fault> {
    batch_size("deliveries", ids.len())?;
    Ok(ids.iter().map(|id| DeliveryId { item: id.item, attempt: id.attempt }).collect())
}

fn configure(
    room: RoomUid,
    queue: QueueName,
    how: Configure,
    settings: Option<v1::QueueSettings>,
) -> Result<Operation, Fault> {
    let settings = patch(settings.unwrap_or_default())?;
    if settings.dead_letter_queue == Some(Some(queue.clone())) {
        return Err(Fault::field_invalid("settings.dead_letter_queue", "must be another queue"));
    }
    Ok(Operation::ConfigureQueue { room, queue, how, settings })
}

fn patch(asked: v1::QueueSettings) -> Result<SettingsPatch, Fault> {
    let duration = |field: &'static str, asked: Option<AskedDuration>, range: RangeInclusive<u64>, rule: &str| {
        asked.map(|asked| bounded(field, asked, range, rule)).transpose()
    };
    let number = |field: &'static str, asked: Option<u64>, range: RangeInclusive<u64>, rule: &str| match asked {
        Some(number) if !range.contains(&number) => Err(Fault::field_invalid(field, &format!("must be {rule}"))),
        asked => Ok(asked),
    };
    let small = |field: &'static str, asked: Option<u32>, range: RangeInclusive<u32>, rule: &str| match asked {
        Some(number) if !range.contains(&number) => Err(Fault::field_invalid(field, &format!("must be {rule}"))),
        asked => Ok(asked),
    };
    let retention = duration("settings.retention", asked.retention, 0..=MAX_ITEM_TIME_MS, "0 to 366 days")?;
    let dead_letter_queue = match asked.dead_letter_queue.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(name) => Some(Some(name.parse().map_err(|error| Fault::name_invalid(&error))?)),
    };
    Ok(SettingsPatch {
        state: asked.state.map(state).transpose()?,
        lease_ms: duration("settings.lease", asked.lease, LEASE_RANGE_MS, "1 second to 12 hours")?,
        max_attempts: small("settings.max_attempts", asked.max_attempts, 0..=MAX_MAX_ATTEMPTS, "0 to 1,000")?,
        backoff_ms: duration("settings.backoff", asked.backoff, 0..=MAX_BACKOFF_MS, "0 to 12 hours")?,
        max_backoff_ms: duration("settings.max_backoff", asked.max_backoff, 0..=MAX_BACKOFF_MS, "0 to 12 hours")?,
        deduplication_window_ms: duration(
            "settings.deduplication_window",
            asked.deduplication_window,
            0..=MAX_DEDUPLICATION_WINDOW_MS,
            "0 to 7 days",
        )?,
        max_items: number("settings.max_items", asked.max_items, 1..=MAX_MAX_ITEMS, "1 to 100,000,000")?,
        max_bytes: number("settings.max_bytes", asked.max_bytes, 0..=MAX_QUEUE_BYTES, "0 to 1 TiB")?,
        overflow: asked.overflow.map(overflow).transpose()?,
        retention_ms: retention.map(|ms| Some(ms).filter(|ms| *ms > 0)),
        max_in_flight: small("settings.max_in_flight", asked.max_in_flight, MAX_IN_FLIGHT_RANGE, "1 to 10,000")?,
        max_in_flight_per_consumer: small(
            "settings.max_in_flight_per_consumer",
            asked.max_in_flight_per_consumer,
            0..=*MAX_IN_FLIGHT_RANGE.end(),
            "0 to 10,000",
        )?,
        dead_letter_queue,
    })
}

fn state(asked: i32) -> Result<QueueState, Fault> {
    match AskedState::try_from(asked) {
        Ok(AskedState::Active) => Ok(QueueState::Active),
        Ok(AskedState::Paused) => Ok(QueueState::Paused),
        Ok(AskedState::Closed) => Ok(QueueState::Closed),
        Ok(AskedState::Unspecified) | Err(_) => {
            Err(Fault::field_invalid("settings.state", "must be STATE_ACTIVE, STATE_PAUSED or STATE_CLOSED"))
        }
    }
}

fn overflow(asked: i32) -> Result<Overflow, Fault> {
    match AskedOverflow::try_from(asked) {
        Ok(AskedOverflow::Reject) => Ok(Overflow::Reject),
        Ok(AskedOverflow::DropOldest) => Ok(Overflow::DropOldest),
        Ok(AskedOverflow::Unspecified) | Err(_) => {
            Err(Fault::field_invalid("settings.overflow", "must be OVERFLOW_REJECT or OVERFLOW_DROP_OLDEST"))
        }
    }
}

fn bounded(field: &'static str, asked: AskedDuration, range: RangeInclusive<u64>, rule: &str) -> Result<u64, Fault> {
    let ms = milliseconds(field, asked)?;
    if range.contains(&ms) { Ok(ms) } else { Err(Fault::field_invalid(field, &format!("must be {rule}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(content_type: &str, body: impl AsRef<[u8]>) -> bool {
        let body = body.as_ref().to_vec().into();
        json(&v1::NewItem { body, content_type: content_type.into(), ..Default::default() }, 0).is_ok()
    }

    #[test]
    fn a_body_that_says_it_is_json_is_one_json_value() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        let values = ["null", " {\"a\": [1, \"\\\"]\"]} ", "1e999", "\"[[[\"", &nested(128)].map(str::to_owned);
        let wide = format!("[{}[]]", "[\"]\"],{},".repeat(1_000));
        for value in values.into_iter().chain([wide]) {
            assert!(is_taken("application/json", &value), "{value}");
        }
        for other in ["", "{", "{} {}", "[1,]", "nul", &nested(129), &"[".repeat(100_000), &nested(100_000)] {
            for kind in ["application/json", "application/foo+json", "Application/JSON; charset=utf-8"] {
                assert!(!is_taken(kind, other), "{kind}: {}", &other[..other.len().min(20)]);
            }
            assert!(is_taken("text/plain", other) && is_taken("", other));
        }
        assert!(!is_taken("application/json", b"\"\xff\""));
    }
}
