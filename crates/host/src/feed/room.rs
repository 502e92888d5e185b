//! Everything that happens in a room, in its one order.
//!
//! What was missed is merged from storage by revision ([`history`]); then the participants, `Live`, and the room's
//! channel with what the follower chose and may see.

mod history;
mod topics;

use std::sync::Arc;

use bytes::Bytes;
use conclave_types::Revision;
use tokio::sync::Notify;

use super::backlog::{Backlog, Next};
use super::participants::PresenceEvents;
use super::{Cursor, ELEMENT_BYTES, Element, ElementBody, FeedPlace};
use crate::faults::Fault;
use crate::hub::{About, Channel, Listening, Published, Taken};

use history::History;
pub use topics::Topics;

pub struct RoomFeed {
    at: FeedPlace,
    topics: Topics,
    listening: Listening,
    /// Only when participants are among the topics.
    presence: Option<PresenceEvents>,
    cursor: Cursor,
    phase: Phase,
    said_live: bool,
}

enum Phase {
    /// Reading what is behind the cursor.
    CatchingUp {
        history: Option<Box<History>>,
        backlog: Backlog,
    },
    Following,
}

impl Phase {
    fn behind() -> Phase {
        Phase::CatchingUp { history: None, backlog: Backlog::default() }
    }
}

impl RoomFeed {
    /// Joins the channels before storage is read, so that nothing falls between them.
    pub fn open(at: FeedPlace, topics: Topics, after: Revision, wake: Arc<Notify>) -> Self {
        let listening = at.join(Channel::Room, &wake);
        let presence = topics.participants.then(|| PresenceEvents::open(&at, &wake));
        let cursor = Cursor::at(after);
        RoomFeed { at, topics, listening, presence, cursor, phase: Phase::behind(), said_live: false }
    }

    pub fn is_pending(&self) -> bool {
        let presence = self.presence.as_ref().is_some_and(PresenceEvents::is_pending);
        matches!(self.phase, Phase::CatchingUp { .. }) || !self.said_live || presence || self.listening.is_pending()
    }

    pub fn next(&mut self) -> Result<Option<Element>, Fault> {
        loop {
            if let Phase::CatchingUp { .. } = &self.phase {
                if let Some(element) = self.catch_up()? {
                    return Ok(Some(element));
                }
                continue;
            }
            if let Some(presence) = &mut self.presence
                && let Some(batch) = presence.next(&self.at)?
            {
                return Ok(Some(Element::events(self.cursor.sent(), batch)));
            }
            if !self.said_live {
                self.said_live = true;
                return Ok(Some(Element::live(self.cursor.sent(), Bytes::new())));
            }
            let mut taken = Vec::new();
            match self.listening.take(
                ELEMENT_BYTES,
                |event| self.topics.want(&event.about, &self.at.claims),
                &mut taken,
            ) {
                Taken::Nothing => return Ok(None),
                Taken::Ended => return Err(self.at.room_not_found()),
                Taken::Behind { .. } => self.phase = Phase::behind(),
                Taken::Some => {
                    let batch = match self.came_into_view(&taken) {
                        // What the document holds already has to be sent before it is told of: from storage.
                        Some(at) => {
                            self.phase = Phase::behind();
                            self.cursor.batch(&taken[..at])
                        }
                        None => self.cursor.batch(&taken),
                    };
                    if !batch.is_empty() {
                        return Ok(Some(Element::events(self.cursor.sent(), batch)));
                    }
                }
            }
        }
    }

    /// The place of the first event by which a document came to a path that the follower may open.
    fn came_into_view(&self, taken: &[Arc<Published>]) -> Option<usize> {
        let may_open = |path| self.at.claims.may_open(path);
        let place = taken.iter().position(|event| match &event.about {
            About::Renamed { from, to } => event.revision > self.cursor.stored && !may_open(from) && may_open(to),
            _ => false,
        })?;
        // A revision is told as a whole or not at all.
        let revision = taken[place].revision;
        taken.iter().position(|event| event.revision == revision)
    }

    /// The next element from storage; none when there are no more, or a step brought nothing to send.
    fn catch_up(&mut self) -> Result<Option<Element>, Fault> {
        let Phase::CatchingUp { history, backlog } = &mut self.phase else { return Ok(None) };
        let reading = match history {
            Some(reading) => reading,
            None => {
                let begun = History::begin(&self.at, &self.topics, self.cursor.sent())?;
                history.insert(Box::new(begun))
            }
        };
        if backlog.is_empty() && !reading.is_done() {
            reading.read(&self.at, &self.topics, backlog)?;
        }
        let before = self.cursor.sent();
        let body = backlog.next();
        let sent = backlog.taken_to().unwrap_or(reading.read_to()).max(before);
        self.cursor = Cursor::at(sent);
        if backlog.is_empty() && reading.is_done() {
            self.phase = Phase::Following;
        }
        Ok(body.map(|body| match body {
            Next::Events(batch) => Element::events(sent, batch),
            Next::Gap(gap) => Element { revision: sent.0, body: ElementBody::Gap(gap) },
        }))
    }
}
