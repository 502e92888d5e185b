//! Requests that are no requests, and names of what is not there.

use bytes::Bytes;
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::{
    DeleteRoomRequest, GetQueueRequest, GetRoomRequest, ListQueuesRequest, ReceiveItemsRequest, SendItemsRequest,
};
use prost::Message;
use tonic::Code;

use super::{
    ACK, CREATE, Call, DELETE, GET, GET_QUEUE, LIST, LIST_QUEUES, RECEIVE, SEND, UPDATE, ack, bytes, call, create,
    get_room, send, update,
};
use crate::expected::{bad_name, refused};
use crate::place::{QUEUE, ROOM};

pub fn malformed() -> Vec<Call> {
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
        bytes(
            "a method that does not exist",
            "RoomService/BurnRoom",
            one(&[]),
            refused(Code::Unimplemented, Reason::Unimplemented),
        ),
        bytes(
            "a service that does not exist",
            "FireService/Burn",
            one(&[]),
            refused(Code::Unimplemented, Reason::Unimplemented),
        ),
    ]
}

pub fn names() -> Vec<Call> {
    let get = |name: &'static str, room: &str, field| call(name, GET, get_room(room), bad_name(field));
    let queue = |name: &'static str, queue: &str| {
        call(
            name,
            GET_QUEUE,
            GetQueueRequest { name: format!("{ROOM}/queues/{queue}"), ..Default::default() },
            bad_name("queue"),
        )
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
        get("a room of a megabyte", &format!("rooms/{}", "r".repeat(1 << 20)), "room"),
        get("a room beyond ASCII", "rooms/hä", "room"),
        call("a created room's bad name", CREATE, create("rooms/not_good"), bad_name("room")),
        call(
            "a deleted room's bad name",
            DELETE,
            DeleteRoomRequest { name: "rooms/ ".into(), ..Default::default() },
            bad_name("room"),
        ),
        call(
            "a room instead of a queue",
            GET_QUEUE,
            GetQueueRequest { name: ROOM.into(), ..Default::default() },
            bad_name("resource"),
        ),
        queue("an empty queue name", ""),
        queue("a queue with a slash", "a/b"),
        queue("a queue with a control character", "a\u{7}"),
        queue("a queue of 129 bytes", &"q".repeat(129)),
        call("a sent queue's bad name", SEND, send("rooms/here/queues/\n", 1), bad_name("queue")),
        call("a consumer with a slash", RECEIVE, consumer, bad_name("participant")),
        call("a consumer of 129 bytes", RECEIVE, long_consumer, bad_name("participant")),
    ]
}

pub fn missing() -> Vec<Call> {
    let no_room = || refused(Code::NotFound, Reason::RoomNotFound);
    let no_queue = || refused(Code::NotFound, Reason::QueueNotFound);
    let (nowhere, nothing) = ("rooms/nowhere", "rooms/here/queues/nothing");
    let queue_nowhere = "rooms/nowhere/queues/jobs";
    let receive =
        |parent: &str| ReceiveItemsRequest { parent: parent.into(), create: Some(false), ..Default::default() };
    vec![
        call("get an unknown room", GET, get_room(nowhere), no_room()),
        call("update an unknown room", UPDATE, update(nowhere), no_room()),
        call(
            "delete an unknown room",
            DELETE,
            DeleteRoomRequest { name: nowhere.into(), ..Default::default() },
            no_room(),
        ),
        call("send to an unknown room", SEND, send(queue_nowhere, 1), no_room()),
        call("receive from an unknown room", RECEIVE, receive(queue_nowhere), no_room()),
        call("acknowledge in an unknown room", ACK, ack(queue_nowhere, &[(1, 1)]), no_room()),
        call(
            "get a queue of an unknown room",
            GET_QUEUE,
            GetQueueRequest { name: queue_nowhere.into(), ..Default::default() },
            no_room(),
        ),
        call(
            "list queues of an unknown room",
            LIST_QUEUES,
            ListQueuesRequest { parent: nowhere.into(), ..Default::default() },
            no_room(),
        ),
        call(
            "get an unknown queue",
            GET_QUEUE,
            GetQueueRequest { name: nothing.into(), ..Default::default() },
            no_queue(),
        ),
        call(
            "send to an unknown queue",
            SEND,
            SendItemsRequest { create: Some(false), ..send(nothing, 1) },
            no_queue(),
        ),
        call("receive from an unknown queue", RECEIVE, receive(nothing), no_queue()),
        call("acknowledge in an unknown queue", ACK, ack(nothing, &[(1, 1)]), no_queue()),
        call("create a room again", CREATE, create(ROOM), refused(Code::AlreadyExists, Reason::RoomExists)),
    ]
}
