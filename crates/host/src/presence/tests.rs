use conclave_auth::{OpenRooms, Rights, Role};
use conclave_proto::v1::ErrorReason;
use conclave_proto::v1::participant_change::Kind as Told;
use conclave_types::{RoomNumber, Slot};

use super::*;
use crate::hub::{Listener, Listening, Taken};
use crate::shard_time::moved::{MovedClock, time};

const ROOM: RoomUid = RoomUid { slot: Slot(1), number: RoomNumber(1) };
const ADA: SessionId = SessionId([1; 16]);
const BOB: SessionId = SessionId([2; 16]);
const LEASE_MS: u64 = 30_000;
/// Longer than any lease of that length lasts, with what renewals are coarse by.
const OVER_MS: u64 = LEASE_MS + 100;

fn claims(participant: &str) -> Claims {
    Claims {
        project: "acme".parse().expect("a project"),
        participant: participant.parse().expect("a participant"),
        role: Role::User,
        rooms: OpenRooms::All,
        rights: Rights::default(),
        expires: Timestamp(u64::MAX),
    }
}

fn lab() -> RoomName {
    "lab".parse().expect("a room")
}

fn presence() -> (Arc<MovedClock>, Presence) {
    let (clock, time) = time();
    (clock, Presence::new(time))
}

fn attach(presence: &Presence, name: &str, session: Option<SessionId>) -> v1::Participant {
    let identity = name.split('#').next().expect("a name");
    let request = v1::AttachParticipantRequest { participant: name.into(), ..Default::default() };
    let response = presence.attach(&claims(identity), ROOM, &lab(), session, request).expect("attached");
    response.participant.expect("a participant")
}

fn names(presence: &Presence) -> Vec<String> {
    let page = presence.list(ROOM, &lab(), &v1::ListParticipantsRequest::default()).expect("a page");
    page.participants.into_iter().map(|participant| participant.name).collect()
}

fn shown(presence: &Presence, listener: Listener) -> Vec<String> {
    presence.snapshot(ROOM, listener).into_iter().map(|participant| participant.identity).collect()
}

fn watch(hub: &Hub, listener: Listener) -> Listening {
    hub.join(ROOM, Channel::Participants, listener, Arc::default())
}

fn told(watcher: &mut Listening) -> Vec<(Told, String)> {
    let mut taken = Vec::new();
    while watcher.take(1 << 20, |_| true, &mut taken) != Taken::Nothing {}
    let mut batch = conclave_proto::events::EventBatch::default();
    taken.iter().for_each(|event| batch.push(&event.event));
    let events = batch.events().expect("events");
    let change = |event: v1::Event| match event.kind {
        Some(Kind::ParticipantChange(change)) => (change.kind(), change.participant.expect("whom").name),
        other => panic!("{other:?}"),
    };
    events.into_iter().map(change).collect()
}

#[test]
fn frames_of_its_session_keep_a_participant() {
    let (clock, presence) = presence();
    attach(&presence, "ada", Some(ADA));
    attach(&presence, "bob", Some(BOB));
    for _ in 0..4 {
        clock.pass(LEASE_MS - 1);
        presence.renew(ADA);
    }
    assert_eq!(names(&presence), ["rooms/lab/participants/ada"]);
    clock.pass(OVER_MS);
    assert!(names(&presence).is_empty());
    // Too late.
    presence.renew(ADA);
    assert!(names(&presence).is_empty());
}

#[test]
fn watchers_are_told_and_the_one_who_did_it_is_not() {
    let (clock, presence) = presence();
    let hub = Hub::default();
    let (mut own, mut other) = (watch(&hub, Listener::Session(ADA)), watch(&hub, Listener::Session(BOB)));
    attach(&presence, "ada", Some(ADA));
    presence.publish_due(&hub);
    assert_eq!(told(&mut other), [(Told::Attached, "rooms/lab/participants/ada".into())]);
    clock.pass(OVER_MS);
    presence.publish_due(&hub);
    assert_eq!(told(&mut other), [(Told::LeaseEnded, "rooms/lab/participants/ada".into())]);
    assert_eq!(told(&mut own), [(Told::LeaseEnded, "rooms/lab/participants/ada".into())]);
}

#[test]
fn a_new_watcher_is_shown_what_was_told_and_what_its_own_session_did() {
    let (clock, presence) = presence();
    let hub = Hub::default();
    attach(&presence, "eve", None);
    presence.publish_due(&hub);
    attach(&presence, "ada", Some(ADA));
    let mut other = watch(&hub, Listener::Session(BOB));
    assert_eq!(shown(&presence, Listener::Session(BOB)), ["eve"], "ada is told in the next batch");
    // Nobody tells ada of herself.
    assert_eq!(shown(&presence, Listener::Session(ADA)), ["ada", "eve"]);
    assert_eq!(names(&presence).len(), 2, "a list shows who is there");
    presence.session_left(ADA);
    clock.pass(room::BATCH_INTERVAL_MS);
    presence.publish_due(&hub);
    assert_eq!(told(&mut other), [], "she came and left");
    assert_eq!(shown(&presence, Listener::Session(ADA)), ["eve"]);
}

#[test]
fn nothing_is_due_where_nobody_is() {
    let (clock, presence) = presence();
    let hub = Hub::default();
    assert_eq!(presence.publish_due(&hub), None);
    attach(&presence, "ada", Some(ADA));
    let first = presence.publish_due(&hub).expect("a lease");
    assert_eq!(first, presence.time.stamp().plus_ms(OVER_MS));
    presence.session_left(ADA);
    // At most ten batches a second.
    let told = presence.publish_due(&hub).expect("a change to be told");
    assert_eq!(told, presence.time.stamp().plus_ms(room::BATCH_INTERVAL_MS));
    clock.pass(room::BATCH_INTERVAL_MS);
    presence.publish_due(&hub);
    clock.pass(room::BATCH_INTERVAL_MS);
    assert_eq!(presence.publish_due(&hub), None);
    assert!(presence.rooms.lock().rooms.is_empty() && presence.sessions.read().is_empty());
}

#[test]
fn the_task_is_woken_for_what_is_due_before_it_knows() {
    let (clock, presence) = presence();
    let is_woken = |presence: &Presence| {
        use futures::FutureExt;
        presence.due.notified().now_or_never().is_some()
    };
    assert!(!is_woken(&presence));
    attach(&presence, "ada", Some(ADA));
    assert!(is_woken(&presence));
    presence.publish_due(&Hub::default());
    clock.pass(1_000);
    presence.renew(ADA);
    assert!(!is_woken(&presence), "a renewal wakes nobody");
    clock.pass(OVER_MS);
    names(&presence);
    assert!(is_woken(&presence), "a reader that finds somebody over says so");
}

#[test]
fn a_held_participant_stays_until_its_lease_after_the_release() {
    let (clock, presence) = presence();
    let ada = attach(&presence, "ada", None);
    let uid = uid("uid", &ada.uid).expect("a uid").expect("a uid");
    let identity = |name: &str| name.parse::<ParticipantName>().expect("a name");
    assert!(presence.hold(ROOM, uid, &identity("bob")).is_none());
    assert!(presence.hold(ROOM, ParticipantUid([0; 16]), &identity("ada")).is_none());
    let held = presence.hold(ROOM, uid, &identity("ada")).expect("ada's own");
    for _ in 0..10 {
        clock.pass(LEASE_MS);
        presence.publish_due(&Hub::default());
    }
    drop(held);
    clock.pass(LEASE_MS - 1);
    assert_eq!(names(&presence).len(), 1);
    clock.pass(OVER_MS - LEASE_MS + 1);
    assert!(names(&presence).is_empty());
}

#[test]
fn a_list_is_in_pages_by_name() {
    let (_, presence) = presence();
    for name in ["eve", "ada", "dan", "bob", "cat"] {
        attach(&presence, name, None);
    }
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListParticipantsRequest { page_size: 2, page_token, ..Default::default() };
        let page = presence.list(ROOM, &lab(), &request).expect("a page");
        let identities = page.participants.into_iter().map(|participant| participant.identity);
        pages.push(identities.collect::<Vec<_>>());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [vec!["ada", "bob"], vec!["cat", "dan"], vec!["eve"]]);
    for bad in [
        v1::ListParticipantsRequest { page_size: 1_001, ..Default::default() },
        v1::ListParticipantsRequest { page_token: "a/b".into(), ..Default::default() },
    ] {
        let fault = presence.list(ROOM, &lab(), &bad).expect_err("out of range");
        assert_eq!(fault.reason, ErrorReason::FieldInvalid);
    }
}

#[test]
fn names_resolve_to_those_who_are_here() {
    let (_, presence) = presence();
    attach(&presence, "ada", Some(ADA));
    attach(&presence, "bob", None);
    let names = ["bob", "eve", "ada", "a/b", "ada"].map(str::to_owned);
    let (holders, missing) = presence.resolve(ROOM, &names);
    assert_eq!(missing, ["a/b", "eve"]);
    assert_eq!(holders.len(), 2);
    assert!(holders.iter().any(|holder| holder.session == Some(ADA)));
}

#[test]
fn requests_of_another_room_and_of_strangers_change_nothing() {
    let (_, presence) = presence();
    let ada = attach(&presence, "ada", Some(ADA));
    let detach = |identity: &str, session, request| {
        let done = presence.detach(&claims(identity), ROOM, &lab(), session, request);
        done.map_err(|fault| fault.reason)
    };
    let request = |name: &str, uid: &str| v1::DetachParticipantRequest { name: name.into(), uid: uid.into() };
    let own = "rooms/lab/participants/ada";
    let not_found = Err(ErrorReason::ParticipantNotFound);
    assert_eq!(detach("ada", None, request(own, "")), not_found);
    assert_eq!(detach("bob", None, request(own, &ada.uid)), not_found);
    assert_eq!(detach("ada", Some(BOB), request(own, "")), not_found);
    assert_eq!(detach("ada", Some(ADA), request("rooms/lab/participants/eve", "")), not_found);
    let other_room = request("rooms/office/participants/ada", "");
    assert_eq!(detach("ada", Some(ADA), other_room), Err(ErrorReason::OtherRoom));
    assert_eq!(names(&presence).len(), 1);
    assert!(detach("ada", None, request(own, &ada.uid)).is_ok());
    assert!(names(&presence).is_empty() && presence.sessions.read().is_empty());
}

#[test]
fn a_deleted_room_is_forgotten_with_its_sessions() {
    let (_, presence) = presence();
    attach(&presence, "ada", Some(ADA));
    presence.forget_room(ROOM);
    presence.renew(ADA);
    presence.session_left(ADA);
    assert!(names(&presence).is_empty() && presence.sessions.read().is_empty());
    assert_eq!(presence.publish_due(&Hub::default()), None);
}
