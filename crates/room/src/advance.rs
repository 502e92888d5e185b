//! Does what is due by the applied clock.
//!
//! Nothing happens by itself when time passes: the leader sees the head of the due index and proposes this. Work is
//! bounded by the command's limit, counted in records rather than in due entries, so that no entry is a long one.
//! A leader that is told of more proposes again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use conclave_types::{Revision, RoomUid, Timestamp};

use crate::document::delete::forget_clocks;
use crate::keys::Due;
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
    let mut revisions = Revisions::default();
    for (deadline, due) in state.due_now(limit)? {
        if budget.left() == 0 {
            break;
        }
        handle(state, deadline, due, &mut budget, &mut revisions)?;
    }
    let next = state.due_now(1)?.first().map(|(deadline, _)| *deadline);
    state.set_due_from(next.unwrap_or(state.clock().plus_ms(1)));
    Ok(Outcome::Advanced { more: next.is_some() })
}

/// What one `Advance` changes of a room is one revision of it.
#[derive(Default)]
struct Revisions(BTreeMap<RoomUid, Revision>);

impl Revisions {
    /// The revision that a change of the room belongs to. It counts once [`Self::use_up`] is called.
    fn of(&self, state: &mut State<'_>, room: RoomUid) -> Result<Revision, TableError> {
        match self.0.get(&room) {
            Some(revision) => Ok(*revision),
            None => Ok(state.room(room)?.map(|header| header.revision.next()).unwrap_or_default()),
        }
    }

    fn use_up(&mut self, state: &mut State<'_>, room: RoomUid) -> Result<(), TableError> {
        if let Entry::Vacant(unused) = self.0.entry(room) {
            unused.insert(state.next_revision(room)?);
        }
        Ok(())
    }
}

/// Handles one due entry.
fn handle(
    state: &mut State<'_>,
    deadline: Timestamp,
    due: Due,
    budget: &mut Budget,
    revisions: &mut Revisions,
) -> Result<(), TableError> {
    match due {
        Due::Purge(room) => purge(state, deadline, room, budget),
        Due::Request(id) => {
            request::forget(state, deadline, id, budget);
            Ok(())
        }
        Due::Queue(_, room, _) | Due::Session(room, _) | Due::Trim(room) | Due::Dropped(room, _)
            if state.active_room(room)?.is_none() =>
        {
            // The room is being deleted; its records go without being looked at again.
            budget.spend(1);
            state.unschedule(deadline, &due);
            Ok(())
        }
        Due::Queue(timer, room, number) => {
            budget.spend(1);
            let revision = revisions.of(state, room)?;
            if queue::fire(state, timer, deadline, room, number, budget, revision)? {
                revisions.use_up(state, room)?;
            }
            Ok(())
        }
        Due::Session(room, id) => {
            budget.spend(1);
            session::expire(state, deadline, room, id, budget)
        }
        Due::Trim(room) => trim(state, deadline, room, budget),
        Due::Dropped(room, document) => forget_clocks(state, deadline, room, document, budget),
    }
}
