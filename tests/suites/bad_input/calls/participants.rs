//! Participants: names, roles, attributes and leases.

use std::collections::BTreeMap;

use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::{
    AttachParticipantRequest, DetachParticipantRequest, ListParticipantsRequest, WatchParticipantsRequest,
};
use conclave_types::limits::{MAX_ATTRIBUTES_BYTES, MAX_LABEL_KEY_BYTES, MAX_LABELS, MAX_ROLE_BYTES};
use prost_types::Duration;
use tonic::Code;

use super::messages::NOBODYS_UID;
use super::{Call, call};
use crate::expected::{Expected, bad_name, invalid, nobody, refused, too_large};
use crate::place::{DOCUMENT, ROOM};

pub const ATTACH: &str = "ParticipantService/AttachParticipant";
pub const DETACH: &str = "ParticipantService/DetachParticipant";
pub const LIST_PARTICIPANTS: &str = "ParticipantService/ListParticipants";
pub const WATCH_PARTICIPANTS: &str = "ParticipantService/WatchParticipants";

pub fn attach(participant: &str) -> AttachParticipantRequest {
    AttachParticipantRequest { parent: ROOM.into(), participant: participant.into(), ..Default::default() }
}

pub fn detach(name: &str, uid: &str) -> DetachParticipantRequest {
    DetachParticipantRequest { name: name.into(), uid: uid.into() }
}

pub fn list(parent: &str) -> ListParticipantsRequest {
    ListParticipantsRequest { parent: parent.into(), ..Default::default() }
}

pub fn watch(parent: &str) -> WatchParticipantsRequest {
    WatchParticipantsRequest { parent: parent.into() }
}

/// Requests of `admin` to attach that are refused.
pub fn bad_attachings() -> Vec<(&'static str, AttachParticipantRequest, Expected)> {
    let named = |name, participant: &str| (name, attach(participant), invalid("participant"));
    let lease = |name, seconds, nanos| {
        let lease = Some(Duration { seconds, nanos });
        (name, AttachParticipantRequest { lease, ..attach("") }, invalid("lease"))
    };
    let attributes = |count: usize, key: usize, value: usize| -> BTreeMap<String, String> {
        (0..count).map(|number| (format!("{number:0key$}"), "v".repeat(value))).collect()
    };
    let with = |attributes| AttachParticipantRequest { attributes, ..attach("") };
    let over = |limit, actual| too_large("attributes", limit, actual);
    let role = AttachParticipantRequest { role: "r".repeat(MAX_ROLE_BYTES + 1), ..attach("") };
    let empty_key = with(BTreeMap::from([Default::default()]));
    let (key, all) = (MAX_LABEL_KEY_BYTES, MAX_ATTRIBUTES_BYTES);
    vec![
        named("another identity's name", "guest"),
        named("a name that only begins as one's own", "administrator"),
        named("one's own name and nothing behind it", "admin#"),
        named("one's own name in capitals", "ADMIN"),
        named("a name with a slash that is not one's own", "a/b"),
        ("one's own name and a slash", attach("admin#a/b"), bad_name("participant")),
        ("one's own name and a line end", attach("admin#\n"), bad_name("participant")),
        ("one's own name and too much", attach(&format!("admin#{}", "x".repeat(123))), bad_name("participant")),
        ("a role over 63 bytes", role, too_large("role", MAX_ROLE_BYTES, MAX_ROLE_BYTES + 1)),
        ("65 attributes", with(attributes(65, 3, 1)), over(MAX_LABELS, 65)),
        ("an attribute's long key", with(attributes(1, key + 1, 1)), over(key, key + 1)),
        ("an attribute without a key", empty_key, invalid("attributes")),
        ("attributes over 4 KiB", with(attributes(1, 1, all)), over(all, all + 1)),
        lease("a participant's lease under 5 seconds", 4, 999_000_000),
        lease("a participant's lease over 5 minutes", 300, 1_000_000),
        lease("a participant's lease of nothing", 0, 0),
        lease("a participant's negative lease", -30, 0),
        lease("a participant's lease for ever", i64::MAX, 0),
        lease("a participant's lease that no clock counts", i64::MIN, i32::MIN),
    ]
}

pub fn attachings() -> Vec<Call> {
    let uid = |uid: &str| AttachParticipantRequest { uid: uid.into(), ..attach("") };
    let bad = bad_attachings().into_iter().map(|(name, request, expected)| call(name, ATTACH, request, expected));
    let uids = [
        call("a participant's uid that is none", ATTACH, uid("me"), invalid("uid")),
        call("a participant's uid with a sign", ATTACH, uid("+0000000000000000000000000000007"), invalid("uid")),
    ];
    bad.chain(uids).collect()
}

pub fn others() -> Vec<Call> {
    let no_room = || refused(Code::NotFound, Reason::RoomNotFound);
    let page = |page_size, page_token: &str| ListParticipantsRequest {
        page_size,
        page_token: page_token.into(),
        ..list(ROOM)
    };
    let (nowhere, absent) = ("rooms/nowhere", "rooms/here/participants/nobody");
    let attach_nowhere = AttachParticipantRequest { parent: nowhere.into(), ..attach("") };
    let attach_to_document = AttachParticipantRequest { parent: DOCUMENT.into(), ..attach("") };
    let resource = || bad_name("resource");
    vec![
        call("a page of 1,001 participants", LIST_PARTICIPANTS, page(1_001, ""), invalid("page_size")),
        call("a page token of participants that is none", LIST_PARTICIPANTS, page(0, "a/b"), invalid("page_token")),
        call("a detaching of nobody", DETACH, detach(absent, NOBODYS_UID), nobody("nobody")),
        call("a detaching without a uid", DETACH, detach(absent, ""), nobody("nobody")),
        call("a detaching by what is no uid", DETACH, detach(absent, "x"), invalid("uid")),
        call("a detaching of a room", DETACH, detach(ROOM, ""), resource()),
        call("a detaching of a bad name", DETACH, detach("rooms/here/participants/a/b", ""), bad_name("participant")),
        call("attaching to a document", ATTACH, attach_to_document, resource()),
        call("participants of a document", LIST_PARTICIPANTS, list(DOCUMENT), resource()),
        call("a document's participants to watch", WATCH_PARTICIPANTS, watch(DOCUMENT), resource()),
        call("attaching to an unknown room", ATTACH, attach_nowhere, no_room()),
        call("participants of an unknown room", LIST_PARTICIPANTS, list(nowhere), no_room()),
        call("an unknown room's participants to watch", WATCH_PARTICIPANTS, watch(nowhere), no_room()),
        call(
            "a detaching in an unknown room",
            DETACH,
            detach("rooms/nowhere/participants/admin", NOBODYS_UID),
            no_room(),
        ),
    ]
}
