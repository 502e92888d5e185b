//! Unary calls with one mistake each.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use bytes::Bytes;
use conclave_auth::{OpenRooms, Rights};
use conclave_client::ClientError;
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::{
    AckDeliveriesRequest, CreateRoomRequest, DeleteRoomRequest, DeliveryId, GetQueueRequest, GetRoomRequest,
    ListQueuesRequest, ListRoomsRequest, NewItem, ReceiveItemsRequest, SendItemsRequest, UpdateRoomRequest,
};
use conclave_tests::raw::RawClient;
use conclave_types::limits::{
    MAX_BATCH_ITEMS, MAX_ITEM_BYTES, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS, MAX_REQUEST_ID_BYTES,
    MAX_UNARY_BYTES,
};
use prost::Message;
use prost_types::{Duration, FieldMask};
use serde_json::json;
use tonic::Code;

use super::expected::{Expected, all_too_large, bad_name, invalid, refused, too_large};
use super::place::{Place, QUEUE, ROOM};

/// Who calls.
enum As {
    /// With every right.
    Admin,
    Nobody,
    /// With this `authorization`.
    Authorization(String),
    /// Past the gateway, with these claims if any.
    ToHost(Option<Vec<u8>>),
}

pub struct Call {
    pub name: &'static str,
    caller: As,
    method: &'static str,
    messages: Vec<Bytes>,
    expected: Expected,
}

impl Call {
    pub async fn run(self, place: &Place) -> Result<()> {
        let client: RawClient = match self.caller {
            As::Admin => place.admin.clone(),
            As::Nobody => place.raw.clone(),
            As::Authorization(authorization) => place.raw.with_authorization(&authorization)?,
            As::ToHost(None) => place.host.clone(),
            As::ToHost(Some(claims)) => place.host.with_binary(conclave_auth::CLAIMS_HEADER, &claims),
        };
        match client.call(self.method, self.messages).await {
            Ok(_) => bail!("the call succeeded"),
            Err(status) => self.expected.check(&ClientError::from(status)),
        }
    }

    fn by(self, caller: As) -> Call {
        Call { caller, ..self }
    }
}

fn call(name: &'static str, method: &'static str, request: impl Message, expected: Expected) -> Call {
    bytes(name, method, vec![request.encode_to_vec().into()], expected)
}

fn bytes(name: &'static str, method: &'static str, messages: Vec<Bytes>, expected: Expected) -> Call {
    Call { name, caller: As::Admin, method, messages, expected }
}

const CREATE: &str = "RoomService/CreateRoom";
const GET: &str = "RoomService/GetRoom";
const LIST: &str = "RoomService/ListRooms";
const UPDATE: &str = "RoomService/UpdateRoom";
const DELETE: &str = "RoomService/DeleteRoom";
const SEND: &str = "QueueService/SendItems";
const RECEIVE: &str = "QueueService/ReceiveItems";
const ACK: &str = "QueueService/AckDeliveries";
const GET_QUEUE: &str = "QueueService/GetQueue";
const LIST_QUEUES: &str = "QueueService/ListQueues";

pub fn table(place: &Place) -> Vec<Call> {
    let mut all = Vec::new();
    all.extend(malformed());
    all.extend(names());
    all.extend(missing());
    all.extend(sizes());
    all.extend(fields());
    all.extend(deliveries());
    all.extend(tokens(place));
    all.extend(scopes(place));
    all
}

fn malformed() -> Vec<Call> {
    let malformed = || refused(Code::InvalidArgument, Reason::Malformed);
    let one = |message: &[u8]| vec![Bytes::copy_from_slice(message)];
    // A proper resource in field 1, then `rest`.
    let after_parent = |rest: &[u8]| {
        let mut message = SendItemsRequest { parent: QUEUE.into(), ..Default::default() }.encode_to_vec();
        message.extend_from_slice(rest);
        vec![Bytes::from(message)]
    };
    let room = Bytes::from(GetRoomRequest { name: ROOM.into(), ..Default::default() }.encode_to_vec());
    vec![
        bytes("random bytes", GET, one(&[0xff; 40]), malformed()),
        bytes("a length past the end", GET, one(&[0x0a, 0x7f, b'r']), malformed()),
        bytes("a name that is no UTF-8", GET, one(&[0x0a, 0x02, 0xc3, 0x28]), malformed()),
        bytes("a name of the wrong wire type", GET, one(&[0x08, 0x01]), malformed()),
        bytes("the end inside a field", SEND, after_parent(&[0x12, 0x05, 0x0a]), malformed()),
        bytes("an item that is no item", SEND, after_parent(&[0x12, 0x03, 0xff, 0xff, 0xff]), malformed()),
        bytes("an item's body of the wrong wire type", SEND, after_parent(&[0x12, 0x02, 0x08, 0x01]), malformed()),
        bytes("no message", GET, vec![], malformed()),
        bytes("two messages", GET, vec![room.clone(), room], malformed()),
        bytes("a page that is none", LIST, one(&[0x10, 0xff]), malformed()),
        bytes("a method that does not exist", "RoomService/BurnRoom", one(&[]), refused(Code::Unimplemented, Reason::Unimplemented)),
        bytes("a service that does not exist", "FireService/Burn", one(&[]), refused(Code::Unimplemented, Reason::Unimplemented)),
    ]
}

fn names() -> Vec<Call> {
    let get = |name: &'static str, room: &str, field| call(name, GET, get_room(room), bad_name(field));
    let queue = |name: &'static str, queue: &str| {
        call(name, GET_QUEUE, GetQueueRequest { name: format!("{ROOM}/queues/{queue}"), ..Default::default() }, bad_name("queue"))
    };
    let consumer = ReceiveItemsRequest { parent: QUEUE.into(), consumer: "a/b".into(), ..Default::default() };
    let long_consumer = ReceiveItemsRequest { parent: QUEUE.into(), consumer: "c".repeat(129), ..Default::default() };
    vec![
        get("no name", "", "resource"),
        get("a room without its collection", "here", "resource"),
        get("a queue instead of a room", QUEUE, "resource"),
        get("an empty room name", "rooms/", "room"),
        get("a room in capitals", "rooms/Here", "room"),
        get("a room that begins with a hyphen", "rooms/-here", "room"),
        get("a room of 64 characters", &format!("rooms/{}", "r".repeat(64)), "room"),
        get("a room beyond ASCII", "rooms/hä", "room"),
        call("a created room's bad name", CREATE, create("rooms/not_good"), bad_name("room")),
        call("a deleted room's bad name", DELETE, DeleteRoomRequest { name: "rooms/ ".into(), ..Default::default() }, bad_name("room")),
        call("a room instead of a queue", GET_QUEUE, GetQueueRequest { name: ROOM.into(), ..Default::default() }, bad_name("resource")),
        queue("an empty queue name", ""),
        queue("a queue with a slash", "a/b"),
        queue("a queue with a control character", "a\u{7}"),
        queue("a queue of 129 bytes", &"q".repeat(129)),
        call("a sent queue's bad name", SEND, send("rooms/here/queues/\n", 1), bad_name("queue")),
        call("a consumer with a slash", RECEIVE, consumer, bad_name("participant")),
        call("a consumer of 129 bytes", RECEIVE, long_consumer, bad_name("participant")),
    ]
}

fn missing() -> Vec<Call> {
    let no_room = || refused(Code::NotFound, Reason::RoomNotFound);
    let no_queue = || refused(Code::NotFound, Reason::QueueNotFound);
    let (nowhere, nothing) = ("rooms/nowhere", "rooms/here/queues/nothing");
    let queue_nowhere = "rooms/nowhere/queues/jobs";
    let receive = |parent: &str| ReceiveItemsRequest { parent: parent.into(), create: Some(false), ..Default::default() };
    vec![
        call("get an unknown room", GET, get_room(nowhere), no_room()),
        call("update an unknown room", UPDATE, update(nowhere), no_room()),
        call("delete an unknown room", DELETE, DeleteRoomRequest { name: nowhere.into(), ..Default::default() }, no_room()),
        call("send to an unknown room", SEND, send(queue_nowhere, 1), no_room()),
        call("receive from an unknown room", RECEIVE, receive(queue_nowhere), no_room()),
        call("acknowledge in an unknown room", ACK, ack(queue_nowhere, &[(1, 1)]), no_room()),
        call("get a queue of an unknown room", GET_QUEUE, GetQueueRequest { name: queue_nowhere.into(), ..Default::default() }, no_room()),
        call("list queues of an unknown room", LIST_QUEUES, ListQueuesRequest { parent: nowhere.into(), ..Default::default() }, no_room()),
        call("get an unknown queue", GET_QUEUE, GetQueueRequest { name: nothing.into(), ..Default::default() }, no_queue()),
        call("send to an unknown queue", SEND, SendItemsRequest { create: Some(false), ..send(nothing, 1) }, no_queue()),
        call("receive from an unknown queue", RECEIVE, receive(nothing), no_queue()),
        call("acknowledge in an unknown queue", ACK, ack(nothing, &[(1, 1)]), no_queue()),
        call("create a room again", CREATE, create(ROOM), refused(Code::AlreadyExists, Reason::RoomExists)),
    ]
}

fn sizes() -> Vec<Call> {
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
        call("an item over 256 KiB", SEND, item(NewItem { body, ..Default::default() }), too_large("items[0].body", MAX_ITEM_BYTES, MAX_ITEM_BYTES + 1)),
        call("a content type over 128 bytes", SEND, item(content_type), too_large("items[0].content_type", 128, 129)),
        call("65 headers", SEND, headers(labels(65, 3, 1)), too_large("items[0].headers", MAX_LABELS, 65)),
        call("a header's long key", SEND, headers(labels(1, key + 1, 1)), too_large("items[0].headers key", key, key + 1)),
        call("a header's long value", SEND, headers(labels(1, 1, value + 1)), too_large("items[0].headers value", value, value + 1)),
        call("headers over 16 KiB", SEND, headers(labels(5, 1, value)), too_large("items[0].headers", 16 << 10, 5 * (value + 1))),
        call("129 items", SEND, send(QUEUE, batch + 1), too_large("items", batch, batch + 1)),
        call("129 acknowledgements", ACK, ack(QUEUE, &[(1, 1); MAX_BATCH_ITEMS + 1]), too_large("deliveries", batch, batch + 1)),
        call("129 items at once", RECEIVE, receive, too_large("max_items", batch, batch + 1)),
        call("65 labels", CREATE, metadata(labels(65, 3, 1)), too_large("metadata", MAX_LABELS, 65)),
        call("a label's long key", CREATE, metadata(labels(1, key + 1, 1)), too_large("metadata", key, key + 1)),
        call("a label's long value", CREATE, metadata(labels(1, 1, value + 1)), too_large("metadata", value, value + 1)),
        call("a request id of 65 bytes", SEND, SendItemsRequest { request_id, ..send(QUEUE, 1) }, too_large("request_id", 64, 65)),
    ]
}

fn fields() -> Vec<Call> {
    let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
    let wait = |wait| ReceiveItemsRequest { parent: QUEUE.into(), wait, ..Default::default() };
    let lease = |lease| ReceiveItemsRequest { parent: QUEUE.into(), lease, ..Default::default() };
    let mask = Some(FieldMask { paths: vec!["metadata".into(), "revision".into()] });
    let page = |page_token: &str| ListRoomsRequest { page_token: page_token.into(), ..Default::default() };
    let queues = ListQueuesRequest { parent: ROOM.into(), page_token: "a/b".into(), ..Default::default() };
    let etag = |etag: &str| UpdateRoomRequest { etag: etag.into(), ..update(ROOM) };
    let mismatch = || refused(Code::Aborted, Reason::EtagMismatch);
    let delete = DeleteRoomRequest { name: ROOM.into(), etag: "999999".into(), ..Default::default() };
    let empty_key = CreateRoomRequest { metadata: BTreeMap::from([Default::default()]), ..create("rooms/labelled") };
    vec![
        call("an update with another etag", UPDATE, etag("999999"), mismatch()),
        call("a delete with another etag", DELETE, delete, mismatch()),
        call("an etag that is none", UPDATE, etag("yesterday"), invalid("etag")),
        call("an update mask with an unknown path", UPDATE, UpdateRoomRequest { update_mask: mask, ..update(ROOM) }, invalid("update_mask")),
        call("a label without a key", CREATE, empty_key, invalid("metadata")),
        call("a page token that is none", LIST, page("yesterday"), invalid("page_token")),
        call("a page token of a shard that is none", LIST, page("4095"), invalid("page_token")),
        call("a page of 1,001 rooms", LIST, ListRoomsRequest { page_size: 1_001, ..Default::default() }, invalid("page_size")),
        call("a list of rooms in a room", LIST, ListRoomsRequest { parent: ROOM.into(), ..Default::default() }, invalid("parent")),
        call("a page token of queues that is none", LIST_QUEUES, queues, invalid("page_token")),
        call("no items", SEND, send(QUEUE, 0), invalid("items")),
        call("no deliveries", ACK, ack(QUEUE, &[]), invalid("deliveries")),
        call("a negative wait", RECEIVE, wait(seconds(-1)), invalid("wait")),
        call("a wait over a minute", RECEIVE, wait(seconds(61)), invalid("wait")),
        call("a wait that no clock counts", RECEIVE, wait(Some(Duration { seconds: i64::MIN, nanos: i32::MIN })), invalid("wait")),
        call("no lease at all", RECEIVE, lease(seconds(0)), invalid("lease")),
        call("a lease under a second", RECEIVE, lease(Some(Duration { seconds: 0, nanos: 999_000_000 })), invalid("lease")),
        call("a lease over 12 hours", RECEIVE, lease(seconds(12 * 3_600 + 1)), invalid("lease")),
        call("a negative lease", RECEIVE, lease(seconds(-30)), invalid("lease")),
    ]
}

fn deliveries() -> Vec<Call> {
    let unknown = |index: usize| refused(Code::InvalidArgument, Reason::DeliveryUnknown).with("index", index);
    vec![
        call("an item that was never sent", ACK, ack(QUEUE, &[(99, 1)]), unknown(0)),
        call("an item that was never received", ACK, ack(QUEUE, &[(1, 1)]), unknown(0)),
        call("item 0", ACK, ack(QUEUE, &[(0, 1)]), unknown(0)),
        call("attempt 0", ACK, ack(QUEUE, &[(1, 0)]), unknown(0)),
        call("the last item and attempt there could be", ACK, ack(QUEUE, &[(u64::MAX, u32::MAX)]), unknown(0)),
    ]
}

fn tokens(place: &Place) -> Vec<Call> {
    let unauthenticated = |reason| refused(Code::Unauthenticated, reason);
    let get = |name, caller, reason| call(name, GET, get_room(ROOM), unauthenticated(reason)).by(caller);
    let bearer = |token: Result<String>| As::Authorization(format!("Bearer {}", token.expect("a token is made")));
    let saying = |claims| bearer(place.token_saying(claims));
    let grants = json!([{"name": "api", "scope": {"admin": {}}}, {"name": "api", "scope": {"rooms": {}}}]);
    let (missing, wrong) = (Reason::TokenMissing, Reason::TokenInvalid);
    vec![
        get("no token", As::Nobody, wrong),
        get("an empty token", As::Authorization("Bearer ".into()), missing),
        get("another scheme", As::Authorization("Basic YWRtaW46YWRtaW4=".into()), wrong),
        get("a token that is none", bearer(Ok("let-me-in".into())), wrong),
        get("a forged token", bearer(place.forged_token()), wrong),
        get("a token of an unknown key", bearer(place.token_of_unknown_key()), wrong),
        get("an unsigned token", bearer(place.unsigned_token()), wrong),
        get("a token of another project", bearer(place.token_of_other_project()), wrong),
        get("an expired token", bearer(place.expired_token()), Reason::TokenExpired),
        get("a token of a year ago", saying(json!({"exp": 1})), Reason::TokenExpired),
        get("a token without an end", saying(json!({"exp": null})), wrong),
        get("a token of tomorrow", saying(json!({"nbf": 9_999_999_999_u64})), wrong),
        get("a token for nobody", saying(json!({"name": ""})), wrong),
        get("a token for a name with a slash", saying(json!({"name": "a/b"})), wrong),
        get("a token for a name that is too long", saying(json!({"name": "n".repeat(129)})), wrong),
        get("a token with two grants of one kind", saying(json!({"grants": grants})), wrong),
        get("a token of 9 KiB", saying(json!({"version": "v".repeat(9 << 10)})), wrong),
        get("a host asked without claims", As::ToHost(None), missing),
        get("a host asked with invented claims", As::ToHost(Some(vec![1; 120])), wrong),
    ]
}

fn scopes(place: &Place) -> Vec<Call> {
    let bearer = |rooms, rights| format!("Bearer {}", place.token("guest", rooms, rights).expect("a token is made"));
    let nothing = bearer(OpenRooms::All, Rights::default());
    let elsewhere = bearer(OpenRooms::One("elsewhere".parse().expect("a room")), Rights::admin());
    let needs = |scope: &str| refused(Code::PermissionDenied, Reason::ScopeMissing).with("needs", scope);
    let guest = |call: Call| call.by(As::Authorization(nothing.clone()));
    let stranger = |call: Call| call.by(As::Authorization(elsewhere.clone()));
    let receive = || ReceiveItemsRequest { parent: QUEUE.into(), ..Default::default() };
    let this_room = || needs("a grant for this room");
    vec![
        guest(call("create without the scope", CREATE, create("rooms/new"), needs("rooms.write"))),
        guest(call("get without the scope", GET, get_room(ROOM), needs("rooms.read"))),
        guest(call("list without the scope", LIST, ListRoomsRequest::default(), needs("rooms.list"))),
        guest(call("update without the scope", UPDATE, update(ROOM), needs("rooms.write"))),
        guest(call("delete without the scope", DELETE, DeleteRoomRequest { name: ROOM.into(), ..Default::default() }, needs("rooms.write"))),
        guest(call("send without the scope", SEND, send(QUEUE, 1), needs("queues.send"))),
        guest(call("receive without the scope", RECEIVE, receive(), needs("queues.receive"))),
        guest(call("acknowledge without the scope", ACK, ack(QUEUE, &[(1, 1)]), needs("queues.receive"))),
        guest(call("get a queue without the scope", GET_QUEUE, GetQueueRequest { name: QUEUE.into(), ..Default::default() }, needs("queues.list"))),
        guest(call("list queues without the scope", LIST_QUEUES, ListQueuesRequest { parent: ROOM.into(), ..Default::default() }, needs("queues.list"))),
        stranger(call("a token of another room", GET, get_room(ROOM), this_room())),
        stranger(call("create with a token of another room", CREATE, create("rooms/new"), this_room())),
        stranger(call("send with a token of another room", SEND, send(QUEUE, 1), this_room())),
        stranger(call("list with a token of one room", LIST, ListRoomsRequest::default(), needs("rooms.list"))),
    ]
}

fn get_room(name: &str) -> GetRoomRequest {
    GetRoomRequest { name: name.into(), ..Default::default() }
}

fn create(name: &str) -> CreateRoomRequest {
    CreateRoomRequest { name: name.into(), ..Default::default() }
}

fn update(name: &str) -> UpdateRoomRequest {
    UpdateRoomRequest { name: name.into(), ..Default::default() }
}

/// A send of so many items.
pub fn send(queue: &str, items: usize) -> SendItemsRequest {
    let item = NewItem { body: "bad".into(), ..Default::default() };
    SendItemsRequest { parent: queue.into(), items: vec![item; items], ..Default::default() }
}

pub fn ack(queue: &str, deliveries: &[(u64, u32)]) -> AckDeliveriesRequest {
    let deliveries = deliveries.iter().map(|&(item, attempt)| DeliveryId { item, attempt }).collect();
    AckDeliveriesRequest { parent: queue.into(), deliveries, ..Default::default() }
}

/// A receive of what is there.
pub fn receive(queue: &str) -> ReceiveItemsRequest {
    ReceiveItemsRequest { parent: queue.into(), max_items: MAX_BATCH_ITEMS as u32, ..Default::default() }
}

