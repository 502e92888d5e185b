//! Feeds: what happens in a room, brought to one who follows it.
//!
//! A feed joins its channel of the hub, then reads from storage what lies behind its cursor, says `Live`, and goes on
//! with the channel. One that falls behind the channel's ring reads from storage again from where it was. So a follower
//! that is slow, or does not read at all, holds up nobody: nothing is kept for it but a position.
//!
//! A feed is pulled, one element at a time, by whoever has room for one; it never waits. Work of a pull is bounded: at
//! most 64 KiB of events (or one larger event) and a few reads for each. Where waiting is needed, as for a large
//! document, a task of the shard does it and wakes the puller.
//!
//! Budget of a delivered event: encoded once for all followers; for each of them a pointer in a batch, and one copy of
//! its bytes into the frame that is written. Catching up costs one read and one encoding of each event.
//!
//! ```text
//! CatchingUp -- storage has no more --> Live -- the ring has moved past --> CatchingUp (no second `Live`)
//! any -- the document is deleted, the room is gone --> ended by a fault
//! ```

mod backlog;
mod document;
mod ephemeral;
mod messages;
mod participants;
mod room;
mod stream;
mod turns;

use std::sync::Arc;

use conclave_auth::Claims;
use conclave_proto::events::EventBatch;
use conclave_proto::v1;
use conclave_types::{Clocks, DocumentPath, QueueName, Revision, RoomName, RoomUid};
use tokio::sync::Notify;

use crate::consume::{Consume, Deliveries};
use crate::faults::{self, Fault};
use crate::hub::{Channel, Listener, Listening, Published};
use crate::leadership::Leading;
use crate::scope;
use crate::shard::Shard;

pub use backlog::Update;
pub use room::Topics;
pub use stream::{MAX_STREAMS, stream};
pub use turns::Turns;

/// Most bytes of events in one element, unless a single event has more.
pub const ELEMENT_BYTES: usize = 64 << 10;
/// Most events read from storage for one element.
const ELEMENT_EVENTS: usize = 256;
/// An update of more bytes is sent in parts of so many.
const PART_BYTES: usize = 256 << 10;

/// What a feed brings.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Empty topics: all that the claims allow.
    Room {
        topics: Vec<v1::Topic>,
    },
    Messages,
    Ephemeral,
    Participants,
    Document {
        path: DocumentPath,
        /// What the follower has of it; counts when it names no revision.
        vector: Clocks,
        create: bool,
    },
    /// Deliveries of a queue, for one of its consumers.
    Deliveries(Consume),
}

/// Where a feed is, and whose it is.
#[derive(Clone)]
pub struct FeedPlace {
    pub shard: Arc<Shard>,
    pub leading: Arc<Leading>,
    pub claims: Arc<Claims>,
    pub room: RoomUid,
    pub room_name: RoomName,
    pub listener: Listener,
}

/// One element of a feed.
#[derive(Debug)]
pub struct Element {
    /// The cursor after it: all events up to here were sent. 0 while that cannot be said.
    pub revision: u64,
    pub body: ElementBody,
}

#[derive(Debug)]
pub enum ElementBody {
    Events(EventBatch),
    Gap(v1::Gap),
    Live(v1::Live),
}

/// A feed that was opened.
pub struct Feed {
    /// `Live` was sent.
    live: bool,
    kind: Kind,
}

enum Kind {
    Room(Box<room::RoomFeed>),
    Messages(messages::MessagesFeed),
    Ephemeral(ephemeral::EphemeralFeed),
    Participants(participants::ParticipantsFeed),
    Document(Box<document::DocumentFeed>),
    Deliveries(Deliveries),
}

/// Opens a feed for all after a revision. `wake` is notified whenever [`Feed::next`] may have something again.
pub async fn open(at: FeedPlace, subject: Subject, after: Revision, wake: Arc<Notify>) -> Result<Feed, Fault> {
    open_in_turn(at, subject, after, wake, Turns::default()).await
}

/// As [`open`], for one of many feeds of a stream, which take turns at what needs memory.
pub async fn open_in_turn(
    at: FeedPlace,
    subject: Subject,
    after: Revision,
    wake: Arc<Notify>,
    turns: Turns,
) -> Result<Feed, Fault> {
    let kind = match subject {
        Subject::Room { topics } => {
            let topics = room::Topics::of(&at.claims, &topics)?;
            at.cursor_is_known(after).await?;
            Kind::Room(Box::new(room::RoomFeed::open(at, topics, after, wake)))
        }
        Subject::Messages => {
            scope::messaging_read(&at.claims)?;
            at.cursor_is_known(after).await?;
            Kind::Messages(messages::MessagesFeed::open(at, after, wake))
        }
        Subject::Ephemeral => {
            scope::messaging_read(&at.claims)?;
            at.cursor_is_known(Revision(0)).await?;
            Kind::Ephemeral(ephemeral::EphemeralFeed::open(at, wake))
        }
        Subject::Participants => {
            scope::participants_list(&at.claims)?;
            at.cursor_is_known(Revision(0)).await?;
            Kind::Participants(participants::ParticipantsFeed::open(at, wake))
        }
        Subject::Document { path, vector, create } => {
            scope::document_open(&at.claims, &path)?;
            at.cursor_is_known(after).await?;
            Kind::Document(Box::new(document::DocumentFeed::open(at, path, vector, create, after, wake, turns).await?))
        }
        Subject::Deliveries(asked) => {
            scope::queue_receive(&at.claims, &asked.queue)?;
            at.cursor_is_known(Revision(0)).await?;
            if !asked.create {
                at.queue_is_there(&asked.queue)?;
            }
            Kind::Deliveries(Deliveries::begin(at, asked, wake))
        }
    };
    Ok(Feed { live: false, kind })
}

impl Feed {
    /// The next element, if there is one now. An error ends the feed.
    pub fn next(&mut self) -> Result<Option<Element>, Fault> {
        let next = match &mut self.kind {
            Kind::Room(feed) => feed.next(),
            Kind::Messages(feed) => feed.next(),
            Kind::Ephemeral(feed) => feed.next(),
            Kind::Participants(feed) => feed.next(),
            Kind::Document(feed) => feed.next(),
            // No history of the room: nothing waits for it.
            Kind::Deliveries(feed) => return feed.next(),
        }?;
        self.live |= matches!(&next, Some(Element { body: ElementBody::Live(_), .. }));
        Ok(next)
    }

    /// Whether the follower was told that it has all: from then on it is told of a change before it is told that the
    /// change happened.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether [`Feed::next`] may have something. Cheap.
    pub fn is_pending(&self) -> bool {
        match &self.kind {
            Kind::Room(feed) => feed.is_pending(),
            Kind::Messages(feed) => feed.is_pending(),
            Kind::Ephemeral(feed) => feed.is_pending(),
            Kind::Participants(feed) => feed.is_pending(),
            Kind::Document(feed) => feed.is_pending(),
            Kind::Deliveries(feed) => feed.is_pending(),
        }
    }

    /// Whether what was already told to others may still be missing here although [`Feed::next`] has nothing: a document
    /// is read by a task, or waits for its turn.
    pub fn is_behind(&self) -> bool {
        match &self.kind {
            Kind::Document(feed) => feed.is_behind(),
            Kind::Room(_) | Kind::Messages(_) | Kind::Ephemeral(_) | Kind::Participants(_) | Kind::Deliveries(_) => {
                false
            }
        }
    }

    /// Widens the window of a consumer; means nothing to other feeds, whose pace is the stream's.
    pub fn credit(&self, events: u32) {
        if let Kind::Deliveries(feed) = &self.kind {
            feed.widen(events);
        }
    }
}

impl FeedPlace {
    /// The room is there, and its history reaches `after`. Said after a read barrier: a deposed leader may be behind.
    async fn cursor_is_known(&self, after: Revision) -> Result<(), Fault> {
        self.shard.read_barrier().await?;
        let revision = self.revision()?;
        if after > revision { Err(Fault::cursor_ahead(after.0, revision.0)) } else { Ok(()) }
    }

    /// The room's revision; a fault once it is deleted.
    fn revision(&self) -> Result<Revision, Fault> {
        let revision = conclave_room::read::revision(&self.shard.tables(), self.shard.group_id(), self.room);
        revision.map_err(crate::shard::broken)?.ok_or_else(|| faults::room_not_found(&self.room_name))
    }

    fn queue_is_there(&self, queue: &QueueName) -> Result<(), Fault> {
        let found = conclave_room::read::queue(&self.shard.tables(), self.shard.group_id(), self.room, queue);
        match found.map_err(crate::shard::broken)? {
            Some(_) => Ok(()),
            None => Err(conclave_room::Refusal::QueueNotFound.into()),
        }
    }

    fn join(&self, channel: Channel, wake: &Arc<Notify>) -> Listening {
        self.leading.hub.join(self.room, channel, self.listener, wake.clone())
    }

    /// Whether what this session did is what the follower did itself.
    fn is_own(&self, session: Option<conclave_types::SessionId>) -> bool {
        session.is_some_and(|session| self.listener == Listener::Session(session))
    }

    fn room_not_found(&self) -> Fault {
        faults::room_not_found(&self.room_name)
    }
}

impl Element {
    pub fn live(revision: Revision, state_vector: bytes::Bytes) -> Element {
        let live = v1::Live { revision: revision.0, state_vector };
        Element { revision: revision.0, body: ElementBody::Live(live) }
    }

    fn gap(cursor: Revision, from: Revision, to: Revision) -> Element {
        let gap = v1::Gap { from_revision: from.0, to_revision: to.0, dropped_count: 0 };
        Element { revision: cursor.0, body: ElementBody::Gap(gap) }
    }

    fn dropped(cursor: Revision, count: u64) -> Element {
        let gap = v1::Gap { from_revision: cursor.0, to_revision: cursor.0, dropped_count: count };
        Element { revision: cursor.0, body: ElementBody::Gap(gap) }
    }

    pub fn events(cursor: Revision, batch: EventBatch) -> Element {
        Element { revision: cursor.0, body: ElementBody::Events(batch) }
    }
}

/// How far a feed has come.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    sent: Revision,
    /// Storage has brought everything up to here; the ring may hold it too.
    stored: Revision,
}

impl Cursor {
    /// Everything up to here was sent, from storage.
    fn at(revision: Revision) -> Self {
        Cursor { sent: revision, stored: revision }
    }

    /// All events up to here were sent.
    fn sent(&self) -> Revision {
        self.sent
    }

    /// Events that were taken from a ring, whole revisions, without those that storage has brought.
    fn batch(&mut self, taken: &[Arc<Published>]) -> EventBatch {
        let mut batch = EventBatch::default();
        let fresh = |event: &&Arc<Published>| event.revision == Revision(0) || event.revision > self.stored;
        taken.iter().filter(fresh).for_each(|event| batch.push(&event.event));
        self.sent = taken.iter().map(|event| event.revision).fold(self.sent, Revision::max);
        batch
    }
}
