//! Discards what waits in a queue, so many items at a time. What is leased stays with whoever holds it.

use conclave_types::{QueueName, RoomUid};

use super::Queue;
use super::place::Left;
use crate::keys::Keys;
use crate::state::State;
use crate::{Outcome, TableError, TableReads};

/// Bytes of items after which one command discards no more: some are read all at once.
const MAX_PURGED_BYTES: usize = 4 << 20;

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
    for number in behind_others(state, &queue, max_items as usize)? {
        let item = queue.item(state, number)?;
        if let Left::Waiting(_) = queue.leave(state, number, &item)? {
            queue.remove(state, number, &item)?;
            purged += 1;
        }
    }
    if purged == 0 {
        for spot in queue.ready_items(state, max_items as usize, MAX_PURGED_BYTES)? {
            let item = queue.item_at(state, &spot)?;
            queue.take_ready(state, &spot)?;
            queue.remove(state, spot.number, &item)?;
            purged += 1;
        }
    }
    let left = queue.header.items() - queue.header.leased;
    let revision = match purged {
        0 => state.revision(room)?,
        _ => {
            queue.header.totals.removed += purged;
            queue.store(state)?
        }
    };
    Ok(Outcome::ItemsPurged { purged, left, revision })
}

/// Items that wait for others or for their time. Those behind a group's head go before it, so that its removal passes its
/// turn to nobody.
fn behind_others(state: &State<'_>, queue: &Queue, most: usize) -> Result<Vec<u64>, TableError> {
    let range = match (queue.header.grouped, queue.header.delayed) {
        (0, 0) => return Ok(Vec::new()),
        (0, _) => state.keys.all_delayed(queue.room, queue.number),
        _ => state.keys.all_grouped(queue.room, queue.number),
    };
    state.overlay.scan(&range.start, &range.end).take(most).map(|pair| Keys::parse_item(&pair?.0)).collect()
}
