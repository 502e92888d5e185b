//! Does what is due by the applied clock.
//!
//! Nothing happens by itself when time passes: the leader sees the head of the due index and proposes this. Work is
//! bounded by the command's limit, counted in records rather than in due entries, so that no entry is a long one.
//! A leader that is told of more proposes again.

use std::collections::BTreeMap;

use conclave_types::{RoomUid, Timestamp};

use crate::document::delete::forget_clocks;
use crate::keys::{Due, QueueNumber};
use crate::message::trim::trim;
use crate::queue::expire as queue;
use crate::room::purge::purge;
use crate::session::expire as session;
use crate::state::State;
use crate::{Outcome, TableError, request};

/// How many more records one `Advance` may change.
pub(crate) struct Budget(usize);

impl Budget {
    pub fn left(&self) -> usize {
        self.0
    }

    pub fn spend(&mut self, records: usize) {
        self.0 = self.0.saturating_sub(records);
    }
}

pub(crate) fn advance(state: &mut State<'_>, limit: u32) -> Result<Outcome, TableError> {
    state.settle();
    let limit = limit.max(1) as usize;
    let mut budget = Budget(limit);
    let mut changed: BTreeMap<RoomUid, Vec<QueueNumber>> = BTreeMap::new();
    for (deadline, due) in state.due_now(limit)? {
        if budget.left() == 0 {
            break;
        }
        if let Some((room, queue)) = handle(state, deadline, due, &mut budget)? {
            changed.entry(room).or_default().push(queue);
        }
    }
    for (room, queues) in changed {
        let revision = state.next_revision(room)?;
        for number in queues {
            queue::changed(state, room, number, revision)?;
        }
    }
    let next = state.due_now(1)?.first().map(|(deadline, _)| *deadline);
    state.set_due_from(next.unwrap_or(state.clock().plus_ms(1)));
    Ok(Outcome::Advanced { more: next.is_some() })
}

/// Handles one due entry; returns the queue in which participants can see a change.
fn handle(
    state: &mut State<'_>,
    deadline: Timestamp,
    due: Due,
    budget: &mut Budget,
) -> Result<Option<(RoomUid, QueueNumber)>, TableError> {
    match due {
        Due::Purge(room) => purge(state, deadline, room, budget)?,
        Due::Request(id) => request::forget(state, deadline, id, budget),
        Due::Leases(room, _)
        | Due::Acked(room, _)
        | Due::Session(room, _)
        | Due::Trim(room)
        | Due::Dropped(room, _)
            if state.active_room(room)?.is_none() =>
        {
            // The room is being deleted; its records go without being looked at again.
            budget.spend(1);
            state.unschedule(deadline, &due);
        }
        Due::Leases(room, number) => {
            budget.spend(1);
            return Ok(queue::end_leases(state, deadline, room, number, budget)?.then_some((room, number)));
        }
        Due::Acked(room, number) => {
            budget.spend(1);
            queue::forget_acked(state, deadline, room, number, budget)?;
        }
        Due::Session(room, id) => {
            budget.spend(1);
            session::expire(state, deadline, room, id, budget)?;
        }
        Due::Trim(room) => trim(state, deadline, room, budget)?,
        Due::Dropped(room, document) => forget_clocks(state, deadline, room, document, budget)?,
    }
    Ok(None)
}
