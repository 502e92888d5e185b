//! Discards what waits in a queue, so many items at a time. What is leased stays with whoever holds it.

use conclave_types::{QueueName, RoomUid};

use super::Queue;
use super::place::Left;
use crate::keys::Keys;
use crate::state::State;
use crate::{Outcome, TableError, TableReads};

pub(crate) fn purge(
    state: &mut State<'_>,
    room: RoomUid,
    name: &QueueName,
    max_items: u32,
) -> Result<Outcome, TableError> {
    let mut queue = match Queue::find(state, room, name)? {
        Ok(queue) => queue,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let mut purged = 0;
    for number in waiting(state, &queue, max_items as usize)? {
        let item = queue.item(state, number)?;
        if let Left::Waiting(_) = queue.leave(state, number, &item)? {
            queue.remove(state, number, &item)?;
            purged += 1;
        }
    }
    let left = queue.header.items() - queue.header.leased;
    let revision = match purged {
        0 => state.room(room)?.map(|header| header.revision).unwrap_or_default(),
        _ => {
            queue.header.totals.removed += purged;
            queue.store(state)?
        }
    };
    Ok(Outcome::ItemsPurged { purged, left, revision })
}

/// Items that wait: first those behind others, so that removing a head passes its turn to nobody.
fn waiting(state: &State<'_>, queue: &Queue, most: usize) -> Result<Vec<u64>, TableError> {
    let mut items = Vec::new();
    if queue.header.grouped > 0 {
        let range = state.keys.all_grouped(queue.room, queue.number);
        for pair in state.overlay.scan(&range.start, &range.end).take(most) {
            items.push(Keys::parse_item(&pair?.0)?);
        }
    }
    if items.is_empty() {
        items.extend(queue.ready_items(state, most)?.into_iter().map(|(_, number, _)| number));
    }
    if items.len() < most && queue.header.delayed > 0 && items.is_empty() {
        let range = state.keys.all_delayed(queue.room, queue.number);
        for pair in state.overlay.scan(&range.start, &range.end).take(most) {
            items.push(Keys::parse_item(&pair?.0)?);
        }
    }
    Ok(items)
}
