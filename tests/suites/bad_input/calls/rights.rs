//! Callers who may not.

use anyhow::Result;
use conclave_auth::{OpenRooms, Rights};
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::{
    DeleteRoomRequest, GetQueueRequest, ListQueuesRequest, ListRoomsRequest, ReceiveItemsRequest,
};
use serde_json::json;
use tonic::Code;

use super::{
    ACK, As, CREATE, Call, DELETE, GET, GET_QUEUE, LIST, LIST_QUEUES, RECEIVE, SEND, UPDATE, ack, call, create,
    get_room, send, update,
};
use crate::expected::refused;
use crate::place::{Place, QUEUE, ROOM};

pub fn tokens(place: &Place) -> Vec<Call> {
    let unauthenticated = |reason| refused(Code::Unauthenticated, reason);
    let get = |name, caller, reason| call(name, GET, get_room(ROOM), unauthenticated(reason)).by(caller);
    let bearer = |token: Result<String>| As::Authorization(format!("Bearer {}", token.expect("a token is made")));
    let saying = |claims| bearer(place.token_saying(claims));
    let grants = json!([{"name": "api", "scope": {"admin": {}}}, {"name": "api", "scope": {"rooms": {}}}]);
    let (missing, wrong) = (Reason::TokenMissing, Reason::TokenInvalid);
    vec![
        get("no token", As::Nobody, missing),
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

pub fn scopes(place: &Place) -> Vec<Call> {
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
        guest(call(
            "delete without the scope",
            DELETE,
            DeleteRoomRequest { name: ROOM.into(), ..Default::default() },
            needs("rooms.write"),
        )),
        guest(call("send without the scope", SEND, send(QUEUE, 1), needs("queues.send"))),
        guest(call("receive without the scope", RECEIVE, receive(), needs("queues.receive"))),
        guest(call("acknowledge without the scope", ACK, ack(QUEUE, &[(1, 1)]), needs("queues.receive"))),
        guest(call(
            "get a queue without the scope",
            GET_QUEUE,
            GetQueueRequest { name: QUEUE.into(), ..Default::default() },
            needs("queues.list"),
        )),
        guest(call(
            "list queues without the scope",
            LIST_QUEUES,
            ListQueuesRequest { parent: ROOM.into(), ..Default::default() },
            needs("queues.list"),
        )),
        stranger(call("a token of another room", GET, get_room(ROOM), this_room())),
        stranger(call("create with a token of another room", CREATE, create("rooms/new"), this_room())),
        stranger(call("send with a token of another room", SEND, send(QUEUE, 1), this_room())),
        stranger(call("list with a token of one room", LIST, ListRoomsRequest::default(), needs("rooms.list"))),
    ]
}
