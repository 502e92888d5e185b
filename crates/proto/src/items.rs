//! Queue items on their way in and out.
//!
//! An item is stored as the bytes of the `NewItem` that its sender encoded. [`ReceivedSend::read`] finds them inside the
//! request and checks their limits without copying a body; fields of a later version stay in the bytes.

use bytes::Bytes;
use conclave_room::read::{ItemPlace, ItemView};
use conclave_room::{DeadLetter, DeadReason, DeliveredItem, Failure, FailureKind, ItemOptions, NotBefore};
use conclave_types::Timestamp;
use conclave_types::limits::{
    MAX_BATCH_ITEMS, MAX_GROUP_BYTES, MAX_ITEM_BYTES, MAX_ITEM_TIME_MS, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES,
    MAX_LABELS, MAX_MESSAGE_ID_BYTES, MAX_PRIORITY, MAX_REQUEST_ID_BYTES,
};
use prost::Message;

use crate::status::ApiError;
use crate::time;
use crate::v1;
use crate::wire::{Fields, Malformed};

/// Most bytes of an item's content type.
pub const MAX_CONTENT_TYPE_BYTES: usize = 128;
/// Most bytes of all keys and values of an item's headers: they are read with every delivery.
pub const MAX_HEADERS_BYTES: usize = 16 << 10;

/// A `SendItemsRequest` whose items are within their limits. `parent` is not parsed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSend<'a> {
    pub parent: &'a str,
    /// 1 to 128, each the bytes of a `NewItem`, slices of the request.
    pub items: Vec<Bytes>,
    /// True when the request does not say.
    pub create: bool,
    /// Empty when the request has none; at most 64 bytes.
    pub request_id: &'a str,
}

impl<'a> ReceivedSend<'a> {
    /// Reads a request: the message of a unary call, or the body of a frame.
    pub fn read(request: &'a Bytes) -> Result<Self, ApiError> {
        let mut send = ReceivedSend { parent: "", items: Vec::with_capacity(1), create: true, request_id: "" };
        for field in Fields::of(request) {
            match field? {
                (1, value) => send.parent = value.text()?,
                (2, value) => {
                    let item = value.bytes()?;
                    // Past the limit the rest is only counted, for the message.
                    if send.items.len() < MAX_BATCH_ITEMS {
                        check_item(item, send.items.len())?;
                    }
                    send.items.push(request.slice_ref(item));
                }
                (3, value) => send.create = value.flag()?,
                (4, value) => send.request_id = value.text()?,
                _ => {}
            }
        }
        check_count(send.items.len())?;
        check_request_id(send.request_id)?;
        Ok(send)
    }
}

/// The same for a request that generated code has decoded: every item is encoded again, which copies its body once.
pub fn encode_items(items: &[v1::NewItem]) -> Result<Vec<Bytes>, ApiError> {
    check_count(items.len())?;
    let encode = |(index, item): (usize, &v1::NewItem)| {
        let bytes = Bytes::from(item.encode_to_vec());
        check_item(&bytes, index).map(|()| bytes)
    };
    items.iter().enumerate().map(encode).collect()
}

/// What an item asks for beside being delivered; none for one that asks for nothing. `index` names it in the error, and
/// `now` is the room's clock, by which a moment may be too far away.
pub fn item_options(item: &v1::NewItem, index: usize, now: Timestamp) -> Result<Option<ItemOptions>, ApiError> {
    let name = |field: &str| format!("items[{index}].{field}");
    let invalid = |field: &str, rule: &str| ApiError::field_invalid(&name(field), rule);
    let ms = |field: &str, duration: Option<&prost_types::Duration>| match duration.map(time::ms_of_duration) {
        None => Ok(None),
        Some(Some(ms)) if ms <= MAX_ITEM_TIME_MS => Ok(Some(ms)),
        Some(_) => Err(invalid(field, "must be 0 to 366 days")),
    };
    let priority = u8::try_from(item.priority).ok().filter(|priority| u32::from(*priority) <= MAX_PRIORITY);
    let priority = priority.ok_or_else(|| invalid("priority", "must be 0 to 9"))?;
    check(item.group.len(), MAX_GROUP_BYTES, || name("group"))?;
    check(item.message_id.len(), MAX_MESSAGE_ID_BYTES, || name("message_id"))?;

    let delay = ms("delay", item.delay.as_ref())?;
    let not_before = match (delay, &item.deliver_time) {
        (Some(_), Some(_)) => return Err(invalid("deliver_time", "must not be set beside delay")),
        (None | Some(0), None) => NotBefore::Now,
        (Some(ms), None) => NotBefore::After(ms),
        (None, Some(at)) => {
            let at = time::timestamp_of(at).filter(|at| at.since_ms(now) <= MAX_ITEM_TIME_MS);
            NotBefore::At(
                at.ok_or_else(|| invalid("deliver_time", "must be a moment of the next 366 days, or a past one"))?,
            )
        }
    };
    if !item.group.is_empty() && not_before != NotBefore::Now {
        let field = if delay.is_some() { "delay" } else { "deliver_time" };
        return Err(invalid(
            field,
            "must not be set on an item of a group: its turn is when the one before is settled",
        ));
    }
    let ttl_ms = ms("time_to_live", item.time_to_live.as_ref())?;
    if ttl_ms == Some(0) {
        return Err(invalid("time_to_live", "must be 1 millisecond to 366 days"));
    }
    let given = |text: &str| (!text.is_empty()).then(|| Bytes::copy_from_slice(text.as_bytes()));
    let (group, message_id) = (given(&item.group), given(&item.message_id));
    let options = ItemOptions { priority, not_before, ttl_ms, group, message_id };
    Ok((options != ItemOptions::default()).then_some(options))
}

/// A `request_id` is absent (empty) or at most 64 bytes.
pub fn check_request_id(request_id: &str) -> Result<(), ApiError> {
    at_most("request_id", MAX_REQUEST_ID_BYTES, request_id.len())
}

/// A delivery as its receiver gets it; `clock` is the applied clock of the moment. The body stays a slice.
pub fn delivery(item: DeliveredItem, clock: Timestamp) -> Result<v1::Delivery, Malformed> {
    let sent = v1::NewItem::decode(item.item).map_err(|_| Malformed("a stored item is not readable"))?;
    Ok(v1::Delivery {
        id: Some(v1::DeliveryId { item: item.delivery.item, attempt: item.delivery.attempt }),
        body: sent.body,
        content_type: sent.content_type,
        headers: sent.headers,
        send_time: Some(time::timestamp(item.send_time)),
        sender: item.sender.to_string(),
        revision: item.revision.0,
        lease_remaining: Some(time::duration_of_ms(item.deadline.since_ms(clock))),
        priority: item.priority.into(),
        group: text(item.group)?,
        message_id: sent.message_id,
        dead_letter: item.dead.map(dead_letter).transpose()?,
    })
}

/// An item where it stands, for one who looks at it.
pub fn queue_item(view: ItemView) -> Result<v1::QueueItem, Malformed> {
    let state = match view.place {
        ItemPlace::Ready => v1::ItemState::Ready,
        ItemPlace::InFlight => v1::ItemState::Leased,
        ItemPlace::Delayed => v1::ItemState::Delayed,
        ItemPlace::Grouped => v1::ItemState::Grouped,
    };
    let content = v1::NewItem::decode(view.item).map_err(|_| Malformed("a stored item is not readable"))?;
    let (consumer, lease_end) = view.held.unzip();
    Ok(v1::QueueItem {
        item: view.number,
        state: state.into(),
        content: Some(content),
        send_time: Some(time::timestamp(view.send_time)),
        sender: view.sender.to_string(),
        revision: view.revision.0,
        attempts: view.attempts,
        ready_time: view.due.map(time::timestamp),
        expire_time: view.expires.map(time::timestamp),
        consumer: consumer.unwrap_or_default(),
        lease_end_time: lease_end.map(time::timestamp),
        dead_letter: view.dead.map(dead_letter).transpose()?,
    })
}

fn dead_letter(dead: DeadLetter) -> Result<v1::DeadLetter, Malformed> {
    let reason = match dead.reason {
        DeadReason::TooManyAttempts => v1::dead_letter::Reason::TooManyAttempts,
        DeadReason::Rejected => v1::dead_letter::Reason::Rejected,
    };
    let failure = |failure: Failure| {
        let kind = match failure.kind {
            FailureKind::LeaseEnded => v1::failed_delivery::Kind::LeaseEnded,
            FailureKind::Nacked => v1::failed_delivery::Kind::Nacked,
            FailureKind::Rejected => v1::failed_delivery::Kind::Rejected,
        };
        v1::FailedDelivery {
            attempt: failure.attempt,
            consumer: failure.consumer,
            time: Some(time::timestamp(failure.time)),
            kind: kind.into(),
            reason: failure.reason,
        }
    };
    Ok(v1::DeadLetter {
        queue: dead.queue.to_string(),
        item: dead.item,
        time: Some(time::timestamp(dead.time)),
        reason: reason.into(),
        attempts: dead.attempts,
        group: text(dead.group)?,
        failures: dead.failures.into_iter().map(failure).collect(),
    })
}

/// A group, which was text when it was sent.
fn text(group: Option<Bytes>) -> Result<String, Malformed> {
    String::from_utf8(group.unwrap_or_default().into()).map_err(|_| Malformed("a stored group is not readable"))
}

fn check_count(count: usize) -> Result<(), ApiError> {
    if count == 0 {
        return Err(ApiError::field_invalid("items", "must not be empty"));
    }
    at_most("items", MAX_BATCH_ITEMS, count)
}

fn check_item(item: &[u8], index: usize) -> Result<(), ApiError> {
    let name = |field: &str| format!("items[{index}].{field}");
    let mut headers = Headers::default();
    for field in Fields::of(item) {
        match field? {
            (1, value) => check(value.bytes()?.len(), MAX_ITEM_BYTES, || name("body"))?,
            (2, value) => check(value.text()?.len(), MAX_CONTENT_TYPE_BYTES, || name("content_type"))?,
            (3, value) => headers.add(value.bytes()?, name)?,
            _ => {}
        }
    }
    headers.check(name)
}

/// The headers of one item or message, held against their limits.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    count: usize,
    bytes: usize,
}

impl Headers {
    /// `name` makes the full name of a field of the item or message.
    pub(crate) fn add(&mut self, entry: &[u8], name: impl Fn(&str) -> String) -> Result<(), ApiError> {
        self.count += 1;
        check(self.count, MAX_LABELS, || name("headers"))?;
        let (mut key, mut text) = ("", "");
        for field in Fields::of(entry) {
            match field? {
                (1, value) => key = value.text()?,
                (2, value) => text = value.text()?,
                _ => {}
            }
        }
        check(key.len(), MAX_LABEL_KEY_BYTES, || name("headers key"))?;
        check(text.len(), MAX_LABEL_VALUE_BYTES, || name("headers value"))?;
        self.bytes += key.len() + text.len();
        Ok(())
    }

    /// All of them together.
    pub(crate) fn check(self, name: impl Fn(&str) -> String) -> Result<(), ApiError> {
        check(self.bytes, MAX_HEADERS_BYTES, || name("headers"))
    }
}

pub(crate) fn at_most(field: &str, limit: usize, actual: usize) -> Result<(), ApiError> {
    check(actual, limit, || field.to_owned())
}

/// The name is made only for a refusal.
pub(crate) fn check(actual: usize, limit: usize, field: impl FnOnce() -> String) -> Result<(), ApiError> {
    if actual > limit { Err(ApiError::too_large(&field(), limit, actual)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use conclave_types::{DeliveryId, Revision};
    use proptest::prelude::*;

    use super::*;
    use crate::v1::ErrorReason;

    fn item(body: Vec<u8>) -> v1::NewItem {
        v1::NewItem { body: body.into(), content_type: "text/plain".into(), ..Default::default() }
    }

    fn request(items: Vec<v1::NewItem>) -> Bytes {
        let request = v1::SendItemsRequest {
            parent: "rooms/a/queues/b".into(),
            items,
            create: Some(false),
            request_id: "once".into(),
        };
        request.encode_to_vec().into()
    }

    proptest! {
        #[test]
        fn items_are_found_as_they_were_sent(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
            let items: Vec<_> = bodies.into_iter().map(item).collect();
            let bytes = request(items.clone());
            let send = ReceivedSend::read(&bytes).expect("a send");
            prop_assert_eq!((send.parent, send.create, send.request_id), ("rooms/a/queues/b", false, "once"));
            prop_assert_eq!(&send.items, &encode_items(&items).expect("small items"));
            prop_assert!(send.items.iter().all(|item| bytes.as_ptr_range().contains(&item.as_ptr())));
        }

        /// Never panics, and what it accepts generated code accepts too.
        #[test]
        fn strange_requests_are_read_as_generated_code_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(bytes);
            if let (Ok(send), Ok(request)) = (ReceivedSend::read(&bytes), v1::SendItemsRequest::decode(bytes.clone())) {
                prop_assert_eq!(send.items.len(), request.items.len());
                prop_assert_eq!(send.parent, request.parent);
            }
        }
    }

    fn refusal(items: Vec<v1::NewItem>) -> (ErrorReason, BTreeMap<&'static str, String>) {
        let bytes = request(items.clone());
        let error = ReceivedSend::read(&bytes).expect_err("over a limit");
        assert_eq!(encode_items(&items), Err(error.clone()));
        (error.reason, error.metadata)
    }

    #[test]
    fn each_limit_is_named_with_its_field_and_both_numbers() {
        let labelled = |count: usize, key: usize, value: usize| {
            let headers = (0..count).map(|index| (format!("{index:0key$}"), "v".repeat(value))).collect();
            vec![item(vec![]), v1::NewItem { headers, ..Default::default() }]
        };
        let typed = v1::NewItem { content_type: "x".repeat(129), ..Default::default() };
        let cases = [
            (vec![item(vec![0; MAX_ITEM_BYTES + 1])], "items[0].body", MAX_ITEM_BYTES, MAX_ITEM_BYTES + 1),
            (vec![typed], "items[0].content_type", 128, 129),
            (labelled(65, 3, 1), "items[1].headers", 64, 65),
            (labelled(1, 129, 1), "items[1].headers key", 128, 129),
            (labelled(1, 1, 4_097), "items[1].headers value", 4_096, 4_097),
            (labelled(4, 1, 4_096), "items[1].headers", 16_384, 16_388),
            (vec![v1::NewItem::default(); 129], "items", 128, 129),
        ];
        for (items, field, limit, actual) in cases {
            let (reason, metadata) = refusal(items);
            assert_eq!(reason, ErrorReason::TooLarge, "{field}");
            let told = ["field", "limit", "actual"].map(|key| metadata[key].clone());
            assert_eq!(told, [field.to_owned(), limit.to_string(), actual.to_string()]);
        }
        assert_eq!(refusal(vec![]).0, ErrorReason::FieldInvalid);
    }

    #[test]
    fn an_item_at_its_limit_passes() {
        let bytes = request(vec![item(vec![7; MAX_ITEM_BYTES]); 2]);
        assert!(ReceivedSend::read(&bytes).is_ok());
    }

    #[test]
    fn text_that_is_not_utf8_is_malformed() {
        // An item whose content type is one byte 0xff.
        let bytes = Bytes::from_static(&[0x12, 0x03, 0x12, 0x01, 0xff]);
        assert_eq!(ReceivedSend::read(&bytes).map_err(|error| error.reason), Err(ErrorReason::Malformed));
    }

    #[test]
    fn a_delivery_carries_the_item_and_the_remaining_lease() {
        let sent = item(b"hello".to_vec());
        let delivered = DeliveredItem {
            delivery: DeliveryId { item: 3, attempt: 2 },
            item: sent.encode_to_vec().into(),
            sender: "ada".parse().expect("a valid name"),
            send_time: Timestamp(1_500),
            revision: Revision(9),
            deadline: Timestamp(31_500),
            priority: 7,
            group: Some(Bytes::from_static(b"g")),
            dead: None,
        };
        let delivery = delivery(delivered, Timestamp(30_000)).expect("a readable item");
        assert_eq!((delivery.body, delivery.content_type.as_str()), (sent.body, "text/plain"));
        assert_eq!(delivery.lease_remaining, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(delivery.send_time, Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }));
    }
}
