//! Each method without its scope: with no right at all, with every right but the one, and with paths that end elsewhere.

use bytes::Bytes;
use conclave_auth::{MessagingRights, OpenRooms, QueueRights, Queues, Rights, RoomRights, SyncPath, SyncRights};
use conclave_proto::v1::{OpenDocumentRequest, PushUpdateRequest, Topic};

use super::documents::{
    DELETE_DOCUMENT, DESCRIBE, LIST_DOCUMENTS, OPEN, PUSH, RENAME, SEND_AWARENESS, awareness, delete, describe, list,
    open, push, rename,
};
use super::messages::{
    FOLLOW, POST, RECEIVE_EPHEMERAL, SEND_EPHEMERAL, WATCH, ephemeral, follow, listen, message, post, watch,
};
use super::participants::{self, ATTACH, DETACH, LIST_PARTICIPANTS, WATCH_PARTICIPANTS};
use super::queues::{CONSUME, call_of_gated, consume, gated as gated_queues, move_without_a_place};
use super::{As, Call, call};
use crate::expected::{needs, no_document};
use crate::place::{DOCUMENT, Place, QUEUE, ROOM};
use crate::updates;

const READ_ONLY: &str = "sync, not read-only";

/// Every right, said one by one.
pub fn everything() -> Rights {
    Rights {
        admin: false,
        rooms: RoomRights { read: true, write: true, list: true },
        queues: QueueRights { send: Queues::All, receive: Queues::All, list: true },
        messaging: MessagingRights { broadcast: true, list: true, send: true, read: true },
        sync: SyncRights::All,
    }
}

/// Every right but one.
pub fn without(scope: &str) -> Rights {
    let mut rights = everything();
    match scope {
        "sync" => rights.sync = SyncRights::None,
        "messaging.broadcast" => rights.messaging.broadcast = false,
        "messaging.list" => rights.messaging.list = false,
        "messaging.send" => rights.messaging.send = false,
        "messaging.read" => rights.messaging.read = false,
        "queues.list" => rights.queues.list = false,
        "queues.send" => rights.queues.send = Queues::None,
        "queues.receive" => rights.queues.receive = Queues::None,
        other => panic!("{other} is no scope of this table"),
    }
    rights
}

/// Paths that may be edited, paths that may be read, and nothing else.
pub fn some_paths() -> Rights {
    let granted = |path: &str, read_only| SyncPath { pattern: path.into(), read_only };
    let paths = vec![granted("drafts/*", false), granted("plan", false), granted("notes/*", true)];
    Rights { sync: SyncRights::Paths(paths), ..Default::default() }
}

pub fn matrix(place: &Place) -> Vec<Call> {
    let bearer = |rights| format!("Bearer {}", place.token("guest", OpenRooms::All, rights).expect("a token is made"));
    let nothing = bearer(Rights::default());
    gated()
        .into_iter()
        .flat_map(|(scope, make)| {
            let all_else = bearer(without(scope));
            [nothing.clone(), all_else].map(|bearer| make().by(As::Authorization(bearer)))
        })
        .collect()
}

type Make = Box<dyn Fn() -> Call>;

/// Each method with the scope that it needs.
fn gated() -> Vec<(&'static str, Make)> {
    fn row<M: prost::Message + Clone + 'static>(
        scope: &'static str,
        name: &'static str,
        method: &'static str,
        request: M,
    ) -> (&'static str, Make) {
        (scope, Box::new(move || call(name, method, request.clone(), needs(scope))))
    }
    let topic = |topic: Topic| watch(ROOM, 0, &[topic.into()]);
    vec![
        row("sync", "open without the scope", OPEN, open(DOCUMENT)),
        row("sync", "describe without the scope", DESCRIBE, describe(DOCUMENT)),
        row("sync", "awareness without the scope", SEND_AWARENESS, awareness(DOCUMENT, Bytes::new())),
        row("messaging.broadcast", "post without the scope", POST, post(ROOM, message("bad"))),
        row("messaging.read", "follow without the scope", FOLLOW, follow(ROOM, 0)),
        row("messaging.read", "listen without the scope", RECEIVE_EPHEMERAL, listen(ROOM, "")),
        row("messaging.broadcast", "send to all without the scope", SEND_EPHEMERAL, ephemeral(ROOM, message("x"), &[])),
        row("messaging.send", "send to one without the scope", SEND_EPHEMERAL, ephemeral(ROOM, message("x"), &["a"])),
        row("messaging.list", "list participants without the scope", LIST_PARTICIPANTS, participants::list(ROOM)),
        row("messaging.list", "watch participants without the scope", WATCH_PARTICIPANTS, participants::watch(ROOM)),
        row("sync", "watch documents without the scope", WATCH, topic(Topic::Documents)),
        row("messaging.read", "watch messages without the scope", WATCH, topic(Topic::Messages)),
        row("queues.list", "watch queues without the scope", WATCH, topic(Topic::Queues)),
        row("messaging.list", "watch who is there without the scope", WATCH, topic(Topic::Participants)),
    ]
}

/// Each method of queues without its scope, and with every right for another queue only.
pub fn queues(place: &Place) -> Vec<Call> {
    let bearer = |rights| format!("Bearer {}", place.token("guest", OpenRooms::All, rights).expect("a token is made"));
    let others = || Queues::Only(["other".parse().expect("a queue")].into());
    let of_another_queue =
        Rights { queues: QueueRights { send: others(), receive: others(), list: false }, ..everything() };
    let tokens = [bearer(Rights::default()), bearer(of_another_queue)];
    let consuming = || call("consume without the scope", CONSUME, consume(QUEUE), needs("queues.receive"));
    let mut all: Vec<Call> = Vec::new();
    for row in gated_queues() {
        let lacking = bearer(without(row.1));
        let calls = tokens.iter().cloned().chain([lacking]);
        all.extend(calls.map(|bearer| call_of_gated(row.clone()).by(As::Authorization(bearer))));
    }
    let lacking = bearer(without("queues.receive"));
    all.extend(tokens.into_iter().chain([lacking]).map(|bearer| consuming().by(As::Authorization(bearer))));
    all.push(move_without_a_place().by(As::Authorization(bearer(without("queues.send")))));
    all
}

/// What edits needs a path that is not read-only.
pub fn edits(place: &Place) -> Vec<Call> {
    let bearer = |rights| format!("Bearer {}", place.token("guest", OpenRooms::All, rights).expect("a token is made"));
    let tokens = [bearer(Rights::default()), bearer(without("sync"))];
    tokens
        .into_iter()
        .flat_map(|bearer| {
            [
                call("push without the scope", PUSH, push(DOCUMENT, updates::letter(9)), needs(READ_ONLY)),
                call("rename without the scope", RENAME, rename(DOCUMENT, &at("new")), needs(READ_ONLY)),
                call("delete without the scope", DELETE_DOCUMENT, delete(DOCUMENT), needs(READ_ONLY)),
            ]
            .map(|call| call.by(As::Authorization(bearer.clone())))
        })
        .collect()
}

pub fn paths(place: &Place) -> Vec<Call> {
    let token = place.token("guest", OpenRooms::All, some_paths()).expect("a token is made");
    let bearer = format!("Bearer {token}");
    let letter = || updates::letter(9);
    let no_edit = || needs(READ_ONLY);
    let missing = OpenDocumentRequest { create: Some(true), ..open(&at("notes/new")) };
    [
        call("a push to a path that is read-only", PUSH, push(&at("notes/a"), letter()), no_edit()),
        call("a push to a path of no grant", PUSH, push(&at("letters/a"), letter()), no_edit()),
        call("a push to a path that begins like one granted", PUSH, push(&at("plans"), letter()), no_edit()),
        call("a push to a prefix without its slash", PUSH, push(&at("drafts"), letter()), no_edit()),
        call("a push to a granted path in other letters", PUSH, push(&at("Drafts/a"), letter()), no_edit()),
        call("an open path of no grant", OPEN, open(&at("letters/a")), needs("sync")),
        call("a description of a path of no grant", DESCRIBE, describe(&at("letters/a")), needs("sync")),
        call("awareness at a path of no grant", SEND_AWARENESS, awareness(&at("plan/b"), Bytes::new()), needs("sync")),
        call("a renaming of a path that is read-only", RENAME, rename(&at("notes/a"), &at("drafts/a")), no_edit()),
        call("a renaming to a path that is read-only", RENAME, rename(&at("drafts/a"), &at("notes/a")), no_edit()),
        call("a renaming to a path of no grant", RENAME, rename(&at("drafts/a"), &at("letters/a")), no_edit()),
        call("a deletion of a path that is read-only", DELETE_DOCUMENT, delete(&at("notes/a")), no_edit()),
        // Not refused for its scope, but nothing is made either.
        call("opening makes nothing that is read-only", OPEN, missing, no_document()),
    ]
    .map(|call| call.by(As::Authorization(bearer.clone())))
    .into()
}

/// A token of another room, with every right there.
pub fn strangers(place: &Place) -> Vec<Call> {
    let elsewhere = OpenRooms::One("elsewhere".parse().expect("a room"));
    let token = place.token("guest", elsewhere, Rights::admin()).expect("a token is made");
    let bearer = format!("Bearer {token}");
    let this_room = || needs("a grant for this room");
    let pushed = PushUpdateRequest { create: Some(false), ..push(DOCUMENT, updates::letter(9)) };
    let attach = participants::attach("guest");
    let detach = participants::detach("rooms/here/participants/guest", "");
    [
        call("open with a token of another room", OPEN, open(DOCUMENT), this_room()),
        call("push with a token of another room", PUSH, pushed, this_room()),
        call("describe with a token of another room", DESCRIBE, describe(DOCUMENT), this_room()),
        call("list documents with a token of another room", LIST_DOCUMENTS, list(ROOM, 0, ""), this_room()),
        call("rename with a token of another room", RENAME, rename(DOCUMENT, &at("new")), this_room()),
        call("delete with a token of another room", DELETE_DOCUMENT, delete(DOCUMENT), this_room()),
        call("awareness with a token of another room", SEND_AWARENESS, awareness(DOCUMENT, Bytes::new()), this_room()),
        call("post with a token of another room", POST, post(ROOM, message("bad")), this_room()),
        call("follow with a token of another room", FOLLOW, follow(ROOM, 0), this_room()),
        call("send with a token of another room", SEND_EPHEMERAL, ephemeral(ROOM, message("x"), &[]), this_room()),
        call("listen with a token of another room", RECEIVE_EPHEMERAL, listen(ROOM, ""), this_room()),
        call("watch with a token of another room", WATCH, watch(ROOM, 0, &[]), this_room()),
        call("attach with a token of another room", ATTACH, attach, this_room()),
        call("detach with a token of another room", DETACH, detach, this_room()),
        call("list who is in another room", LIST_PARTICIPANTS, participants::list(ROOM), this_room()),
        call("watch who is in another room", WATCH_PARTICIPANTS, participants::watch(ROOM), this_room()),
    ]
    .map(|call| call.by(As::Authorization(bearer.clone())))
    .into()
}

fn at(path: &str) -> String {
    format!("{ROOM}/documents/{path}")
}
