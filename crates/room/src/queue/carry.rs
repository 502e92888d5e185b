//! Moves ready items to another queue, and dead letters back to where they died. Bodies move with them, in one commit.
//!
//! A queue takes them as it takes a send: one that is closed or full refuses them all.

use conclave_types::{QueueName, Revision, RoomUid};

use super::{Item, Queue, QueueState};
use crate::state::State;
use crate::{Outcome, Refusal, TableError};

/// Ordinary items among dead letters that one redrive passes over.
const MAX_PASSED_OVER: usize = 1_024;
/// Bytes of items after which one command moves no more.
const MAX_CARRIED_BYTES: usize = 1 << 20;

pub(crate) fn carry(
    state: &mut State<'_>,
    room: RoomUid,
    from: &QueueName,
    to: Option<&QueueName>,
    max_items: u32,
) -> Result<Outcome, TableError> {
    if to == Some(from) {
        return Ok(Outcome::Refused(Refusal::SameQueue));
    }
    let mut source = match Queue::find(state, room, from)? {
        Ok(queue) => queue,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let carried = choose(state, &source, to, max_items as usize)?;
    if carried.is_empty() {
        let revision = state.revision(room)?;
        return Ok(Outcome::ItemsMoved { moved: 0, left: source.header.ready(), revision });
    }
    let revision = state.next_revision(room)?;
    let moved = carried.len() as u64;
    for (number, item, target) in carried {
        // The one it died in may be gone: then it is made again.
        let mut target = match Queue::find_or_begin(state, room, &target)? {
            Ok(queue) => queue,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        if target.header.settings.state == QueueState::Closed {
            return Ok(Outcome::Refused(Refusal::QueueClosed));
        }
        if !target.make_room(state, 1, item.item.len() as u64)? {
            return Ok(Outcome::Refused(Refusal::QueueFull));
        }
        source.leave(state, number, &item)?;
        source.remove(state, number, &item)?;
        target.take_over(state, item, revision)?;
        target.store_at(state, revision)?;
    }
    source.header.totals.removed += moved;
    let left = source.header.ready();
    source.store_at(state, revision)?;
    Ok(Outcome::ItemsMoved { moved, left, revision })
}

/// The first ready items, each with the queue it goes to. One that is no dead letter goes nowhere by itself, and stays.
fn choose(
    state: &State<'_>,
    source: &Queue,
    to: Option<&QueueName>,
    most: usize,
) -> Result<Vec<(u64, Item, QueueName)>, TableError> {
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    let looked_at = if to.is_some() { most } else { most + MAX_PASSED_OVER };
    for spot in source.ready_items(state, looked_at, MAX_CARRIED_BYTES)? {
        if chosen.len() >= most {
            break;
        }
        let (number, item) = (spot.number, source.item_at(state, &spot)?);
        let origin = item.dead.as_ref().map(|dead| dead.queue.clone());
        let Some(target) = to.cloned().or(origin).filter(|target| *target != source.header.name) else { continue };
        bytes += item.item.len();
        if bytes > MAX_CARRIED_BYTES && !chosen.is_empty() {
            break;
        }
        chosen.push((number, item, target));
    }
    Ok(chosen)
}

impl Queue {
    /// Puts an item of another queue behind the last of this one.
    fn take_over(&mut self, state: &mut State<'_>, item: Item, revision: Revision) -> Result<(), TableError> {
        let retention = self.header.settings.retention_ms;
        // Its time to live goes on; a dead letter that is to be tried again gets a new one.
        let (group, expires) = match item.dead {
            Some(dead) => (dead.group, retention.map(|lives| state.clock().plus_ms(lives))),
            None => (item.group, item.expires),
        };
        let item = Item { revision, expires, group, dead: None, ..item };
        self.header.last_item += 1;
        self.header.totals.sent += 1;
        self.place(state, self.header.last_item, item, None)
    }
}
