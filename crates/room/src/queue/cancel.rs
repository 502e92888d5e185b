//! Cancels items that nobody holds.

use conclave_types::{QueueName, RoomUid};

use super::Queue;
use super::place::Left;
use crate::state::State;
use crate::{CancelResult, Outcome, TableError};

pub(crate) fn cancel(
    state: &mut State<'_>,
    room: RoomUid,
    name: &QueueName,
    items: &[u64],
) -> Result<Outcome, TableError> {
    let mut queue = match Queue::find(state, room, name)? {
        Ok(queue) => queue,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let mut results = Vec::with_capacity(items.len());
    let mut cancelled = 0;
    for number in items {
        let Some(item) = queue.find_item(state, *number)? else {
            results.push(CancelResult::Gone);
            continue;
        };
        results.push(match queue.leave(state, *number, &item)? {
            Left::InFlight => CancelResult::InFlight,
            Left::Waiting(_) => {
                queue.remove(state, *number, &item)?;
                cancelled += 1;
                CancelResult::Cancelled
            }
        });
    }
    let revision = match cancelled {
        0 => state.revision(room)?,
        _ => {
            queue.header.totals.removed += cancelled;
            queue.store(state)?
        }
    };
    Ok(Outcome::ItemsCancelled { results, revision })
}
