//! The hub by itself: who is told what, and who is told that they are behind.

use conclave_proto::v1;
use conclave_types::{RoomNumber, Slot};

use super::*;

const ROOM: RoomUid = RoomUid { slot: Slot(1), number: RoomNumber(1) };

fn event(revision: u64, origin: Option<SessionId>, audience: Audience) -> Arc<Published> {
    let event = EncodedEvent::of(&v1::Event { revision, participant: "x".repeat(100), ..Default::default() });
    let revision = Revision(revision);
    Arc::new(Published { revision, origin, audience, about: About::Messages, ends_channel: false, event })
}

fn revisions(listening: &mut Listening) -> (Taken, Vec<u64>) {
    let mut taken = Vec::new();
    let found = listening.take(1 << 20, |_| true, &mut taken);
    (found, taken.iter().map(|event| event.revision.0).collect())
}

#[test]
fn listeners_take_what_was_published_since_they_joined() {
    let hub = Hub::default();
    assert_eq!(hub.publish(ROOM, Channel::Messages, [event(1, None, Audience::All)]), 0);
    let mut listening = hub.join(ROOM, Channel::Messages, Listener::Anybody, Arc::default());
    assert_eq!(revisions(&mut listening), (Taken::Nothing, vec![]));
    assert_eq!(hub.publish(ROOM, Channel::Messages, [2, 3].map(|n| event(n, None, Audience::All))), 1);
    assert!(listening.is_pending());
    assert_eq!(revisions(&mut listening), (Taken::Some, vec![2, 3]));
    assert_eq!(revisions(&mut listening), (Taken::Nothing, vec![]));
    drop(listening);
    assert!(!hub.is_heard(ROOM, Channel::Messages));
}

#[test]
fn a_session_is_not_told_what_it_did_itself() {
    let hub = Hub::default();
    let session = SessionId([1; 16]);
    let mut own = hub.join(ROOM, Channel::Messages, Listener::Session(session), Arc::default());
    let other = Listener::Session(SessionId([2; 16]));
    let mut other = hub.join(ROOM, Channel::Messages, other, Arc::default());
    assert_eq!(hub.publish(ROOM, Channel::Messages, [event(1, Some(session), Audience::All)]), 1);
    assert!(revisions(&mut own).1.is_empty());
    assert_eq!(revisions(&mut other).1, [1]);
}

#[test]
fn what_is_for_some_is_seen_by_them_alone() {
    let hub = Hub::default();
    let (session, uid) = (SessionId([1; 16]), ParticipantUid([9; 16]));
    let mut named = hub.join(ROOM, Channel::Ephemeral, Listener::Session(session), Arc::default());
    let mut plain = hub.join(ROOM, Channel::Ephemeral, Listener::Participant(uid), Arc::default());
    let mut anybody = hub.join(ROOM, Channel::Ephemeral, Listener::Anybody, Arc::default());
    let by_session = Holder { uid: ParticipantUid([3; 16]), session: Some(session) };
    let both = Audience::Only([by_session, Holder { uid, session: None }].into());
    assert_eq!(hub.publish(ROOM, Channel::Ephemeral, [event(0, None, both)]), 2);
    assert_eq!(revisions(&mut named).1.len(), 1);
    assert_eq!(revisions(&mut plain).1.len(), 1);
    assert_eq!(revisions(&mut anybody).1.len(), 0);
}

#[test]
fn who_falls_behind_the_ring_is_told_and_goes_on_at_its_end() {
    let hub = Hub::default();
    let mut slow = hub.join(ROOM, Channel::Messages, Listener::Anybody, Arc::default());
    let count = RING_EVENTS as u64 + 10;
    for revision in 1..=count {
        hub.publish(ROOM, Channel::Messages, [event(revision, None, Audience::All)]);
    }
    assert_eq!(revisions(&mut slow), (Taken::Behind { dropped: 0 }, vec![]), "storage has it all");
    hub.publish(ROOM, Channel::Messages, [event(count + 1, None, Audience::All)]);
    assert_eq!(revisions(&mut slow), (Taken::Some, vec![count + 1]));
}

#[test]
fn what_is_lost_is_counted_for_whoever_should_have_had_it() {
    const EACH: usize = 10;
    let hub = Hub::default();
    let session = |number| SessionId([number; 16]);
    let join = |number| hub.join(ROOM, Channel::Ephemeral, Listener::Session(session(number)), Arc::default());
    let (mut author, mut named, mut other, mut quick) = (join(1), join(2), join(3), join(4));
    let only =
        |number| Audience::Only([Holder { uid: ParticipantUid([9; 16]), session: Some(session(number)) }].into());
    let say = |audience: &dyn Fn() -> Audience| {
        hub.publish(ROOM, Channel::Ephemeral, (0..EACH).map(|_| event(0, Some(session(1)), audience())));
    };
    say(&|| Audience::All);
    assert_eq!(revisions(&mut quick).1.len(), EACH);
    say(&|| only(2));
    // Moves the ring past all of them, and is not lost.
    hub.publish(ROOM, Channel::Ephemeral, (1..=RING_EVENTS as u64).map(|n| event(n, None, Audience::All)));
    // In the ring when the slow ones look, and passed over.
    say(&|| Audience::All);
    let behind = |listening: &mut Listening| match revisions(listening) {
        (Taken::Behind { dropped }, _) => dropped as usize / EACH,
        other => panic!("{other:?}"),
    };
    assert_eq!([&mut author, &mut named, &mut other, &mut quick].map(behind), [0, 3, 2, 1]);
    say(&|| Audience::All);
    assert_eq!(revisions(&mut other).1.len(), EACH, "it goes on at the end");
}

#[test]
fn a_bounded_take_leaves_the_rest_pending() {
    let hub = Hub::default();
    let mut listening = hub.join(ROOM, Channel::Messages, Listener::Anybody, Arc::default());
    hub.publish(ROOM, Channel::Messages, (1..=3).map(|n| event(n, None, Audience::All)));
    let mut taken = Vec::new();
    assert_eq!(listening.take(1, |_| true, &mut taken), Taken::Some);
    assert_eq!(taken.len(), 1);
    assert!(listening.is_pending());
    assert_eq!(revisions(&mut listening).1, [2, 3]);
}

#[test]
fn a_revision_is_taken_as_a_whole() {
    let hub = Hub::default();
    let mut listening = hub.join(ROOM, Channel::Messages, Listener::Anybody, Arc::default());
    hub.publish(ROOM, Channel::Messages, [1, 1, 1, 2].map(|n| event(n, None, Audience::All)));
    let mut taken = Vec::new();
    assert_eq!(listening.take(1, |_| true, &mut taken), Taken::Some);
    assert_eq!(taken.len(), 3);
}

#[test]
fn the_end_of_a_channel_is_found_by_the_session_that_ended_it_too() {
    let hub = Hub::default();
    let session = SessionId([1; 16]);
    let channel = Channel::Document(DocumentNumber(1));
    let mut own = hub.join(ROOM, channel, Listener::Session(session), Arc::default());
    let mut other = hub.join(ROOM, channel, Listener::Anybody, Arc::default());
    let mut last = event(1, Some(session), Audience::All);
    Arc::get_mut(&mut last).expect("not shared yet").ends_channel = true;
    hub.publish(ROOM, channel, [last]);
    assert_eq!(revisions(&mut own), (Taken::Some, vec![]));
    assert_eq!(revisions(&mut own), (Taken::Ended, vec![]));
    assert_eq!(revisions(&mut other), (Taken::Some, vec![1]));
    assert!(other.is_pending());
    assert_eq!(revisions(&mut other), (Taken::Ended, vec![]));
}

#[test]
fn all_who_listen_in_a_room_are_told_that_it_is_gone() {
    let hub = Hub::default();
    let mut listening = hub.join(ROOM, Channel::Messages, Listener::Anybody, Arc::default());
    hub.end_room(ROOM);
    assert!(listening.is_pending());
    assert_eq!(revisions(&mut listening), (Taken::Ended, vec![]));
}

#[tokio::test]
async fn a_publishing_wakes_a_listener_that_came_to_wait_late() {
    let hub = Hub::default();
    let wake = Arc::new(Notify::new());
    let listening = hub.join(ROOM, Channel::Messages, Listener::Anybody, wake.clone());
    hub.publish(ROOM, Channel::Messages, [event(1, None, Audience::All)]);
    wake.notified().await;
    assert!(listening.is_pending());
}
