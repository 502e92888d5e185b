//! Parses requests into operations: every field checked, named in the fault with its rule or limit.
//!
//! One function for each request, used by the unary method and by the session frame alike.

pub mod queues;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::items::check_request_id;
use conclave_proto::v1;
use conclave_room::{MessageRetention, Operation};
use conclave_types::RoomUid;
use conclave_types::limits::{
    DEFAULT_PAGE_SIZE, LOG_AGE_RANGE_MS, MAX_BATCH_ITEMS, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS,
    MAX_LOG_BYTES_RANGE, MAX_MESSAGES_RANGE, MAX_PAGE_SIZE,
};

use crate::faults::Fault;

/// Metadata or annotations: few entries, short keys, bounded values.
pub fn labels(field: &'static str, labels: &BTreeMap<String, String>) -> Result<(), Fault> {
    if labels.len() > MAX_LABELS {
        return Err(Fault::too_large(field, MAX_LABELS, labels.len()));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Fault::field_invalid(field, "has an empty key"));
        }
        if key.len() > MAX_LABEL_KEY_BYTES {
            return Err(Fault::too_large(field, MAX_LABEL_KEY_BYTES, key.len()));
        }
        if value.len() > MAX_LABEL_VALUE_BYTES {
            return Err(Fault::too_large(field, MAX_LABEL_VALUE_BYTES, value.len()));
        }
    }
    Ok(())
}

/// A request id, or none.
pub fn request_id(id: &str) -> Result<Option<Bytes>, Fault> {
    check_request_id(id)?;
    Ok((!id.is_empty()).then(|| Bytes::copy_from_slice(id.as_bytes())))
}

/// No room has it: a room's first revision is 1.
const NEVER_AN_ETAG: u64 = 0;

/// A room's etag: the number of the room, which no other room of its name ever has, and the revision of its last update.
pub fn etag_of(room: RoomUid, revision: u64) -> String {
    format!("{}-{revision}", room.number.0)
}

/// The revision that an etag asks for; empty means any. One of an earlier room of the same name is as good as one of an
/// earlier revision, and apply says so: it knows whether the request was made before.
pub fn etag(room: RoomUid, etag: &str) -> Result<Option<u64>, Fault> {
    if etag.is_empty() {
        return Ok(None);
    }
    let parsed =
        etag.split_once('-').and_then(|(number, revision)| Some((number.parse().ok()?, revision.parse().ok()?)));
    let (number, revision): (u64, u64) =
        parsed.ok_or_else(|| Fault::field_invalid("etag", "is not an etag that a room was given"))?;
    Ok(Some(if number == room.number.0 { revision } else { NEVER_AN_ETAG }))
}

pub fn update_room(room: RoomUid, request: v1::UpdateRoomRequest) -> Result<Operation, Fault> {
    labels("metadata", &request.metadata)?;
    labels("annotations", &request.annotations)?;
    let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    if let Some(other) = paths.iter().find(|path| !UPDATABLE.contains(&path.as_str())) {
        let rule = format!("names {other:?}; only metadata, annotations and message_retention can be updated");
        return Err(Fault::field_invalid("update_mask", &rule));
    }
    let named = |path: &str| paths.iter().any(|named| named == path);
    let labels = |path: &str| paths.is_empty() || named(path);
    let keeps = named("message_retention") || (paths.is_empty() && request.message_retention.is_some());
    let retention = keeps.then(|| message_retention(request.message_retention.unwrap_or_default())).transpose()?;
    Ok(Operation::UpdateRoom {
        room,
        metadata: labels("metadata").then_some(request.metadata),
        annotations: labels("annotations").then_some(request.annotations),
        retention,
        expected_etag: etag(room, &request.etag)?,
    })
}

/// What of a room an update may replace.
const UPDATABLE: [&str; 3] = ["metadata", "annotations", "message_retention"];

/// How much of a room's log is kept: what is left out has its default.
fn message_retention(asked: v1::MessageRetention) -> Result<MessageRetention, Fault> {
    let default = MessageRetention::default();
    let max_messages = if asked.max_messages == 0 { default.max_messages } else { asked.max_messages };
    if !MAX_MESSAGES_RANGE.contains(&max_messages) {
        return Err(Fault::field_invalid("message_retention.max_messages", "must be 1 to 10,000,000"));
    }
    let max_bytes = if asked.max_bytes == 0 { default.max_bytes } else { asked.max_bytes };
    if !MAX_LOG_BYTES_RANGE.contains(&max_bytes) {
        return Err(Fault::field_invalid("message_retention.max_bytes", "must be 1 MiB to 16 GiB"));
    }
    let max_age_ms = asked.max_age.map(|age| milliseconds("message_retention.max_age", age)).transpose()?;
    if max_age_ms.is_some_and(|age| !LOG_AGE_RANGE_MS.contains(&age)) {
        return Err(Fault::field_invalid("message_retention.max_age", "must be 1 minute to 10 years"));
    }
    Ok(MessageRetention { max_messages, max_bytes, max_age_ms })
}

/// A page's size: the default for 0.
pub fn page_size(asked: u32) -> Result<usize, Fault> {
    match asked {
        0 => Ok(DEFAULT_PAGE_SIZE as usize),
        1..=MAX_PAGE_SIZE => Ok(asked as usize),
        _ => Err(Fault::field_invalid("page_size", "must be 1 to 1000")),
    }
}

fn batch_size(field: &'static str, size: usize) -> Result<(), Fault> {
    match size {
        0 => Err(Fault::field_invalid(field, "must hold at least 1")),
        1..=MAX_BATCH_ITEMS => Ok(()),
        actual => Err(Fault::too_large(field, MAX_BATCH_ITEMS, actual)),
    }
}

fn milliseconds(field: &'static str, duration: prost_types::Duration) -> Result<u64, Fault> {
    let duration = Duration::try_from(duration).map_err(|_| Fault::field_invalid(field, "must not be negative"))?;
    Ok(duration.as_millis().min(u64::MAX as u128) as u64)
}
