//! Ephemeral messages: what is said while one listens. Nothing is stored, so what the listener is too slow for is
//! counted and gone.

use std::sync::Arc;

use conclave_types::Revision;
use tokio::sync::Notify;

use super::{Cursor, ELEMENT_BYTES, Element, FeedPlace};
use crate::faults::Fault;
use crate::hub::{Channel, Listening, Taken};

const NO_REVISION: Revision = Revision(0);

pub struct EphemeralFeed {
    at: FeedPlace,
    listening: Listening,
    begun: bool,
}

impl EphemeralFeed {
    pub fn open(at: FeedPlace, wake: Arc<Notify>) -> Self {
        let listening = at.join(Channel::Ephemeral, &wake);
        EphemeralFeed { at, listening, begun: false }
    }

    pub fn is_pending(&self) -> bool {
        !self.begun || self.listening.is_pending()
    }

    pub fn next(&mut self) -> Result<Option<Element>, Fault> {
        if !self.begun {
            self.begun = true;
            return Ok(Some(Element::live(NO_REVISION, bytes::Bytes::new())));
        }
        loop {
            let mut taken = Vec::new();
            match self.listening.take(ELEMENT_BYTES, |_| true, &mut taken) {
                Taken::Nothing => return Ok(None),
                Taken::Ended => return Err(self.at.room_not_found()),
                Taken::Behind { dropped: 0 } => {}
                Taken::Behind { dropped } => return Ok(Some(Element::dropped(NO_REVISION, dropped))),
                Taken::Some if taken.is_empty() => {}
                Taken::Some => {
                    return Ok(Some(Element::events(NO_REVISION, Cursor::at(NO_REVISION).batch(&taken))));
                }
            }
        }
    }
}
