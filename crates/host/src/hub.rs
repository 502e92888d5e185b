//! The hub of a leadership: hands what happens in a room to those who listen there.
//!
//! A channel exists while somebody listens to it and holds the newest events in a ring, each encoded once. Listeners
//! hold a position in the ring and take from it when their stream has room, so a slow one costs nobody anything and
//! nothing is queued for it: when the ring has moved past its position it is told that it is behind, and what it missed
//! is read from storage, or, where nothing is stored, counted as dropped.
//!
//! An event is published after the batch that holds it is readable. Who joins and then reads storage therefore misses
//! nothing: what was published before is in storage, what comes later is in the ring. An event may be in both; its
//! revision tells.
//!
//! Bounds: events and bytes of a ring. Budget: one publishing per channel, whatever the number of listeners, and a wake
//! for each listener that is not awake already.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conclave_proto::events::EncodedEvent;
use conclave_types::{DocumentNumber, DocumentPath, Revision, RoomUid, SessionId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

/// Most events, and most bytes of them, that a channel keeps for listeners who are not quick enough.
pub const RING_EVENTS: usize = 8_192;
pub const RING_BYTES: usize = 4 << 20;

/// What one listens to inside a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// All topics of the room.
    Room,
    Messages,
    Ephemeral,
    Participants,
    Document(DocumentNumber),
}

/// What an event is about, for those who watch only some of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    Document(DocumentPath),
    /// A document that has another path now: told to who may see either.
    Renamed {
        from: DocumentPath,
        to: DocumentPath,
    },
    Messages,
    Queues,
    Participants,
    Ephemeral,
}

/// An event on its way.
#[derive(Debug)]
pub struct Published {
    /// Zero for what has no place in the room's history.
    pub revision: Revision,
    /// The session that did it; it is not told.
    pub origin: Option<SessionId>,
    pub audience: Audience,
    pub about: About,
    /// The document it was about is gone: its channel ends behind this event, also for the session that did it.
    pub ends_channel: bool,
    pub event: EncodedEvent,
}

/// Who may see an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    All,
    Only(Arc<[Holder]>),
}

/// A participant's uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantUid(pub [u8; 16]);

/// An attached participant, as a receiver of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    pub uid: ParticipantUid,
    /// The session that attached it, if one did.
    pub session: Option<SessionId>,
}

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    Session(SessionId),
    /// A plain stream, for a participant that was attached without a session.
    Participant(ParticipantUid),
    /// A plain stream for nobody in particular.
    Anybody,
}

impl Listener {
    fn may_see(self, event: &Published) -> bool {
        if let (Some(origin), Listener::Session(session)) = (event.origin, self)
            && origin == session
        {
            return false;
        }
        match (&event.audience, self) {
            (Audience::All, _) => true,
            (Audience::Only(holders), Listener::Session(session)) => {
                holders.iter().any(|holder| holder.session == Some(session))
            }
            (Audience::Only(holders), Listener::Participant(uid)) => holders.iter().any(|holder| holder.uid == uid),
            (Audience::Only(_), Listener::Anybody) => false,
        }
    }
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Published>>,
    bytes: usize,
    /// Position of the first event that is kept; positions only grow.
    first: u64,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn push(&mut self, event: Arc<Published>) {
        self.bytes += event.event.len();
        self.events.push_back(event);
        while self.events.len() > RING_EVENTS || (self.bytes > RING_BYTES && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.event.len();
                self.first += 1;
            }
        }
    }
}

#[derive(Debug)]
struct Member {
    listener: Listener,
    wake: Arc<Notify>,
    /// Something was published since the listener last looked.
    pending: AtomicBool,
}

#[derive(Debug, Default)]
struct ChannelState {
    /// The room is gone.
    ended: AtomicBool,
    ring: Mutex<Ring>,
    members: RwLock<Vec<Arc<Member>>>,
}

type Channels = RwLock<HashMap<(RoomUid, Channel), Arc<ChannelState>>>;

/// The channels of one leadership.
#[derive(Debug, Default)]
pub struct Hub {
    channels: Arc<Channels>,
}

impl Hub {
    /// Begins to listen: everything published from now on will be there to take. `wake` is notified when there is
    /// something new; one `Notify` may serve many listeners of one stream.
    pub fn join(&self, room: RoomUid, channel: Channel, listener: Listener, wake: Arc<Notify>) -> Listening {
        let member = Arc::new(Member { listener, wake, pending: AtomicBool::new(false) });
        let mut channels = self.channels.write();
        let state = channels.entry((room, channel)).or_default().clone();
        state.members.write().push(member.clone());
        let position = state.ring.lock().end();
        Listening { room, channel, channels: self.channels.clone(), state, member, position, over: false }
    }

    /// Whether anybody listens; what nobody hears need not be encoded.
    pub fn is_heard(&self, room: RoomUid, channel: Channel) -> bool {
        self.channels.read().contains_key(&(room, channel))
    }

    /// Whether nobody listens anywhere.
    pub fn is_silent(&self) -> bool {
        self.channels.read().is_empty()
    }

    /// Tells all who listen in a room that it is gone.
    pub fn end_room(&self, room: RoomUid) {
        let channels = self.channels.read();
        for (_, state) in channels.iter().filter(|((of, _), _)| *of == room) {
            state.ended.store(true, Ordering::Release);
            state.wake();
        }
    }

    /// Publishes events, in order, and returns how many listeners may see the last of them.
    pub fn publish(&self, room: RoomUid, channel: Channel, events: impl IntoIterator<Item = Arc<Published>>) -> usize {
        let Some(state) = self.channels.read().get(&(room, channel)).cloned() else { return 0 };
        let mut last = None;
        {
            let mut ring = state.ring.lock();
            for event in events {
                last = Some(event.clone());
                ring.push(event);
            }
        }
        let Some(last) = last else { return 0 };
        state.wake();
        state.members.read().iter().filter(|member| member.listener.may_see(&last)).count()
    }
}

impl ChannelState {
    fn wake(&self) {
        for member in self.members.read().iter() {
            if !member.pending.swap(true, Ordering::AcqRel) {
                member.wake.notify_one();
            }
        }
    }
}

/// What a listener finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Events were taken, or passed over because they are not for this listener; there may be more.
    Some,
    /// Nothing new.
    Nothing,
    /// This many events, at least, have left the ring unseen. The position is at the ring's end now.
    Behind { missed: u64 },
    /// The room is gone, or the document was deleted and all before that was taken.
    Ended,
}

/// A place in a channel. Dropping it leaves the channel.
#[derive(Debug)]
pub struct Listening {
    room: RoomUid,
    channel: Channel,
    channels: Arc<Channels>,
    state: Arc<ChannelState>,
    member: Arc<Member>,
    position: u64,
    /// The event that ends the channel was passed.
    over: bool,
}

impl Listening {
    /// Whether something may be there to take. Cheap: no lock.
    pub fn is_pending(&self) -> bool {
        self.member.pending.load(Ordering::Acquire)
    }

    /// Takes events that this listener may see and that `wanted` holds, until `max_bytes` are reached (at least one) or
    /// no more are there. A revision is taken as a whole.
    pub fn take(
        &mut self,
        max_bytes: usize,
        mut wanted: impl FnMut(&Published) -> bool,
        taken: &mut Vec<Arc<Published>>,
    ) -> Taken {
        // Before the ring is looked at: what is published meanwhile sets it again.
        self.member.pending.store(false, Ordering::SeqCst);
        if self.over || self.state.ended.load(Ordering::Acquire) {
            self.member.pending.store(true, Ordering::Release);
            return Taken::Ended;
        }
        let ring = self.state.ring.lock();
        if self.position < ring.first {
            let missed = ring.first - self.position;
            self.position = ring.end();
            return Taken::Behind { missed };
        }
        if self.position == ring.end() {
            return Taken::Nothing;
        }
        let (mut bytes, mut last) = (0, Revision(0));
        for event in ring.events.iter().skip((self.position - ring.first) as usize) {
            let goes_on = event.revision == last && last != Revision(0);
            if bytes > 0 && bytes + event.event.len() > max_bytes && !goes_on {
                self.member.pending.store(true, Ordering::Release);
                break;
            }
            self.position += 1;
            last = event.revision;
            if event.ends_channel && matches!(self.channel, Channel::Document(_)) {
                self.over = true;
                self.member.pending.store(true, Ordering::Release);
            }
            if self.member.listener.may_see(event) && wanted(event) {
                bytes += event.event.len();
                taken.push(event.clone());
            }
        }
        Taken::Some
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut channels = self.channels.write();
        let mut members = self.state.members.write();
        members.retain(|member| !Arc::ptr_eq(member, &self.member));
        if members.is_empty() {
            channels.remove(&(self.room, self.channel));
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(revisions(&mut slow), (Taken::Behind { missed: 10 }, vec![]));
        hub.publish(ROOM, Channel::Messages, [event(count + 1, None, Audience::All)]);
        assert_eq!(revisions(&mut slow), (Taken::Some, vec![count + 1]));
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
}
