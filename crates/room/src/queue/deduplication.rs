//! Messages that were sent before: recognised by the id that their sender gave them, for as long as the queue remembers.

use conclave_types::Timestamp;

use super::Queue;
use super::expire::{Over, first_look, over_by_now};
use super::item::SentMessage;
use crate::advance::Budget;
use crate::codec::Record;
use crate::keys::QueueTimer;
use crate::state::{State, load};
use crate::{TableError, Tables};

impl Queue {
    /// The item that a message became, if it is remembered.
    pub fn sent_before(&self, state: &State<'_>, message: &[u8]) -> Result<Option<u64>, TableError> {
        let record: Option<SentMessage> =
            load(&state.overlay, &state.keys.sent_message(self.room, self.number, message))?;
        Ok(record.filter(|record| record.forget_at > state.clock()).map(|record| record.item))
    }

    pub fn remember(&mut self, state: &mut State<'_>, message: &[u8], item: u64) -> Result<(), TableError> {
        let window = self.header.settings.deduplication_window_ms;
        if window == 0 {
            return Ok(());
        }
        let forget_at = state.clock().plus_ms(window);
        let key = state.keys.sent_message(self.room, self.number, message);
        if let Some(SentMessage { forget_at, .. }) = load(&state.overlay, &key)? {
            // Over, and not forgotten yet.
            state.overlay.delete(state.keys.forget_message(self.room, self.number, forget_at, message));
        }
        state.overlay.put(key, SentMessage { item, forget_at }.encode());
        state.overlay.put(state.keys.forget_message(self.room, self.number, forget_at, message), bytes::Bytes::new());
        self.watch(state, QueueTimer::Deduplication, forget_at);
        Ok(())
    }

    /// Forgets messages whose time is over, earliest first.
    pub fn forget_messages(
        &mut self,
        state: &mut State<'_>,
        deadline: Timestamp,
        budget: &mut Budget,
    ) -> Result<(), TableError> {
        let (keys, range) = (state.keys, state.keys.forget_messages(self.room, self.number, first_look(deadline)));
        let Over { pairs, next } = over_by_now(state, &range, |key| Ok(keys.parse_forget_message(key)?.0), budget)?;
        for (key, _) in pairs {
            let (_, message) = keys.parse_forget_message(&key)?;
            state.overlay.delete(key.into());
            state.overlay.delete(keys.sent_message(self.room, self.number, &message));
        }
        if let Some(at) = next {
            self.watch(state, QueueTimer::Deduplication, at);
        }
        Ok(())
    }
}
