//! Awareness: where somebody is in a document. The newest of each source is kept for those who open the document later;
//! memory of the leadership, never on disk.
//!
//! A source is a session, so that two windows of one participant are told apart, or the participant of a unary call.
//! What a session shows goes with its orderly end. A stream that breaks takes nothing away, because the session comes
//! back: what it showed expires if it does not. A document that is renamed shows under its old path what was sent
//! before.
//!
//! Publishing happens under the lock, so that viewers see what each source sends in order.

mod sources;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_auth::Claims;
use conclave_proto::events::EncodedEvent;
use conclave_proto::resource::DocumentResource;
use conclave_proto::time::timestamp;
use conclave_proto::v1;
use conclave_proto::v1::event::Kind;
use conclave_types::limits::MAX_AWARENESS_BYTES;
use conclave_types::{
    DocumentNumber, DocumentPath, ParticipantName, Revision, RoomName, RoomUid, SessionId, Timestamp,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::documents;
use crate::faults::Fault;
use crate::hub::{About, Audience, Channel, Hub, Published};
use crate::leadership::Leading;
use crate::scope;
use crate::shard::Shard;
use crate::shard_time::ShardTime;

use sources::{Source, Sources};

/// The awareness of a leadership's documents.
pub struct Awareness {
    time: Arc<ShardTime>,
    shown: Mutex<Showing>,
    /// Something is due earlier than the task knows.
    due: Notify,
}

#[derive(Default)]
struct Showing {
    sources: Sources<Shown>,
    /// What viewers must still be told has gone.
    gone: Vec<(Source, Shown)>,
}

/// What a source shows.
#[derive(Clone)]
struct Shown {
    path: DocumentPath,
    participant: ParticipantName,
    session: Option<SessionId>,
    event: Arc<Published>,
}

/// Passes a payload on to everybody who has the document open; an empty one says that the sender has left it.
pub async fn send(
    shard: &Shard,
    leading: &Leading,
    claims: &Claims,
    room: RoomUid,
    room_name: &RoomName,
    from: Option<SessionId>,
    request: v1::SendAwarenessRequest,
) -> Result<v1::SendAwarenessResponse, Fault> {
    let DocumentResource { room: named, path } = request.name.parse()?;
    if named != *room_name {
        return Err(Fault::other_room());
    }
    scope::document_open(claims, &path)?;
    if request.payload.len() > MAX_AWARENESS_BYTES {
        return Err(Fault::too_large("payload", MAX_AWARENESS_BYTES, request.payload.len()));
    }
    let document = documents::open(shard, leading, room, &path, false, &claims.participant).await?;
    let source = Source { document: (room, document.number), number: source_number(from, &claims.participant) };
    let receivers = leading.awareness.show(&leading.hub, source, path, &claims.participant, from, request.payload);
    Ok(v1::SendAwarenessResponse { receiver_count: receivers as u32 })
}

impl Awareness {
    pub fn new(time: Arc<ShardTime>) -> Self {
        Awareness { time, shown: Mutex::default(), due: Notify::new() }
    }

    /// What is shown in a document now. What is published later may be in it already.
    pub fn snapshot(&self, room: RoomUid, document: DocumentNumber) -> Vec<Arc<Published>> {
        let now = self.time.stamp();
        let shown = self.shown.lock();
        if shown.sources.next().is_some_and(|next| next <= now) {
            self.due.notify_one();
        }
        shown.sources.shown(now, (room, document)).map(|shown| shown.event.clone()).collect()
    }

    /// A session ended properly: what it shows is gone.
    pub fn session_left(&self, session: SessionId) {
        let mut shown = self.shown.lock();
        let gone = shown.sources.hide_session(session, session_number(session));
        if !gone.is_empty() {
            shown.gone.extend(gone);
            self.due.notify_one();
        }
    }

    /// A room was deleted: nobody is told.
    pub fn forget_room(&self, room: RoomUid) {
        self.shown.lock().sources.forget_room(room);
    }

    /// Publishes a payload and returns how many streams it was handed to.
    fn show(
        &self,
        hub: &Hub,
        source: Source,
        path: DocumentPath,
        participant: &ParticipantName,
        session: Option<SessionId>,
        payload: Bytes,
    ) -> usize {
        let now = self.time.stamp();
        let leaves = payload.is_empty();
        let event = Arc::new(published(now, source, &path, participant, session, payload));
        let mut showing = self.shown.lock();
        // What has gone was there before.
        showing.publish_gone(hub, now);
        if leaves {
            showing.sources.hide(source);
        } else {
            let is_first = showing.sources.next().is_none();
            let shown = Shown { path, participant: participant.clone(), session, event: event.clone() };
            let driven_out = showing.sources.show(now, source, session, shown);
            showing.gone.extend(driven_out);
            showing.publish_gone(hub, now);
            if is_first {
                self.due.notify_one();
            }
        }
        let (room, document) = source.document;
        hub.publish(room, Channel::Document(document), [event])
    }

    /// Publishes what has gone and what has expired, and returns when the next expires.
    fn publish_due(&self, hub: &Hub) -> Option<Timestamp> {
        let now = self.time.stamp();
        let mut showing = self.shown.lock();
        while let Some(expired) = showing.sources.expire_one(now) {
            showing.gone.push(expired);
        }
        showing.publish_gone(hub, now);
        showing.sources.next()
    }
}

impl Showing {
    fn publish_gone(&mut self, hub: &Hub, now: Timestamp) {
        for (source, Shown { path, participant, session, .. }) in self.gone.drain(..) {
            let (room, document) = source.document;
            let channel = Channel::Document(document);
            if hub.is_heard(room, channel) {
                let event = published(now, source, &path, &participant, session, Bytes::new());
                hub.publish(room, channel, [Arc::new(event)]);
            }
        }
    }
}

/// Tells viewers what has gone, until the leadership ends.
pub async fn run(leading: Arc<Leading>) {
    let awareness = &leading.awareness;
    loop {
        let next = awareness.publish_due(&leading.hub);
        let reached = async {
            match next {
                Some(at) => tokio::time::sleep(Duration::from_millis(at.since_ms(awareness.time.stamp()))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leading.ended.cancelled() => return,
            () = awareness.due.notified() => {}
            () = reached => {}
        }
    }
}

fn published(
    now: Timestamp,
    source: Source,
    path: &DocumentPath,
    participant: &ParticipantName,
    session: Option<SessionId>,
    payload: Bytes,
) -> Published {
    let awareness = v1::DocumentAwareness { document: path.to_string(), source: source.number, payload };
    let event = v1::Event {
        revision: 0,
        time: Some(timestamp(now)),
        participant: participant.to_string(),
        kind: Some(Kind::DocumentAwareness(awareness)),
    };
    Published {
        revision: Revision(0),
        origin: session,
        audience: Audience::All,
        about: About::Document(path.clone()),
        ends_channel: false,
        event: EncodedEvent::of(&event),
    }
}

fn source_number(session: Option<SessionId>, participant: &ParticipantName) -> u64 {
    match session {
        Some(session) => session_number(session),
        None => {
            // It must stay the same only as long as the leadership, because all that it names is its memory.
            let mut hasher = DefaultHasher::new();
            participant.as_str().hash(&mut hasher);
            hasher.finish()
        }
    }
}

fn session_number(SessionId(bytes): SessionId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests;
