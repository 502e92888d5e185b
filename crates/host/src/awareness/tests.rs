use conclave_types::limits::AWARENESS_EXPIRY_MS;
use conclave_types::{RoomNumber, Slot};

use super::*;
use crate::hub::{Listener, Listening, Taken};
use crate::shard_time::moved::{MovedClock, time};

const ROOM: RoomUid = RoomUid { slot: Slot(1), number: RoomNumber(1) };
const NOTES: DocumentNumber = DocumentNumber(7);
const ADA: SessionId = SessionId([1; 16]);
const BOB: SessionId = SessionId([2; 16]);

struct Viewed {
    clock: Arc<MovedClock>,
    awareness: Awareness,
    hub: Hub,
    viewer: Listening,
}

fn viewed_by(listener: Listener) -> Viewed {
    let (clock, time) = time();
    let hub = Hub::default();
    let viewer = hub.join(ROOM, Channel::Document(NOTES), listener, Arc::default());
    Viewed { clock, awareness: Awareness::new(time), hub, viewer }
}

impl Viewed {
    fn show(&self, session: Option<SessionId>, payload: &'static str) -> usize {
        let participant = "ada".parse().expect("a participant");
        let path = "notes.md".parse().expect("a path");
        let source = Source { document: (ROOM, NOTES), number: source_number(session, &participant) };
        self.awareness.show(&self.hub, source, path, &participant, session, payload.into())
    }

    /// Source and payload of what the viewer was told.
    fn told(&mut self) -> Vec<(u64, String)> {
        let mut taken = Vec::new();
        while self.viewer.take(1 << 20, |_| true, &mut taken) != Taken::Nothing {}
        decoded(&taken)
    }

    fn snapshot(&self) -> Vec<(u64, String)> {
        decoded(&self.awareness.snapshot(ROOM, NOTES))
    }
}

fn decoded(events: &[Arc<Published>]) -> Vec<(u64, String)> {
    let mut batch = conclave_proto::events::EventBatch::default();
    events.iter().for_each(|event| batch.push(&event.event));
    let shown = |event: v1::Event| match event.kind {
        Some(Kind::DocumentAwareness(shown)) => {
            assert_eq!((shown.document.as_str(), event.revision), ("notes.md", 0));
            (shown.source, String::from_utf8(shown.payload.to_vec()).expect("text"))
        }
        other => panic!("{other:?}"),
    };
    batch.events().expect("events").into_iter().map(shown).collect()
}

#[test]
fn viewers_see_it_now_and_late_ones_see_the_newest() {
    let mut viewed = viewed_by(Listener::Anybody);
    let (ada, bob) = (session_number(ADA), session_number(BOB));
    assert_eq!(viewed.show(Some(ADA), "1"), 1);
    viewed.show(Some(BOB), "2");
    viewed.show(Some(ADA), "3");
    assert_eq!(viewed.told(), [(ada, "1".into()), (bob, "2".into()), (ada, "3".into())]);
    assert_eq!(viewed.snapshot(), [(ada, "3".into()), (bob, "2".into())]);
}

#[test]
fn nobody_sees_their_own() {
    let mut viewed = viewed_by(Listener::Session(ADA));
    assert_eq!(viewed.show(Some(ADA), "1"), 0);
    assert_eq!(viewed.show(None, "2"), 1);
    assert_eq!(viewed.told().len(), 1);
}

#[test]
fn an_empty_payload_and_an_orderly_end_take_it_away() {
    let mut viewed = viewed_by(Listener::Anybody);
    let (ada, bob) = (session_number(ADA), session_number(BOB));
    viewed.show(Some(ADA), "1");
    viewed.show(Some(BOB), "2");
    viewed.show(Some(ADA), "");
    viewed.told();
    assert_eq!(viewed.snapshot(), [(bob, "2".into())]);
    viewed.awareness.session_left(ADA);
    viewed.awareness.session_left(BOB);
    assert!(viewed.snapshot().is_empty());
    viewed.awareness.publish_due(&viewed.hub);
    assert_eq!(viewed.told(), [(bob, String::new())]);
    assert_ne!(ada, bob);
}

#[test]
fn a_session_that_is_back_before_its_leaving_was_told_is_seen() {
    let mut viewed = viewed_by(Listener::Anybody);
    let ada = session_number(ADA);
    viewed.show(Some(ADA), "1");
    viewed.awareness.session_left(ADA);
    viewed.show(Some(ADA), "2");
    viewed.awareness.publish_due(&viewed.hub);
    assert_eq!(viewed.told(), [(ada, "1".into()), (ada, String::new()), (ada, "2".into())]);
}

#[test]
fn what_expires_is_told_and_then_nothing_is_due() {
    let mut viewed = viewed_by(Listener::Anybody);
    viewed.show(None, "1");
    assert!(viewed.awareness.publish_due(&viewed.hub).is_some());
    viewed.clock.pass(AWARENESS_EXPIRY_MS);
    assert!(viewed.snapshot().is_empty());
    assert_eq!(viewed.awareness.publish_due(&viewed.hub), None);
    let told: Vec<_> = viewed.told().into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(told, ["1", ""]);
}
