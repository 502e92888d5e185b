//! The room's log: every message after the cursor, without gaps but those that are said.

use std::sync::Arc;

use bytes::Bytes;
use conclave_proto::events::{EncodedEvent, EventBatch};
use conclave_proto::v1;
use conclave_room::read::{self, StoredMessage};
use conclave_types::Revision;
use tokio::sync::Notify;

use super::{Cursor, ELEMENT_BYTES, ELEMENT_EVENTS, Element, FeedPlace};
use crate::faults::Fault;
use crate::hub::{Channel, Listening, Taken};
use crate::shard::broken;

pub struct MessagesFeed {
    at: FeedPlace,
    listening: Listening,
    cursor: Cursor,
    caught_up: bool,
    said_live: bool,
}

impl MessagesFeed {
    /// Joins the channel before storage is read, so that nothing falls between them.
    pub fn open(at: FeedPlace, after: Revision, wake: Arc<Notify>) -> Self {
        let listening = at.join(Channel::Messages, &wake);
        MessagesFeed { at, listening, cursor: Cursor::at(after), caught_up: false, said_live: false }
    }

    pub fn is_pending(&self) -> bool {
        !self.caught_up || !self.said_live || self.listening.is_pending()
    }

    pub fn next(&mut self) -> Result<Option<Element>, Fault> {
        loop {
            if !self.caught_up {
                if let Some(element) = self.catch_up()? {
                    return Ok(Some(element));
                }
            } else if !self.said_live {
                self.said_live = true;
                return Ok(Some(Element::live(self.cursor.sent(), Bytes::new())));
            } else {
                let mut taken = Vec::new();
                match self.listening.take(ELEMENT_BYTES, |_| true, &mut taken) {
                    Taken::Nothing => return Ok(None),
                    Taken::Ended => return Err(self.at.room_not_found()),
                    Taken::Behind { .. } => self.caught_up = false,
                    Taken::Some => {
                        let batch = self.cursor.batch(&taken);
                        if !batch.is_empty() {
                            return Ok(Some(Element::events(self.cursor.sent(), batch)));
                        }
                    }
                }
            }
        }
    }

    /// The next step from storage; none when there is nothing more to send.
    fn catch_up(&mut self) -> Result<Option<Element>, Fault> {
        // Read first: every message up to here is found below.
        let revision = self.at.revision()?;
        let (tables, group) = (self.at.shard.tables(), self.at.shard.group_id());
        let after = self.cursor.sent();
        let stored = read::messages(&tables, group, self.at.room, after, ELEMENT_EVENTS, ELEMENT_BYTES);
        let stored = stored.map_err(broken)?;
        // Read last: what was trimmed before the messages were read is known here.
        let trimmed_to = read::message_log(&tables, group, self.at.room).map_err(broken)?.trimmed_to;
        if after < trimmed_to {
            self.cursor = Cursor::at(trimmed_to);
            return Ok(Some(Element::gap(trimmed_to, after, trimmed_to)));
        }
        self.caught_up = stored.is_empty();
        let sent = stored.last().map_or(revision.max(after), |last| last.revision);
        self.cursor = Cursor::at(sent);
        let mut batch = EventBatch::default();
        stored
            .iter()
            .filter(|message| !self.at.is_own(message.session))
            .for_each(|message| batch.push(&encoded(message)));
        match batch.is_empty() {
            // All of this step were the follower's own.
            true if !stored.is_empty() => self.catch_up_later(sent),
            true => Ok(None),
            false => Ok(Some(Element::events(sent, batch))),
        }
    }

    /// Says how far it came, so that a pull does not read without end.
    fn catch_up_later(&self, sent: Revision) -> Result<Option<Element>, Fault> {
        Ok(Some(Element::events(sent, EventBatch::default())))
    }
}

/// A stored message as followers get it.
pub fn encoded(message: &StoredMessage) -> EncodedEvent {
    let StoredMessage { revision, time, sender, message, .. } = message;
    EncodedEvent::message(revision.0, *time, sender.as_str(), message, v1::Lane::Durable, &[])
}
