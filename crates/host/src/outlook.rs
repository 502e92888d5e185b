//! What leasing from a queue could bring to one of its consumers: a look before a command is proposed for nothing.

use conclave_room::read;
use conclave_room::{QueueState, Refusal};
use conclave_types::{QueueName, RoomUid};

use crate::faults::Fault;
use crate::shard::{Shard, broken};

/// Who would take.
#[derive(Debug, Clone)]
pub struct Taker {
    pub room: RoomUid,
    pub queue: QueueName,
    pub consumer: String,
    /// At most once: nothing is leased.
    pub take: bool,
    /// Most that it holds; 0 for no such bound.
    pub window: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Perhaps something; or the queue is missing and is to be made.
    Some,
    Nothing,
    /// The consumer holds as much as it may.
    ConsumerIsFull,
}

impl Taker {
    pub fn outlook(&self, shard: &Shard) -> Result<Outlook, Fault> {
        let (tables, group) = (shard.tables(), shard.group_id());
        let Some(view) = read::queue(&tables, group, self.room, &self.queue).map_err(broken)? else {
            return Ok(Outlook::Some);
        };
        if self.take {
            let hands_out = view.ready > 0 && view.settings.state == QueueState::Active;
            return Ok(if hands_out { Outlook::Some } else { Outlook::Nothing });
        }
        let bounds = [self.window, view.settings.max_in_flight_per_consumer];
        if let Some(bound) = bounds.into_iter().filter(|bound| *bound > 0).min() {
            let held = read::held_by(&tables, group, self.room, &self.queue, &self.consumer).map_err(broken)?;
            if held >= u64::from(bound) {
                return Ok(Outlook::ConsumerIsFull);
            }
        }
        Ok(if view.hands_out() { Outlook::Some } else { Outlook::Nothing })
    }

    /// A fault once the room is deleted. Who waits there has to ask: nothing more will come.
    pub fn room_is_there(&self, shard: &Shard) -> Result<(), Fault> {
        let revision = read::revision(&shard.tables(), shard.group_id(), self.room).map_err(broken)?;
        revision.map(drop).ok_or_else(|| Refusal::RoomNotFound.into())
    }
}
