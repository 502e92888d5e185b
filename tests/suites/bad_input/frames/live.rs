//! Frames of the live room with one mistake each.

use bytes::Bytes;
use conclave_auth::Rights;
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::{
    AttachParticipantRequest, ClientFrame, Credit, DetachParticipantRequest, MessageRetention, PostMessageRequest,
    PushUpdateRequest, SendEphemeralRequest, Subscribe, Topic, Unsubscribe, UpdateRoomRequest,
};
use conclave_types::limits::{MAX_AWARENESS_BYTES, MAX_FRAME_BYTES, MAX_RECEIVERS, MAX_UPDATE_BYTES};
use prost::Message;
use tonic::Code;

use super::{Case, answers, ends, frame};
use crate::calls::documents::{awareness, delete, describe, list, push, rename};
use crate::calls::messages::{NOBODYS_UID, bad_messages, ephemeral, message, post};
use crate::calls::participants::{self, bad_attachings};
use crate::calls::scopes::{some_paths, without};
use crate::expected::{
    ahead, all_too_large, bad_name, invalid, need_sync, needs, no_document, no_update, nobody, other_room, refused,
    too_large,
};
use crate::place::{DOCUMENT, OTHER_ROOM, Place, ROOM};
use crate::updates;

const MISSING: &str = "rooms/here/documents/nothing";
const CROOKED: &str = "rooms/here/documents/a/../b";
const THERE: &str = "rooms/elsewhere/documents/a";

pub fn documents(place: &Place) -> Vec<Case> {
    let case = |name, body, expected| answers(place, name, frame(1, body), expected);
    let pushed = |update| Body::PushUpdate(push(DOCUMENT, update));
    let huge = frame(1, pushed(vec![0; MAX_FRAME_BYTES].into()));
    let huge_bytes = huge.len();
    let uncreated = PushUpdateRequest { create: Some(false), ..push(MISSING, updates::letter(9)) };
    let exists = refused(Code::AlreadyExists, Reason::DocumentExists);
    let over = awareness(DOCUMENT, vec![0; MAX_AWARENESS_BYTES + 1].into());
    let mut all: Vec<Case> =
        updates::refused().into_iter().map(|(name, update)| case(name, pushed(update), no_update("update"))).collect();
    all.extend([
        ends(place, "an update over 1 MiB", vec![huge], all_too_large("frame", MAX_FRAME_BYTES, huge_bytes)),
        case(
            "an update over 512 KiB",
            pushed(vec![0; MAX_UPDATE_BYTES + 1].into()),
            too_large("update", MAX_UPDATE_BYTES, MAX_UPDATE_BYTES + 1),
        ),
        case("an update whose parent is missing", pushed(updates::orphan(77, 3)), need_sync()),
        case("a push to a crooked path", Body::PushUpdate(push(CROOKED, updates::letter(9))), bad_name("document")),
        case("a push to a missing document", Body::PushUpdate(uncreated), no_document()),
        case("a missing document to describe", Body::DescribeDocument(describe(MISSING)), no_document()),
        case("a crooked path to describe", Body::DescribeDocument(describe(CROOKED)), bad_name("document")),
        case(
            "a missing document to rename",
            Body::RenameDocument(rename(MISSING, "rooms/here/documents/new")),
            no_document(),
        ),
        case(
            "a renaming onto another document",
            Body::RenameDocument(rename(DOCUMENT, "rooms/here/documents/other")),
            exists,
        ),
        case("a renaming to a crooked path", Body::RenameDocument(rename(DOCUMENT, CROOKED)), bad_name("document")),
        case("a missing document to delete", Body::DeleteDocument(delete(MISSING)), no_document()),
        case("awareness in a missing document", Body::SendAwareness(awareness(MISSING, Bytes::new())), no_document()),
        case(
            "an awareness over 4 KiB",
            Body::SendAwareness(over),
            too_large("payload", MAX_AWARENESS_BYTES, MAX_AWARENESS_BYTES + 1),
        ),
        case("a page of 1,001 documents", Body::ListDocuments(list(ROOM, 1_001, "")), invalid("page_size")),
        case("a page token of documents", Body::ListDocuments(list(ROOM, 0, "/")), invalid("page_token")),
    ]);
    all
}

pub fn messages(place: &Place) -> Vec<Case> {
    let case = |name, body, expected| answers(place, name, frame(1, body), expected);
    let bad = bad_messages().into_iter().flat_map(|(name, message, expected)| {
        let post = PostMessageRequest { parent: ROOM.into(), message: message.clone(), ..Default::default() };
        let send = SendEphemeralRequest { parent: ROOM.into(), message, to: Vec::new() };
        let send = case(name, Body::SendEphemeral(send), expected.clone());
        [case(name, Body::PostMessage(post), expected), send]
    });
    let to = |to: &[&str]| Body::SendEphemeral(ephemeral(ROOM, message("bad"), to));
    let retention = MessageRetention { max_messages: u64::MAX, ..Default::default() };
    let keeping = UpdateRoomRequest { name: ROOM.into(), message_retention: Some(retention), ..Default::default() };
    let kept = invalid("message_retention.max_messages");
    let other = [
        case("a message to nobody present", to(&["nobody"]), nobody("nobody")),
        case(
            "a message to 101",
            to(&["anybody"; MAX_RECEIVERS + 1]),
            too_large("to", MAX_RECEIVERS, MAX_RECEIVERS + 1),
        ),
        case("a post to a document", Body::PostMessage(post(DOCUMENT, message("bad"))), bad_name("resource")),
        case("more messages kept than may be", Body::UpdateRoom(keeping), kept),
    ];
    bad.chain(other).collect()
}

pub fn participants(place: &Place) -> Vec<Case> {
    let case = |name, body, expected| answers(place, name, frame(1, body), expected);
    let bad = bad_attachings()
        .into_iter()
        .map(|(name, request, expected)| case(name, Body::AttachParticipant(request), expected));
    let with_uid = AttachParticipantRequest { uid: NOBODYS_UID.into(), ..participants::attach("") };
    let detach = |name: &str, uid: &str| Body::DetachParticipant(participants::detach(name, uid));
    let absent = "rooms/here/participants/nobody";
    let other = [
        case("a participant's uid in a session", Body::AttachParticipant(with_uid), invalid("uid")),
        case("a detaching of nobody", detach(absent, ""), nobody("nobody")),
        case("a detaching by a uid of nobody", detach(absent, NOBODYS_UID), nobody("nobody")),
        case("a detaching by what is no uid", detach(absent, "x"), invalid("uid")),
    ];
    bad.chain(other).collect()
}

/// Asks for a subscription under number 1 unless a frame says otherwise.
pub fn subscriptions(place: &Place) -> Vec<Case> {
    let subscribed = |name, subscription, subscribe, expected| {
        answers(place, name, subscribe_frame(subscription, subscribe), expected)
    };
    let to = |name, resource: &str, expected| {
        subscribed(name, 1, Subscribe { resource: resource.into(), ..Default::default() }, expected)
    };
    let after = |name, resource: &str, after_revision| {
        let subscribe = Subscribe { resource: resource.into(), after_revision, ..Default::default() };
        subscribed(name, 1, subscribe, ahead(after_revision))
    };
    let topics = |name, topics: &[i32]| {
        let subscribe = Subscribe { resource: ROOM.into(), topics: topics.to_vec(), ..Default::default() };
        subscribed(name, 1, subscribe, invalid("topics"))
    };
    let log = "rooms/here/messages";
    let (resource, path) = (|| bad_name("resource"), || bad_name("document"));
    let numbered = |name, body| {
        let frame = ClientFrame { sequence: 1, subscription: 1, body: Some(body), ..Default::default() };
        answers(place, name, frame.encode_to_vec().into(), invalid("sequence"))
    };
    let uncreated = Subscribe { resource: MISSING.into(), create: Some(false), ..Default::default() };
    let mut all = vec![
        subscribed("a subscription numbered 0", 0, Subscribe { resource: log.into(), ..Default::default() }, {
            invalid("subscription")
        }),
        to("a subscription to nothing", "", resource()),
        to("a subscription to a participant", "rooms/here/participants/admin", resource()),
        to("a subscription to what a room does not have", "rooms/here/weather", resource()),
        to("a subscription to documents", "rooms/here/documents", resource()),
        to("a subscription to a crooked path", CROOKED, path()),
        to("a subscription to a document without a path", "rooms/here/documents/", path()),
        to("a subscription to a room with a bad name", "rooms/Here/messages", bad_name("room")),
        topics("a subscription to topics of which one is none", &[Topic::Messages.into(), 99]),
        topics("a subscription to a topic of nothing", &[0]),
        subscribed("a subscription to a missing document", 1, uncreated, no_document()),
        after("a subscription to the log after a later revision", log, 1 << 40),
        after("a subscription to the log after the last revision", log, u64::MAX),
        after("a subscription to a room after a later revision", ROOM, 1 << 40),
        after("a subscription to a document after a later revision", DOCUMENT, 1 << 40),
        numbered("an unsubscribing with a sequence", Body::Unsubscribe(Unsubscribe {})),
        numbered("a credit with a sequence", Body::Credit(Credit { events: 7 })),
    ];
    all.extend(updates::refused_vectors().into_iter().map(|(name, state_vector)| {
        let subscribe = Subscribe { resource: DOCUMENT.into(), state_vector, ..Default::default() };
        subscribed(name, 1, subscribe, no_update("state_vector"))
    }));
    all
}

pub fn other_rooms(place: &Place) -> Vec<Case> {
    let other = |name, body| answers(place, name, frame(1, body), other_room());
    let subscribe = |name, resource: &str| {
        let subscribe = Subscribe { resource: resource.into(), ..Default::default() };
        answers(place, name, subscribe_frame(1, subscribe), other_room())
    };
    let participant = format!("{OTHER_ROOM}/participants/admin");
    let attach = AttachParticipantRequest { parent: OTHER_ROOM.into(), ..Default::default() };
    let detach = DetachParticipantRequest { name: participant, ..Default::default() };
    vec![
        other("an update for a document of another room", Body::PushUpdate(push(THERE, updates::letter(9)))),
        other("another room's document to describe", Body::DescribeDocument(describe(THERE))),
        other("another room's documents to list", Body::ListDocuments(list(OTHER_ROOM, 0, ""))),
        other("another room's document to rename", Body::RenameDocument(rename(THERE, DOCUMENT))),
        other("a renaming into another room", Body::RenameDocument(rename(DOCUMENT, THERE))),
        other("another room's document to delete", Body::DeleteDocument(delete(THERE))),
        other("awareness in another room", Body::SendAwareness(awareness(THERE, Bytes::new()))),
        other("a post to another room", Body::PostMessage(post(OTHER_ROOM, message("bad")))),
        other("a message in another room", Body::SendEphemeral(ephemeral(OTHER_ROOM, message("bad"), &[]))),
        other("attaching to another room", Body::AttachParticipant(attach)),
        other("detaching from another room", Body::DetachParticipant(detach)),
        other("participants of another room", Body::ListParticipants(participants::list(OTHER_ROOM))),
        subscribe("a subscription to another room", OTHER_ROOM),
        subscribe("a subscription to another room's log", "rooms/elsewhere/messages"),
        subscribe("a subscription to another room's ephemeral messages", "rooms/elsewhere/ephemeral"),
        subscribe("a subscription to another room's participants", "rooms/elsewhere/participants"),
        subscribe("a subscription to another room's document", THERE),
    ]
}

/// What wants a reply needs a sequence.
pub fn unnumbered(place: &Place) -> Vec<Case> {
    let ends = |name, body| ends(place, name, vec![frame(0, body)], invalid("sequence"));
    vec![
        ends("a push without a sequence", Body::PushUpdate(push(DOCUMENT, updates::letter(9)))),
        ends("a post without a sequence", Body::PostMessage(post(ROOM, message("bad")))),
        ends("a renaming without a sequence", Body::RenameDocument(rename(MISSING, DOCUMENT))),
        ends("a deletion without a sequence", Body::DeleteDocument(delete(MISSING))),
        ends("a message without a sequence", Body::SendEphemeral(ephemeral(ROOM, message("bad"), &["nobody"]))),
    ]
}

/// With every right but the one that is needed; the room may be read, to see that the session goes on.
pub fn scopes(place: &Place) -> Vec<Case> {
    let lacking = |scope: &'static str, rights: Rights| {
        move |name, frame: Bytes| {
            let client = place.with("guest", rights.clone()).expect("a token is made");
            answers(place, name, frame, needs(scope)).by(client)
        }
    };
    let subscribe = |resource: &str, topics: &[Topic]| {
        let topics = topics.iter().map(|topic| (*topic).into()).collect();
        subscribe_frame(1, Subscribe { resource: resource.into(), topics, ..Default::default() })
    };
    let letter = || updates::letter(9);
    let sync = lacking("sync", without("sync"));
    let edit = lacking("sync, not read-only", without("sync"));
    let broadcast = lacking("messaging.broadcast", without("messaging.broadcast"));
    let list_who = lacking("messaging.list", without("messaging.list"));
    let send = lacking("messaging.send", without("messaging.send"));
    let read = lacking("messaging.read", without("messaging.read"));
    let queues = lacking("queues.list", without("queues.list"));
    let reading = || {
        let mut rights = some_paths();
        rights.rooms.read = true;
        rights
    };
    let read_only = lacking("sync, not read-only", reading());
    let of_paths = lacking("sync", reading());
    let note = "rooms/here/documents/notes/a";
    vec![
        edit("push without the scope", frame(1, Body::PushUpdate(push(DOCUMENT, letter())))),
        edit("rename without the scope", frame(1, Body::RenameDocument(rename(DOCUMENT, MISSING)))),
        edit("delete without the scope", frame(1, Body::DeleteDocument(delete(DOCUMENT)))),
        sync("describe without the scope", frame(1, Body::DescribeDocument(describe(DOCUMENT)))),
        sync("awareness without the scope", frame(1, Body::SendAwareness(awareness(DOCUMENT, Bytes::new())))),
        sync("open without the scope", subscribe(DOCUMENT, &[])),
        sync("watch documents without the scope", subscribe(ROOM, &[Topic::Documents])),
        broadcast("post without the scope", frame(1, Body::PostMessage(post(ROOM, message("bad"))))),
        broadcast("send to all without the scope", frame(1, Body::SendEphemeral(ephemeral(ROOM, message("x"), &[])))),
        send("send to one without the scope", frame(1, Body::SendEphemeral(ephemeral(ROOM, message("x"), &["a"])))),
        read("follow without the scope", subscribe("rooms/here/messages", &[])),
        read("listen without the scope", subscribe("rooms/here/ephemeral", &[])),
        read("watch messages without the scope", subscribe(ROOM, &[Topic::Messages])),
        list_who("list who is there without the scope", frame(1, Body::ListParticipants(participants::list(ROOM)))),
        list_who("follow who is there without the scope", subscribe("rooms/here/participants", &[])),
        list_who("watch who is there without the scope", subscribe(ROOM, &[Topic::Messages, Topic::Participants])),
        queues("watch queues without the scope", subscribe(ROOM, &[Topic::Queues])),
        read_only("a push to a path that is read-only", frame(1, Body::PushUpdate(push(note, letter())))),
        read_only(
            "a renaming to a path that is read-only",
            frame(1, Body::RenameDocument(rename("rooms/here/documents/drafts/a", note))),
        ),
        read_only("a deletion of a path that is read-only", frame(1, Body::DeleteDocument(delete(note)))),
        of_paths("a subscription to a path of no grant", subscribe("rooms/here/documents/letters/a", &[])),
        of_paths("a description of a path of no grant", frame(1, Body::DescribeDocument(describe(THERE_IS_NO_GRANT)))),
    ]
}

const THERE_IS_NO_GRANT: &str = "rooms/here/documents/letters/a";

pub fn subscribe_frame(subscription: u64, subscribe: Subscribe) -> Bytes {
    let body = Some(Body::Subscribe(subscribe));
    ClientFrame { sequence: 1, subscription, body, ..Default::default() }.encode_to_vec().into()
}
