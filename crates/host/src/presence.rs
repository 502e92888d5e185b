//! Presence: who is attached to the rooms of a shard now. Memory of the leadership, never on disk.
//!
//! [`room`] holds the rules of one room, [`requests`] reads requests, [`lease`] is renewed by every frame; here are the
//! rooms together, and the task that takes out whose lease is over and publishes changes to the hub. That task alone
//! publishes, so watchers see changes in order; it sleeps until something is due and forever while nobody is attached.
//!
//! A participant leaves when it or its session says so. A stream that breaks leaves the lease running: the session comes
//! back within it, or the participant is taken out. A new leader knows nobody; gateways attach the participants of their
//! sessions again, others come back with their next renewal.
//!
//! Bounds: participants of a room; a room is remembered only while somebody is attached, and a moment longer.

mod lease;
mod requests;
mod room;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use conclave_auth::Claims;
use conclave_proto::events::EncodedEvent;
use conclave_proto::resource::ParticipantPath;
use conclave_proto::time::{duration_of_ms, timestamp};
use conclave_proto::v1;
use conclave_proto::v1::event::Kind;
use conclave_types::{ParticipantName, Revision, RoomName, RoomUid, SessionId, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::admit;
use crate::faults::Fault;
use crate::hub::{About, Audience, Channel, Holder, Hub, Listener, ParticipantUid, Published};
use crate::leadership::Leading;
use crate::shard_time::ShardTime;

use lease::Lease;
use room::{Attached, Change, ChangeKind, RoomPresence};

pub use requests::uid;

/// The participants of a leadership.
pub struct Presence {
    time: Arc<ShardTime>,
    rooms: Mutex<Rooms>,
    /// The leases that frames renew. Changed under the lock of `rooms`, read without it.
    sessions: RwLock<HashMap<SessionId, SessionLease>>,
    /// Something is due earlier than the task knows.
    due: Notify,
}

struct SessionLease {
    room: RoomUid,
    lease: Arc<Lease>,
}

#[derive(Default)]
struct Rooms {
    rooms: HashMap<RoomUid, NamedRoom>,
    /// When each room has something to do next.
    agenda: BTreeSet<(Timestamp, RoomUid)>,
}

struct NamedRoom {
    name: RoomName,
    presence: RoomPresence,
    /// Where it stands in the agenda.
    next: Option<Timestamp>,
}

impl Presence {
    pub fn new(time: Arc<ShardTime>) -> Self {
        Presence { time, rooms: Mutex::default(), sessions: RwLock::default(), due: Notify::new() }
    }

    /// Attaches the caller, changes its participant or renews the lease.
    pub fn attach(
        &self,
        claims: &Claims,
        room: RoomUid,
        room_name: &RoomName,
        session: Option<SessionId>,
        request: v1::AttachParticipantRequest,
    ) -> Result<v1::AttachParticipantResponse, Fault> {
        let attaching = requests::attaching(claims, session, request)?;
        let (name, lease_ms) = (attaching.name.clone(), attaching.lease_ms);
        let fresh = fresh_uid()?;
        let now = self.time.stamp();
        let attached = self.change(room, room_name, |presence| presence.attach(now, attaching, fresh));
        let attached = attached.map_err(|error| requests::fault(error, &name))?;
        Ok(v1::AttachParticipantResponse {
            participant: Some(participant(room_name, &attached)),
            lease: Some(duration_of_ms(lease_ms)),
        })
    }

    /// Takes out the participant that the request names.
    pub fn detach(
        &self,
        claims: &Claims,
        room: RoomUid,
        room_name: &RoomName,
        session: Option<SessionId>,
        request: v1::DetachParticipantRequest,
    ) -> Result<v1::DetachParticipantResponse, Fault> {
        let name = requests::named(&request.name.parse::<ParticipantPath>()?, room_name)?;
        let uid = requests::uid("uid", &request.uid)?;
        let now = self.time.stamp();
        let detach = |presence: &mut RoomPresence| presence.detach(now, &name, &claims.participant, uid, session);
        self.change_known(room, detach)
            .unwrap_or(Err(room::NotAttached))
            .map_err(|_| Fault::participant_not_found(name.as_str()))?;
        Ok(v1::DetachParticipantResponse {})
    }

    /// One page of who is attached, by name.
    pub fn list(
        &self,
        room: RoomUid,
        room_name: &RoomName,
        request: &v1::ListParticipantsRequest,
    ) -> Result<v1::ListParticipantsResponse, Fault> {
        let size = admit::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse::<ParticipantName>()
                    .map_err(|_| Fault::field_invalid("page_token", "is not one that a list returned"))?,
            ),
        };
        let now = self.time.stamp();
        let mut page = self.look(room, now, |room| {
            let present = room.presence.present(now, after.as_ref());
            present.take(size + 1).cloned().collect::<Vec<_>>()
        });
        let more = page.len() > size;
        page.truncate(size);
        let next_page_token = match page.last() {
            Some(last) if more => last.name.to_string(),
            _ => String::new(),
        };
        let participants = page.iter().map(|attached| participant(room_name, attached)).collect();
        Ok(v1::ListParticipantsResponse { participants, next_page_token })
    }

    /// Who is attached as far as watchers were told, by name: with the changes that are published later a listener knows
    /// who is there. Changes that are being published may be in it already.
    pub fn snapshot(&self, room: RoomUid, listener: Listener) -> Vec<v1::Participant> {
        let session = match listener {
            Listener::Session(session) => Some(session),
            Listener::Participant(_) | Listener::Anybody => None,
        };
        let now = self.time.stamp();
        let (name, told) = self.look(room, now, |room| {
            (Some(room.name.clone()), room.presence.told(session).cloned().collect::<Vec<_>>())
        });
        let Some(name) = name else { return Vec::new() };
        told.iter().map(|attached| participant(&name, attached)).collect()
    }

    /// Who is attached under these names, and the names that nobody is attached under. A name given twice counts once.
    pub fn resolve(&self, room: RoomUid, names: &[String]) -> (Vec<Holder>, Vec<String>) {
        let now = self.time.stamp();
        let asked: BTreeSet<&String> = names.iter().collect();
        let holders: HashMap<&String, Holder> = self.look(room, now, |room| {
            let found = asked.iter().filter_map(|name| {
                let attached = room.presence.by_name(now, &name.parse().ok()?)?;
                Some((*name, attached.holder()))
            });
            found.collect()
        });
        let missing = asked.into_iter().filter(|name| !holders.contains_key(name)).cloned().collect();
        (holders.into_values().collect(), missing)
    }

    /// Keeps the lease of the participant of this uid and identity from running until the hold is dropped. None when
    /// there is no such participant.
    pub fn hold(&self, room: RoomUid, uid: ParticipantUid, identity: &ParticipantName) -> Option<Held> {
        let now = self.time.stamp();
        let held = self.look(room, now, |room| {
            let attached = room.presence.by_uid(now, uid).filter(|attached| attached.identity == *identity)?;
            attached.lease.hold();
            Some(attached.lease.clone())
        });
        held.map(|lease| Held { lease, time: self.time.clone() })
    }

    /// A sign of life of a session. Called for every frame: one look into a map, a reading of the steady clock, and the
    /// time only when the last renewal is a moment ago.
    pub fn renew(&self, session: SessionId) {
        if let Some(held) = self.sessions.read().get(&session) {
            held.lease.renew_coarsely(self.time.steady(), || self.time.stamp());
        }
    }

    /// A session ended properly: its participant leaves at once.
    pub fn session_left(&self, session: SessionId) {
        let Some(room) = self.sessions.read().get(&session).map(|held| held.room) else { return };
        let now = self.time.stamp();
        self.change_known(room, |presence| presence.session_left(now, session));
    }

    /// A room was deleted: nobody is in it, and nobody is told.
    pub fn forget_room(&self, room: RoomUid) {
        let mut rooms = self.rooms.lock();
        if let Some(NamedRoom { next: Some(next), .. }) = rooms.rooms.remove(&room) {
            rooms.agenda.remove(&(next, room));
        }
        self.sessions.write().retain(|_, held| held.room != room);
    }

    /// Publishes what is due and returns when the next is.
    fn publish_due(&self, hub: &Hub) -> Option<Timestamp> {
        let now = self.time.stamp();
        loop {
            let (room, name, changes) = {
                let mut rooms = self.rooms.lock();
                let &(at, room) = rooms.agenda.first()?;
                if at > now {
                    return Some(at);
                }
                let Some(named) = rooms.rooms.get_mut(&room) else {
                    rooms.agenda.pop_first();
                    continue;
                };
                named.presence.expire(now);
                let (name, changes) = (named.name.clone(), named.presence.changes(now));
                self.settle(&mut rooms, room, now);
                (room, name, changes)
            };
            publish(hub, room, &name, now, &changes);
        }
    }

    /// Works in a room that may be new.
    fn change<T>(&self, room: RoomUid, name: &RoomName, work: impl FnOnce(&mut RoomPresence) -> T) -> T {
        let mut rooms = self.rooms.lock();
        let named = || NamedRoom { name: name.clone(), presence: RoomPresence::default(), next: None };
        let done = work(&mut rooms.rooms.entry(room).or_insert_with(named).presence);
        self.settle_and_tell(&mut rooms, room);
        done
    }

    /// Works in a room if anybody is there.
    fn change_known<T>(&self, room: RoomUid, work: impl FnOnce(&mut RoomPresence) -> T) -> Option<T> {
        let mut rooms = self.rooms.lock();
        let done = work(&mut rooms.rooms.get_mut(&room)?.presence);
        self.settle_and_tell(&mut rooms, room);
        Some(done)
    }

    /// Reads a room; nothing of one where nobody is. What is found to be over is left to the task.
    fn look<T: Default>(&self, room: RoomUid, now: Timestamp, read: impl FnOnce(&NamedRoom) -> T) -> T {
        let rooms = self.rooms.lock();
        if rooms.agenda.first().is_some_and(|(at, _)| *at <= now) {
            self.due.notify_one();
        }
        rooms.rooms.get(&room).map(read).unwrap_or_default()
    }

    /// As [`Presence::settle`], and the task knows what is due.
    fn settle_and_tell(&self, rooms: &mut Rooms, room: RoomUid) {
        self.settle(rooms, room, self.time.stamp());
        if rooms.agenda.first().is_some_and(|(_, first)| *first == room) {
            self.due.notify_one();
        }
    }

    /// After work in a room: frames renew who is there now, and the agenda says when it has something to do.
    fn settle(&self, rooms: &mut Rooms, room: RoomUid, now: Timestamp) {
        let Some(named) = rooms.rooms.get_mut(&room) else { return };
        let (departed, arrived) = named.presence.take_moved();
        if !departed.is_empty() || !arrived.is_empty() {
            let mut sessions = self.sessions.write();
            for session in departed {
                sessions.remove(&session);
            }
            for (session, lease) in arrived {
                sessions.insert(session, SessionLease { room, lease });
            }
        }
        if let Some(next) = named.next.take() {
            rooms.agenda.remove(&(next, room));
        }
        if named.presence.is_forgettable(now) {
            rooms.rooms.remove(&room);
            return;
        }
        named.next = named.presence.next();
        rooms.agenda.extend(named.next.map(|next| (next, room)));
    }
}

/// Keeps a participant's lease from running.
pub struct Held {
    lease: Arc<Lease>,
    time: Arc<ShardTime>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lease.release(self.time.stamp());
    }
}

/// Takes out whose lease is over and publishes changes, until the leadership ends.
pub async fn run(leading: Arc<Leading>) {
    let presence = &leading.presence;
    loop {
        let next = presence.publish_due(&leading.hub);
        let reached = async {
            match next {
                Some(at) => tokio::time::sleep(Duration::from_millis(at.since_ms(presence.time.stamp()))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leading.ended.cancelled() => return,
            () = presence.due.notified() => {}
            // The shard's time may run slower than the timer: too early is looked at again.
            () = reached => {}
        }
    }
}

/// Tells the watchers, if there are any. One who comes later finds the changes in the snapshot.
fn publish(hub: &Hub, room: RoomUid, name: &RoomName, now: Timestamp, changes: &[Change]) {
    if !changes.is_empty() && hub.is_heard(room, Channel::Participants) {
        let events = changes.iter().map(|change| Arc::new(published(name, now, change)));
        hub.publish(room, Channel::Participants, events);
    }
}

fn published(room: &RoomName, now: Timestamp, change: &Change) -> Published {
    let (kind, doer) = match change.kind {
        ChangeKind::Attached => (v1::participant_change::Kind::Attached, Some(&change.participant.identity)),
        ChangeKind::Updated => (v1::participant_change::Kind::Updated, Some(&change.participant.identity)),
        ChangeKind::Detached => (v1::participant_change::Kind::Detached, Some(&change.participant.identity)),
        ChangeKind::LeaseEnded => (v1::participant_change::Kind::LeaseEnded, None),
    };
    let told = v1::ParticipantChange { kind: kind.into(), participant: Some(participant(room, &change.participant)) };
    let event = v1::Event {
        revision: 0,
        time: Some(timestamp(now)),
        participant: doer.map(ParticipantName::to_string).unwrap_or_default(),
        kind: Some(Kind::ParticipantChange(told)),
    };
    Published {
        revision: Revision(0),
        origin: change.by,
        audience: Audience::All,
        about: About::Participants,
        ends_channel: false,
        event: EncodedEvent::of(&event),
    }
}

fn participant(room: &RoomName, attached: &Attached) -> v1::Participant {
    let path = ParticipantPath { room: room.clone(), participant: attached.name.clone() };
    v1::Participant {
        name: path.to_string(),
        uid: requests::uid_text(attached.uid),
        create_time: Some(timestamp(attached.created)),
        update_time: Some(timestamp(attached.updated)),
        identity: attached.identity.to_string(),
        role: attached.role.clone(),
        attributes: attached.attributes.clone(),
    }
}

/// 128 random bits: no two attachings meet, and none can be guessed.
fn fresh_uid() -> Result<ParticipantUid, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Fault::internal("randomness"))?;
    Ok(ParticipantUid(bytes))
}

#[cfg(test)]
mod tests;
