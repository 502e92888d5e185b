//! Sends of one session to one queue that follow one another in an entry: the most there is of most entries.
//!
//! Each is a command like any other, with its own revision, item numbers and outcome. What they have in common (the room,
//! the session's record, the queue) is found once and stored once for all, which is half of what a send costs. Only
//! sends that cannot be refused are taken; the first that could be ends the run and goes its own way.

use bytes::Bytes;
use conclave_types::{QueueName, Sequence};

use super::{SessionRecord, kept};
use crate::queue::{Queue, QueueState};
use crate::room::RoomHeader;
use crate::state::{Actor, State};
use crate::{Command, Operation, Origin, Outcome, SessionFrame, TableError};

pub(crate) struct Sends {
    /// Who sends; the sequences are those of the first.
    frame: SessionFrame,
    name: QueueName,
    room: RoomHeader,
    record: SessionRecord,
    queue: Queue,
    outcomes: Vec<(Sequence, Bytes)>,
}

impl Sends {
    /// Begins a run if `command` and `next` can both be in it.
    pub fn begin(
        state: &mut State<'_>,
        command: &Command,
        next: Option<&Command>,
    ) -> Result<Option<Sends>, TableError> {
        let (Some(frame), Some(name)) = (frame_of(command), plain_send(command)) else { return Ok(None) };
        if next.and_then(frame_of).is_none_or(|next| next.session != frame.session) {
            return Ok(None);
        }
        let Some(room) = state.active_room(frame.room)? else { return Ok(None) };
        let Some(record) = state.session(frame.room, frame.session)? else { return Ok(None) };
        let Some(number) = state.queue_number(frame.room, name)? else { return Ok(None) };
        let queue = Queue::open(state, frame.room, number)?;
        let settings = &queue.header.settings;
        let takes_all = settings.state != QueueState::Closed && settings.retention_ms.is_none();
        if record.owner != frame.owner || frame.attachment < record.attachment || !takes_all {
            return Ok(None);
        }
        let sends = Sends { frame: frame.clone(), name: name.clone(), room, record, queue, outcomes: Vec::new() };
        if !sends.fits(command) || !next.is_some_and(|next| sends.fits(next)) {
            return Ok(None);
        }
        state.savepoint();
        Ok(Some(sends))
    }

    /// Whether a command that follows belongs to the run and is sure to take effect.
    pub fn fits(&self, command: &Command) -> bool {
        let (Some(frame), Some(name)) = (frame_of(command), plain_send(command)) else { return false };
        let Operation::SendItems { sender, items, .. } = &command.operation else { return false };
        frame.session == self.frame.session
            && frame.room == self.frame.room
            && frame.attachment == self.frame.attachment
            && frame.owner == self.frame.owner
            && frame.sequence > self.record.last
            && *name == self.name
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
        self.queue.take_plain(state, &sender, revision, items)?;
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

fn frame_of(command: &Command) -> Option<&SessionFrame> {
    match &command.origin {
        Origin::Session(frame) => Some(frame),
        Origin::Host | Origin::Call { .. } | Origin::Request { .. } => None,
    }
}

/// The queue of a send in its session's room whose items ask for nothing.
fn plain_send(command: &Command) -> Option<&QueueName> {
    match &command.operation {
        Operation::SendItems { room, queue, options, .. }
            if options.is_empty() && frame_of(command).is_some_and(|frame| frame.room == *room) =>
        {
            Some(queue)
        }
        _ => None,
    }
}
