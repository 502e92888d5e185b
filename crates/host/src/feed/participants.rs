//! Who is attached: a snapshot, then changes; a new snapshot whenever changes were missed.

use std::sync::Arc;

use conclave_proto::events::{EncodedEvent, EventBatch};
use conclave_proto::v1;
use conclave_proto::v1::event::Kind;
use conclave_types::Revision;
use prost::Message;
use tokio::sync::Notify;

use super::{Cursor, ELEMENT_BYTES, Element, FeedPlace};
use crate::faults::Fault;
use crate::hub::{Channel, Listening, Taken};

const NO_REVISION: Revision = Revision(0);
/// Most bytes of participants in a snapshot; those beyond follow as attached, so that no frame is too large.
const SNAPSHOT_BYTES: usize = 256 << 10;

pub struct ParticipantsFeed {
    at: FeedPlace,
    presence: PresenceEvents,
    said_live: bool,
}

impl ParticipantsFeed {
    pub fn open(at: FeedPlace, wake: Arc<Notify>) -> Self {
        let presence = PresenceEvents::open(&at, &wake);
        ParticipantsFeed { at, presence, said_live: false }
    }

    pub fn is_pending(&self) -> bool {
        !self.said_live || self.presence.is_pending()
    }

    pub fn next(&mut self) -> Result<Option<Element>, Fault> {
        match self.presence.next(&self.at)? {
            Some(batch) => Ok(Some(Element::events(NO_REVISION, batch))),
            None if !self.said_live => {
                self.said_live = true;
                Ok(Some(Element::live(NO_REVISION, bytes::Bytes::new())))
            }
            None => Ok(None),
        }
    }
}

/// A room's participants as events, for all feeds that tell of them.
pub struct PresenceEvents {
    listening: Listening,
    missed: bool,
    /// What follows a snapshot that would have been too large.
    rest: Vec<EncodedEvent>,
}

impl PresenceEvents {
    pub fn open(at: &FeedPlace, wake: &Arc<Notify>) -> Self {
        PresenceEvents { listening: at.join(Channel::Participants, wake), missed: true, rest: Vec::new() }
    }

    pub fn is_pending(&self) -> bool {
        self.missed || !self.rest.is_empty() || self.listening.is_pending()
    }

    pub fn next(&mut self, at: &FeedPlace) -> Result<Option<EventBatch>, Fault> {
        if self.missed {
            self.missed = false;
            return Ok(Some(self.snapshot(at)));
        }
        if !self.rest.is_empty() {
            return Ok(Some(self.take_rest()));
        }
        loop {
            let mut taken = Vec::new();
            match self.listening.take(ELEMENT_BYTES, |_| true, &mut taken) {
                Taken::Nothing => return Ok(None),
                Taken::Ended => return Err(at.room_not_found()),
                Taken::Behind { .. } => return Ok(Some(self.snapshot(at))),
                Taken::Some if taken.is_empty() => {}
                Taken::Some => return Ok(Some(Cursor::at(NO_REVISION).batch(&taken))),
            }
        }
    }

    /// Everybody who is attached, as far as the channel has told. What it tells next may be in it already; telling that
    /// again is harmless.
    fn snapshot(&mut self, at: &FeedPlace) -> EventBatch {
        let mut participants = at.leading.presence.snapshot(at.room, at.listener);
        let mut bytes = 0;
        let fits = participants.iter().take_while(|participant| {
            bytes += participant.encoded_len();
            bytes <= SNAPSHOT_BYTES
        });
        let rest = participants.split_off(fits.count());
        let attached = |participant| {
            let kind = v1::participant_change::Kind::Attached.into();
            let change = v1::ParticipantChange { kind, participant: Some(participant) };
            EncodedEvent::of(&v1::Event { kind: Some(Kind::ParticipantChange(change)), ..Default::default() })
        };
        // Taken from behind.
        self.rest = rest.into_iter().rev().map(attached).collect();
        let snapshot = Kind::ParticipantSnapshot(v1::ParticipantSnapshot { participants });
        EventBatch::of(&[v1::Event { kind: Some(snapshot), ..Default::default() }])
    }

    fn take_rest(&mut self) -> EventBatch {
        let mut batch = EventBatch::default();
        while let Some(event) = self.rest.pop_if(|event| batch.is_empty() || batch.len() + event.len() <= ELEMENT_BYTES)
        {
            batch.push(&event);
        }
        batch
    }
}
