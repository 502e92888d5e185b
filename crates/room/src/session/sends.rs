//! Sends of one session to one queue that follow one another in an entry: the most there is of most entries.
//!
//! Each is a command like any other, with its own revision, item numbers and outcome. What they have in common (the room,
//! the session's record, the queue) is found once and stored once for all, which is half of what a send costs. Only
//! sends that cannot be refused are taken; the first that could be ends the run and goes its own way.

use bytes::Bytes;
use conclave_types::{ParticipantName, QueueName, Sequence};

use super::{SessionRecord, kept};
use crate::queue::{Queue, QueueState};
use crate::room::RoomHeader;
use crate::state::{Actor, State};
use crate::{Command, ItemOptions, Operation, Origin, Outcome, SessionFrame, TableError};

pub(crate) struct Sends {
    /// Who sends; the sequences are those of the first.
    frame: SessionFrame,
    room: RoomHeader,
    record: SessionRecord,
    queue: Queue,
    outcomes: Vec<(Sequence, Bytes)>,
}

/// A send by a session, in its room, of items that ask for nothing.
struct PlainSend<'a> {
    frame: &'a SessionFrame,
    queue: &'a QueueName,
    sender: &'a ParticipantName,
    items: &'a [Bytes],
}

impl PlainSend<'_> {
    fn of(command: &Command) -> Option<PlainSend<'_>> {
        let Command { origin: Origin::Session(frame), operation } = command else { return None };
        let Operation::SendItems { room, queue, sender, items, options, .. } = operation else { return None };
        (options.is_empty() && *room == frame.room).then_some(PlainSend { frame, queue, sender, items })
    }
}

impl Sends {
    /// Begins a run if `command` and `next` can both be in it.
    pub fn begin(
        state: &mut State<'_>,
        command: &Command,
        next: Option<&Command>,
    ) -> Result<Option<Sends>, TableError> {
        let Some(PlainSend { frame, queue: name, .. }) = PlainSend::of(command) else { return Ok(None) };
        if next.and_then(PlainSend::of).is_none_or(|next| next.frame.session != frame.session) {
            return Ok(None);
        }
        let Some(room) = state.active_room(frame.room)? else { return Ok(None) };
        let Some(record) = state.session(frame.room, frame.session)? else { return Ok(None) };
        let Some(number) = state.queue_number(frame.room, name)? else { return Ok(None) };
        let queue = Queue::open(state, frame.room, number)?;
        let is_closed = queue.header.settings.state == QueueState::Closed;
        if is_closed || record.owner != frame.owner || frame.attachment < record.attachment {
            return Ok(None);
        }
        let sends = Sends { frame: frame.clone(), room, record, queue, outcomes: Vec::new() };
        if !sends.fits(command) || !next.is_some_and(|next| sends.fits(next)) {
            return Ok(None);
        }
        state.savepoint();
        Ok(Some(sends))
    }

    /// Whether a command that follows belongs to the run and is sure to take effect.
    pub fn fits(&self, command: &Command) -> bool {
        let Some(PlainSend { frame, queue, sender, items }) = PlainSend::of(command) else { return false };
        frame.session == self.frame.session
            && frame.room == self.frame.room
            && frame.attachment == self.frame.attachment
            && frame.owner == self.frame.owner
            && frame.sequence > self.record.last
            && *queue == self.queue.header.name
            // One actor is told to watchers for all.
            && *sender == self.frame.owner
            && self.queue.has_room(items.len() as u64, items.iter().map(|item| item.len() as u64).sum())
    }

    /// Runs a command that fits.
    pub fn take(&mut self, state: &mut State<'_>, command: Command) -> Result<Outcome, TableError> {
        let Command { origin: Origin::Session(frame), operation: Operation::SendItems { sender, items, .. } } = command
        else {
            return Err(TableError("a run of sends took what is none".to_owned()));
        };
        let revision = self.room.revision.next();
        self.room.revision = revision;
        let first_item = self.queue.header.last_item + 1;
        for item in items {
            self.queue.append(state, &sender, revision, item, ItemOptions::default())?;
        }
        let outcome = Outcome::Sent { first_item, revision, duplicates: Vec::new() };
        self.record.advance(state, &frame);
        self.outcomes.push((frame.sequence, kept::encode(&outcome)?));
        Ok(outcome)
    }

    /// Stores what the run changed.
    pub fn end(self, state: &mut State<'_>) -> Result<(), TableError> {
        let Sends { frame, room, record, queue, outcomes, .. } = self;
        let revision = room.revision;
        state.set_room(frame.room, Some(room));
        let open = state.open_outcomes(frame.room, frame.session);
        outcomes.into_iter().for_each(|(sequence, outcome)| open.push(sequence, outcome));
        state.set_session(frame.room, frame.session, Some(record));
        state.set_actor(Actor { participant: Some(frame.owner), session: Some(frame.session) });
        queue.store_at(state, revision)?;
        state.keep();
        Ok(())
    }
}
