//! Values past their limits and out of their ranges.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::{
    CreateRoomRequest, DeleteRoomRequest, ListQueuesRequest, ListRoomsRequest, NewItem, ReceiveItemsRequest,
    SendItemsRequest, UpdateRoomRequest,
};
use conclave_types::limits::{
    MAX_BATCH_ITEMS, MAX_ITEM_BYTES, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS, MAX_REQUEST_ID_BYTES,
    MAX_UNARY_BYTES,
};
use prost::Message;
use prost_types::{Duration, FieldMask};
use tonic::Code;

use super::{ACK, CREATE, Call, DELETE, LIST, LIST_QUEUES, RECEIVE, SEND, UPDATE, ack, call, create, send, update};
use crate::expected::{all_too_large, invalid, refused, too_large};
use crate::place::{QUEUE, ROOM};

pub fn sizes() -> Vec<Call> {
    let item = |item| SendItemsRequest { parent: QUEUE.into(), items: vec![item], ..Default::default() };
    let body = Bytes::from(vec![0; MAX_ITEM_BYTES + 1]);
    let labels = |count: usize, key: usize, value: usize| -> BTreeMap<String, String> {
        (0..count).map(|number| (format!("{number:0key$}"), "v".repeat(value))).collect()
    };
    let metadata = |metadata| CreateRoomRequest { metadata, ..create("rooms/labelled") };
    let headers = |headers| item(NewItem { headers, ..Default::default() });
    let huge = SendItemsRequest { request_id: "r".repeat(MAX_UNARY_BYTES), ..send(QUEUE, 1) };
    let huge_bytes = huge.encoded_len();
    let receive = ReceiveItemsRequest { parent: QUEUE.into(), max_items: 129, ..Default::default() };
    let request_id = "i".repeat(MAX_REQUEST_ID_BYTES + 1);
    let content_type = NewItem { content_type: "t".repeat(129), ..Default::default() };
    let (batch, value, key) = (MAX_BATCH_ITEMS, MAX_LABEL_VALUE_BYTES, MAX_LABEL_KEY_BYTES);
    vec![
        call("a request over 4 MiB", SEND, huge, all_too_large("request", MAX_UNARY_BYTES, huge_bytes)),
        call(
            "an item over 256 KiB",
            SEND,
            item(NewItem { body, ..Default::default() }),
            too_large("items[0].body", MAX_ITEM_BYTES, MAX_ITEM_BYTES + 1),
        ),
        call("a content type over 128 bytes", SEND, item(content_type), too_large("items[0].content_type", 128, 129)),
        call("65 headers", SEND, headers(labels(65, 3, 1)), too_large("items[0].headers", MAX_LABELS, 65)),
        call(
            "a header's long key",
            SEND,
            headers(labels(1, key + 1, 1)),
            too_large("items[0].headers key", key, key + 1),
        ),
        call(
            "a header's long value",
            SEND,
            headers(labels(1, 1, value + 1)),
            too_large("items[0].headers value", value, value + 1),
        ),
        call(
            "headers over 16 KiB",
            SEND,
            headers(labels(5, 1, value)),
            too_large("items[0].headers", 16 << 10, 5 * (value + 1)),
        ),
        call("129 items", SEND, send(QUEUE, batch + 1), too_large("items", batch, batch + 1)),
        call(
            "129 acknowledgements",
            ACK,
            ack(QUEUE, &[(1, 1); MAX_BATCH_ITEMS + 1]),
            too_large("deliveries", batch, batch + 1),
        ),
        call("129 items at once", RECEIVE, receive, too_large("max_items", batch, batch + 1)),
        call("65 labels", CREATE, metadata(labels(65, 3, 1)), too_large("metadata", MAX_LABELS, 65)),
        call("a label's long key", CREATE, metadata(labels(1, key + 1, 1)), too_large("metadata", key, key + 1)),
        call(
            "a label's long value",
            CREATE,
            metadata(labels(1, 1, value + 1)),
            too_large("metadata", value, value + 1),
        ),
        call(
            "a request id of 65 bytes",
            SEND,
            SendItemsRequest { request_id, ..send(QUEUE, 1) },
            too_large("request_id", 64, 65),
        ),
    ]
}

pub fn fields() -> Vec<Call> {
    let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
    let wait = |wait| ReceiveItemsRequest { parent: QUEUE.into(), wait, ..Default::default() };
    let lease = |lease| ReceiveItemsRequest { parent: QUEUE.into(), lease, ..Default::default() };
    let mask = Some(FieldMask { paths: vec!["metadata".into(), "revision".into()] });
    let page = |page_token: &str| ListRoomsRequest { page_token: page_token.into(), ..Default::default() };
    let queues = ListQueuesRequest { parent: ROOM.into(), page_token: "a/b".into(), ..Default::default() };
    let etag = |etag: &str| UpdateRoomRequest { etag: etag.into(), ..update(ROOM) };
    let mismatch = || refused(Code::Aborted, Reason::EtagMismatch);
    let delete = DeleteRoomRequest { name: ROOM.into(), etag: "999999-1".into(), ..Default::default() };
    let empty_key = CreateRoomRequest { metadata: BTreeMap::from([Default::default()]), ..create("rooms/labelled") };
    vec![
        call("an update with another etag", UPDATE, etag("999999-1"), mismatch()),
        call("a delete with another etag", DELETE, delete, mismatch()),
        call("an etag that is none", UPDATE, etag("yesterday"), invalid("etag")),
        call(
            "an update mask with an unknown path",
            UPDATE,
            UpdateRoomRequest { update_mask: mask, ..update(ROOM) },
            invalid("update_mask"),
        ),
        call("a label without a key", CREATE, empty_key, invalid("metadata")),
        call("a page token that is none", LIST, page("yesterday"), invalid("page_token")),
        call("a page token of a shard that is none", LIST, page("4095"), invalid("page_token")),
        call(
            "a page of 1,001 rooms",
            LIST,
            ListRoomsRequest { page_size: 1_001, ..Default::default() },
            invalid("page_size"),
        ),
        call(
            "a list of rooms in a room",
            LIST,
            ListRoomsRequest { parent: ROOM.into(), ..Default::default() },
            invalid("parent"),
        ),
        call("a page token of queues that is none", LIST_QUEUES, queues, invalid("page_token")),
        call("no items", SEND, send(QUEUE, 0), invalid("items")),
        call("no deliveries", ACK, ack(QUEUE, &[]), invalid("deliveries")),
        call("a negative wait", RECEIVE, wait(seconds(-1)), invalid("wait")),
        call("a wait over a minute", RECEIVE, wait(seconds(61)), invalid("wait")),
        call(
            "a wait that no clock counts",
            RECEIVE,
            wait(Some(Duration { seconds: i64::MIN, nanos: i32::MIN })),
            invalid("wait"),
        ),
        call("a wait for ever", RECEIVE, wait(seconds(i64::MAX)), invalid("wait")),
        call("a lease for ever", RECEIVE, lease(seconds(i64::MAX)), invalid("lease")),
        call("no lease at all", RECEIVE, lease(seconds(0)), invalid("lease")),
        call(
            "a lease under a second",
            RECEIVE,
            lease(Some(Duration { seconds: 0, nanos: 999_000_000 })),
            invalid("lease"),
        ),
        call("a lease over 12 hours", RECEIVE, lease(seconds(12 * 3_600 + 1)), invalid("lease")),
        call("a negative lease", RECEIVE, lease(seconds(-30)), invalid("lease")),
    ]
}

pub fn deliveries() -> Vec<Call> {
    let unknown = |index: usize| refused(Code::InvalidArgument, Reason::DeliveryUnknown).with("index", index);
    vec![
        call("an item that was never sent", ACK, ack(QUEUE, &[(99, 1)]), unknown(0)),
        call("an item that was never received", ACK, ack(QUEUE, &[(1, 1)]), unknown(0)),
        call("item 0", ACK, ack(QUEUE, &[(0, 1)]), unknown(0)),
        call("attempt 0", ACK, ack(QUEUE, &[(1, 0)]), unknown(0)),
        call("the last item and attempt there could be", ACK, ack(QUEUE, &[(u64::MAX, u32::MAX)]), unknown(0)),
    ]
}
