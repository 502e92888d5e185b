//! Messages on both lanes, and what a room keeps and tells of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::{
    FollowMessagesRequest, MessageRetention, NewMessage, PostMessageRequest, ReceiveEphemeralRequest,
    SendEphemeralRequest, UpdateRoomRequest, WatchRoomRequest,
};
use conclave_types::limits::{
    MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS, MAX_MESSAGE_BYTES, MAX_MESSAGE_TYPE_BYTES, MAX_RECEIVERS,
};
use prost_types::Duration;
use tonic::Code;

use super::{Call, UPDATE, call, update};
use crate::expected::{Expected, ahead, bad_name, invalid, nobody, refused, too_large};
use crate::place::{DOCUMENT, ROOM};

pub const POST: &str = "MessagingService/PostMessage";
pub const FOLLOW: &str = "MessagingService/FollowMessages";
pub const SEND_EPHEMERAL: &str = "MessagingService/SendEphemeral";
pub const RECEIVE_EPHEMERAL: &str = "MessagingService/ReceiveEphemeral";
pub const WATCH: &str = "RoomService/WatchRoom";

/// A uid as participants have it, which nobody has.
pub const NOBODYS_UID: &str = "00000000000000000000000000000007";

const TYPE: usize = MAX_MESSAGE_TYPE_BYTES;
const KEY: usize = MAX_LABEL_KEY_BYTES;
const VALUE: usize = MAX_LABEL_VALUE_BYTES;

pub fn message(body: impl Into<Bytes>) -> NewMessage {
    NewMessage { r#type: "bad".into(), body: body.into(), ..Default::default() }
}

pub fn post(room: &str, message: NewMessage) -> PostMessageRequest {
    PostMessageRequest { parent: room.into(), message: Some(message), ..Default::default() }
}

pub fn ephemeral(room: &str, message: NewMessage, to: &[&str]) -> SendEphemeralRequest {
    let to = to.iter().map(|name| (*name).to_owned()).collect();
    SendEphemeralRequest { parent: room.into(), message: Some(message), to }
}

pub fn follow(room: &str, after_revision: u64) -> FollowMessagesRequest {
    FollowMessagesRequest { parent: room.into(), after_revision }
}

pub fn watch(room: &str, after_revision: u64, topics: &[i32]) -> WatchRoomRequest {
    WatchRoomRequest { name: room.into(), after_revision, topics: topics.to_vec() }
}

pub fn listen(room: &str, participant_uid: &str) -> ReceiveEphemeralRequest {
    ReceiveEphemeralRequest { parent: room.into(), participant_uid: participant_uid.into() }
}

/// Messages with one thing too large or missing, with what the fault says of it; none for no message at all.
pub fn bad_messages() -> Vec<(&'static str, Option<NewMessage>, Expected)> {
    let labels = |count: usize, key: usize, value: usize| -> BTreeMap<String, String> {
        (0..count).map(|number| (format!("{number:0key$}"), "v".repeat(value))).collect()
    };
    let headers = |headers| Some(NewMessage { headers, ..Default::default() });
    vec![
        ("without a message", None, invalid("message")),
        (
            "with a body over 256 KiB",
            Some(message(vec![0; MAX_MESSAGE_BYTES + 1])),
            too_large("message.body", MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1),
        ),
        (
            "with a type over 128 bytes",
            Some(NewMessage { r#type: "t".repeat(TYPE + 1), ..Default::default() }),
            too_large("message.type", TYPE, TYPE + 1),
        ),
        (
            "with a content type over 128 bytes",
            Some(NewMessage { content_type: "t".repeat(129), ..Default::default() }),
            too_large("message.content_type", 128, 129),
        ),
        ("with 65 headers", headers(labels(65, 3, 1)), too_large("message.headers", MAX_LABELS, 65)),
        ("with a header's long key", headers(labels(1, KEY + 1, 1)), too_large("message.headers key", KEY, KEY + 1)),
        (
            "with a header's long value",
            headers(labels(1, 1, VALUE + 1)),
            too_large("message.headers value", VALUE, VALUE + 1),
        ),
        (
            "with headers over 16 KiB",
            headers(labels(5, 1, VALUE)),
            too_large("message.headers", 16 << 10, 5 * (VALUE + 1)),
        ),
    ]
}

pub fn limits() -> Vec<Call> {
    let bad = bad_messages().into_iter().flat_map(|(name, message, expected)| {
        let post = PostMessageRequest { parent: ROOM.into(), message: message.clone(), ..Default::default() };
        let send = SendEphemeralRequest { parent: ROOM.into(), message, to: Vec::new() };
        [call(name, POST, post, expected.clone()), call(name, SEND_EPHEMERAL, send, expected)]
    });
    let many = vec!["anybody"; MAX_RECEIVERS + 1];
    let to = |to: &[&str]| ephemeral(ROOM, message("bad"), to);
    let request_id = PostMessageRequest { request_id: "i".repeat(65), ..post(ROOM, message("bad")) };
    let other = [
        call("a message to 101", SEND_EPHEMERAL, to(&many), too_large("to", MAX_RECEIVERS, MAX_RECEIVERS + 1)),
        call("a message to nobody present", SEND_EPHEMERAL, to(&["nobody"]), nobody("nobody")),
        call("a message to two who are absent", SEND_EPHEMERAL, to(&["one", "another"]), nobody("one")),
        call("a message to what is no name", SEND_EPHEMERAL, to(&["a/b\n"]), nobody("a/b\n")),
        call("a message to an empty name", SEND_EPHEMERAL, to(&[""]), nobody("")),
        call("a request id of a post of 65 bytes", POST, request_id, too_large("request_id", 64, 65)),
        call("listening for nobody present", RECEIVE_EPHEMERAL, listen(ROOM, NOBODYS_UID), nobody(NOBODYS_UID)),
        call("listening for what is no uid", RECEIVE_EPHEMERAL, listen(ROOM, "me"), invalid("participant_uid")),
    ];
    bad.chain(other).collect()
}

pub fn cursors() -> Vec<Call> {
    let later = 1 << 40;
    vec![
        call("the log after a later revision", FOLLOW, follow(ROOM, later), ahead(later)),
        call("the log after the last revision", FOLLOW, follow(ROOM, u64::MAX), ahead(u64::MAX)),
        call("a room after a later revision", WATCH, watch(ROOM, later, &[]), ahead(later)),
        call("a room after the last revision", WATCH, watch(ROOM, u64::MAX, &[]), ahead(u64::MAX)),
        call("a room's topic that is none", WATCH, watch(ROOM, 0, &[2, 99]), invalid("topics")),
        call("a room's topic of nothing", WATCH, watch(ROOM, 0, &[0]), invalid("topics")),
    ]
}

pub fn names() -> Vec<Call> {
    let no_room = || refused(Code::NotFound, Reason::RoomNotFound);
    let (nowhere, resource) = ("rooms/nowhere", || bad_name("resource"));
    let new = || message("bad");
    vec![
        call("a post to an unknown room", POST, post(nowhere, new()), no_room()),
        call("the log of an unknown room", FOLLOW, follow(nowhere, 0), no_room()),
        call("a message in an unknown room", SEND_EPHEMERAL, ephemeral(nowhere, new(), &[]), no_room()),
        call("listening in an unknown room", RECEIVE_EPHEMERAL, listen(nowhere, ""), no_room()),
        call("an unknown room to watch", WATCH, watch(nowhere, 0, &[]), no_room()),
        call("a post to a document", POST, post(DOCUMENT, new()), resource()),
        call("the log of a document", FOLLOW, follow(DOCUMENT, 0), resource()),
        call("a message in a document", SEND_EPHEMERAL, ephemeral(DOCUMENT, new(), &[]), resource()),
        call("listening in a document", RECEIVE_EPHEMERAL, listen(DOCUMENT, ""), resource()),
        call("a document to watch as a room", WATCH, watch(DOCUMENT, 0, &[]), resource()),
        call("a post to a bad name", POST, post("rooms/Here", new()), bad_name("room")),
    ]
}

pub fn retention() -> Vec<Call> {
    let keeping = |name, retention, field| {
        let update = UpdateRoomRequest { message_retention: Some(retention), ..update(ROOM) };
        call(name, UPDATE, update, invalid(field))
    };
    let messages = |max_messages| MessageRetention { max_messages, ..Default::default() };
    let bytes = |max_bytes| MessageRetention { max_bytes, ..Default::default() };
    let age = |seconds| MessageRetention { max_age: Some(Duration { seconds, nanos: 0 }), ..Default::default() };
    let (count, size, time) =
        ("message_retention.max_messages", "message_retention.max_bytes", "message_retention.max_age");
    vec![
        keeping("more messages kept than may be", messages(10_000_001), count),
        keeping("2^64 messages kept", messages(u64::MAX), count),
        keeping("under 1 MiB of messages kept", bytes((1 << 20) - 1), size),
        keeping("over 16 GiB of messages kept", bytes((16 << 30) + 1), size),
        keeping("messages kept under a minute", age(59), time),
        keeping("messages kept over ten years", age(3_650 * 24 * 3_600 + 1), time),
        keeping("messages kept for ever", age(i64::MAX), time),
        keeping("messages kept for less than nothing", age(-60), time),
    ]
}
