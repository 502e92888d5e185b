//! Sends items: all of them or none, in order, numbered without gaps.

use bytes::Bytes;
use conclave_types::{ParticipantName, QueueName, RoomUid};

use super::{Item, Queue, Ready};
use crate::codec::Record;
use crate::state::State;
use crate::{Effect, Outcome, TableError};

pub(crate) fn send(
    state: &mut State<'_>,
    room: RoomUid,
    name: &QueueName,
    create: bool,
    sender: &ParticipantName,
    items: Vec<Bytes>,
) -> Result<Outcome, TableError> {
    state.act_as(sender);
    let found = if create { Queue::find_or_begin(state, room, name)? } else { Queue::find(state, room, name)? };
    let mut queue = match found {
        Ok(queue) => queue,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let (number, first_item) = (queue.number, queue.header.last_item + 1);
    if queue.header.ready == 0 {
        queue.header.ready_from = first_item;
    }
    queue.header.ready += items.len() as u64;
    queue.header.last_item += items.len() as u64;
    let revision = queue.store(state)?;

    let send_time = state.clock();
    for (number_of_item, item) in (first_item..).zip(items) {
        let record = Item { sender: sender.clone(), send_time, revision, item };
        state.overlay.put(state.keys.item(room, number, number_of_item), record.encode());
        state.overlay.put(state.keys.ready(room, number, number_of_item), Ready { attempts: 0 }.encode());
    }
    state.emit(Effect::QueueReady { room, queue: name.clone() });
    Ok(Outcome::Sent { first_item, revision })
}
