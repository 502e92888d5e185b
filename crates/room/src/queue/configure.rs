//! Makes queues, and changes what they do.

use conclave_types::{QueueName, RoomUid};

use super::{Queue, SettingsPatch};
use crate::command::Configure;
use crate::state::State;
use crate::{Outcome, Refusal, TableError};

pub(crate) fn configure(
    state: &mut State<'_>,
    room: RoomUid,
    name: &QueueName,
    how: Configure,
    settings: SettingsPatch,
) -> Result<Outcome, TableError> {
    let found = match how {
        Configure::Create => Queue::find_or_begin(state, room, name)?,
        Configure::Update => Queue::find(state, room, name)?,
    };
    let mut queue = match found {
        Ok(queue) => queue,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    if how == Configure::Create && !queue.is_new {
        return Ok(Outcome::Refused(Refusal::QueueExists));
    }
    settings.apply(&mut queue.header.settings);
    if queue.header.settings.dead_letter_queue.as_ref() == Some(name) {
        return Ok(Outcome::Refused(Refusal::SameQueue));
    }
    // It may hand out what it did not before.
    queue.wake();
    Ok(Outcome::QueueConfigured { revision: queue.store(state)? })
}
