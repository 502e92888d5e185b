//! The hub of a leadership: hands what happens in a room to those who listen there.
//!
//! A channel exists while somebody listens to it and holds the newest events in a ring, each encoded once. Listeners
//! hold a position in the ring and take from it when their stream has room, so a slow one costs nobody anything and
//! nothing is queued for it: when the ring has moved past its position it is told that it is behind, and what it missed
//! is read from storage, or, where nothing is stored, counted as dropped: for each listener exactly what it should have
//! had, when an event leaves the ring.
//!
//! An event is published after the batch that holds it is readable. Who joins and then reads storage therefore misses
//! nothing: what was published before is in storage, what comes later is in the ring. An event may be in both; its
//! revision tells.
//!
//! Bounds: events and bytes of a ring. Budget: one publishing per channel, whatever the number of listeners, a wake for
//! each listener that is not awake already, and, for an event without a revision that leaves a full ring, a comparison for
//! each listener.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

impl Published {
    /// Nothing is stored of it: whoever misses it has lost it.
    fn is_passing(&self) -> bool {
        self.revision == Revision(0)
    }
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

    /// `left`: called with each event that has to leave, and its position.
    fn push(&mut self, event: Arc<Published>, left: impl Fn(u64, &Published)) {
        self.bytes += event.event.len();
        self.events.push_back(event);
        while self.events.len() > RING_EVENTS || (self.bytes > RING_BYTES && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                left(self.first, &oldest);
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
    /// Of the next event that it has not taken. Changed under the lock of the ring, as is `dropped`.
    position: AtomicU64,
    /// Passing events that it should have had and that left the ring untaken.
    dropped: AtomicU64,
}

impl Member {
    fn count_if_dropped(&self, position: u64, event: &Published) {
        if self.position.load(Ordering::Relaxed) <= position && self.listener.may_see(event) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct ChannelState {
    /// The room is gone.
    ended: AtomicBool,
    /// Locked before `ring`.
    members: RwLock<Vec<Arc<Member>>>,
    ring: Mutex<Ring>,
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
        let mut channels = self.channels.write();
        let state = channels.entry((room, channel)).or_default().clone();
        let mut members = state.members.write();
        let position = state.ring.lock().end().into();
        let member = Member { listener, wake, pending: false.into(), position, dropped: 0.into() };
        let member = Arc::new(member);
        members.push(member.clone());
        drop(members);
        Listening { room, channel, channels: self.channels.clone(), state, member, over: false }
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
            wake(&state.members.read());
        }
    }

    /// Publishes events, in order, and returns how many listeners may see the last of them.
    pub fn publish(&self, room: RoomUid, channel: Channel, events: impl IntoIterator<Item = Arc<Published>>) -> usize {
        let Some(state) = self.channels.read().get(&(room, channel)).cloned() else { return 0 };
        let members = state.members.read();
        let left = |position, event: &Published| {
            if event.is_passing() {
                members.iter().for_each(|member| member.count_if_dropped(position, event));
            }
        };
        let mut last = None;
        {
            let mut ring = state.ring.lock();
            for event in events {
                last = Some(event.clone());
                ring.push(event, left);
            }
        }
        let Some(last) = last else { return 0 };
        wake(&members);
        members.iter().filter(|member| member.listener.may_see(&last)).count()
    }
}

fn wake(members: &[Arc<Member>]) {
    for member in members {
        if !member.pending.swap(true, Ordering::AcqRel) {
            member.wake.notify_one();
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
    /// Events have left the ring unseen. The position is at the ring's end now; with what was passed over this many events
    /// without a revision are lost that this listener should have had.
    Behind { dropped: u64 },
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
        let Member { listener, position, dropped, .. } = &*self.member;
        let ring = self.state.ring.lock();
        let mut at = position.load(Ordering::Relaxed);
        if at < ring.first {
            let passed =
                ring.events.iter().filter(|event| event.is_passing() && listener.may_see(event)).count() as u64;
            position.store(ring.end(), Ordering::Relaxed);
            return Taken::Behind { dropped: dropped.swap(0, Ordering::Relaxed) + passed };
        }
        if at == ring.end() {
            return Taken::Nothing;
        }
        let (mut bytes, mut last) = (0, Revision(0));
        for event in ring.events.iter().skip((at - ring.first) as usize) {
            let goes_on = event.revision == last && last != Revision(0);
            if bytes > 0 && bytes + event.event.len() > max_bytes && !goes_on {
                self.member.pending.store(true, Ordering::Release);
                break;
            }
            at += 1;
            last = event.revision;
            if event.ends_channel && matches!(self.channel, Channel::Document(_)) {
                self.over = true;
                self.member.pending.store(true, Ordering::Release);
            }
            if listener.may_see(event) && wanted(event) {
                bytes += event.event.len();
                taken.push(event.clone());
            }
        }
        position.store(at, Ordering::Relaxed);
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
mod tests;
