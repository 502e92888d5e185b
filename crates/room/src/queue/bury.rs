//! Moves an item among the dead letters, in the commit that finds it dead.
//!
//! Dead letters are items of another queue of the room, so all that can be done with items can be done with them: they
//! are browsed, received, moved back. The queue is made when it is needed, and never refuses one, whatever it may hold.
//! A dead letter does not die again: it waits again where it is.

use conclave_types::{QueueName, Revision};

use super::{DeadLetter, DeadReason, Item, Past, Queue, QueueHeader};
use crate::TableError;
use crate::codec::damaged;
use crate::state::State;

/// What the default name of a queue's dead letters ends with.
const SUFFIX: &str = ".dead";
/// Most bytes of a queue's name.
const MAX_NAME_BYTES: usize = 128;

impl Queue {
    #[expect(clippy::too_many_arguments, reason = "all that is known of a death")]
    pub fn bury(
        &mut self,
        state: &mut State<'_>,
        number: u64,
        item: Item,
        past: Past,
        reason: DeadReason,
        mut dead_letters: Queue,
        revision: Revision,
    ) -> Result<(), TableError> {
        self.remove(state, number, &item)?;
        self.header.totals.dead += 1;
        let retention = dead_letters.header.settings.retention_ms;
        let dead = DeadLetter {
            queue: self.header.name.clone(),
            item: number,
            time: state.clock(),
            reason,
            attempts: past.attempts,
            group: item.group,
            failures: past.failures,
        };
        let letter = Item {
            revision,
            expires: retention.map(|lives| state.clock().plus_ms(lives)),
            group: None,
            dead: Some(dead),
            ..item
        };
        dead_letters.header.last_item += 1;
        dead_letters.header.totals.sent += 1;
        dead_letters.place(state, dead_letters.header.last_item, letter, None)?;
        dead_letters.store_at(state, revision)
    }

    /// Where this item goes when it dies; none if it cannot die.
    pub fn dead_letters(&self, state: &mut State<'_>, item: &Item) -> Result<Option<Queue>, TableError> {
        let name = dead_letter_name(&self.header)?;
        if item.dead.is_some() || name == self.header.name {
            return Ok(None);
        }
        if let Some(number) = state.queue_number(self.room, &name)? {
            return Queue::open(state, self.room, number).map(Some);
        }
        let queues = state.room(self.room)?.map_or(0, |header| header.queues);
        let mut made = Queue::begin(state, self.room, &name, queues);
        made.header.settings.max_attempts = 0;
        Ok(Some(made))
    }
}

/// The queue that takes this one's dead letters.
pub(crate) fn dead_letter_name(header: &QueueHeader) -> Result<QueueName, TableError> {
    if let Some(name) = &header.settings.dead_letter_queue {
        return Ok(name.clone());
    }
    let name = header.name.as_str();
    let mut end = name.len().min(MAX_NAME_BYTES - SUFFIX.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{SUFFIX}", &name[..end]).parse().map_err(|_| damaged("queue header", "its name"))
}
