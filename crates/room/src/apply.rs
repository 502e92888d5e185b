//! How log entries run.
//!
//! An entry sets the clock (`max` of itself and the leader's stamp), then runs its commands one after the other, each
//! as a transaction of one operation over the shard's `State`: the first refusal rolls it back and is the outcome.
//! What a command's origin asks for beside that (a session's order, a request's memory) is kept even then.
//!
//! Nothing is written here. The caller takes the writes of a [`Batch`] into its own, together with the applied position,
//! so that a crash shows either all of it or nothing.

use bytes::Bytes;
use conclave_types::{GroupId, Timestamp};

use crate::advance::advance;
use crate::document::push::Push;
use crate::keys::Keys;
use crate::queue::give_back::GiveBack;
use crate::queue::lease::Lease;
use crate::queue::send::NewItems;
use crate::session::attach::Attach;
use crate::session::frame;
use crate::session::sends::Sends;
use crate::state::{Actor, ShardHeader, State};
use crate::{
    Applied, Command, Operation, Origin, Outcome, TableError, TableReads, document, message, queue, request, room,
};

/// Keys and their new values (`None` deletes), in key order, each key once.
pub type Writes = Vec<(Vec<u8>, Option<Bytes>)>;

/// Entries of one shard that are written together: each sees what the earlier ones did.
///
/// After an error the batch is void, and so is the replica: it cannot go on without diverging.
pub struct Batch<'a> {
    state: State<'a>,
}

impl<'a> Batch<'a> {
    /// Begins a batch over the stored state. Fails if the state was written by a newer version.
    pub fn new(group: GroupId, reads: &'a dyn TableReads) -> Result<Self, TableError> {
        Ok(Batch { state: State::new(group, reads)? })
    }

    /// Applies one entry: the leader's stamp and its commands.
    pub fn apply(&mut self, time: Timestamp, commands: Vec<Command>) -> Result<Applied, TableError> {
        self.state.begin_entry(time);
        let outcomes = run_all(&mut self.state, commands)?;
        Ok(Applied { outcomes, effects: self.state.end_entry()?, clock: self.state.clock() })
    }

    /// What to write, all at once.
    pub fn into_writes(self) -> Writes {
        self.state.into_writes()
    }
}

/// Applies one entry that is written by itself.
pub fn apply(
    group: GroupId,
    time: Timestamp,
    commands: Vec<Command>,
    reads: &impl TableReads,
) -> Result<(Applied, Writes), TableError> {
    let mut batch = Batch::new(group, reads)?;
    let applied = batch.apply(time, commands)?;
    Ok((applied, batch.into_writes()))
}

/// When the shard next needs an `Advance`, on the applied clock; none when nothing waits for time. An `Advance` that
/// comes early does nothing.
pub fn next_due(group: GroupId, reads: &impl TableReads) -> Result<Option<Timestamp>, TableError> {
    let keys = Keys::new(group);
    let from = keys.due_from(ShardHeader::load(reads, &keys)?.due_from);
    let head = reads.scan(&from, &keys.due_end()).next().transpose()?;
    head.map(|(key, _)| keys.parse_due(&key).map(|(deadline, _)| deadline)).transpose()
}

fn run_all(state: &mut State<'_>, commands: Vec<Command>) -> Result<Vec<Outcome>, TableError> {
    let mut outcomes = Vec::with_capacity(commands.len());
    let mut commands = commands.into_iter().peekable();
    while let Some(command) = commands.next() {
        let Some(mut sends) = Sends::begin(state, &command, commands.peek())? else {
            outcomes.push(run(state, command)?);
            continue;
        };
        outcomes.push(sends.take(state, command)?);
        while let Some(next) = commands.next_if(|next| sends.fits(next)) {
            outcomes.push(sends.take(state, next)?);
        }
        sends.end(state)?;
    }
    Ok(outcomes)
}

fn run(state: &mut State<'_>, command: Command) -> Result<Outcome, TableError> {
    let Command { origin, operation } = command;
    state.set_actor(Actor::of(&origin));
    match origin {
        Origin::Session(session_frame) if operation.is_durable() => frame::run(state, session_frame, operation),
        Origin::Request { project, participant, request_id } => {
            request::run(state, &project, &participant, &request_id, operation)
        }
        Origin::Host | Origin::Call { .. } | Origin::Session(_) => transact(state, operation),
    }
}

/// Runs an operation as a transaction: as a whole, or refused without a trace.
pub(crate) fn transact(state: &mut State<'_>, operation: Operation) -> Result<Outcome, TableError> {
    state.savepoint();
    let outcome = operate(state, operation)?;
    match outcome {
        Outcome::Refused(_) => state.rollback(),
        _ => state.keep(),
    }
    Ok(outcome)
}

fn operate(state: &mut State<'_>, operation: Operation) -> Result<Outcome, TableError> {
    match operation {
        Operation::CreateRoom { slot, project, room, metadata, annotations } => {
            room::create::create(state, slot, project, room, metadata, annotations)
        }
        Operation::UpdateRoom { room, metadata, annotations, retention, expected_etag } => {
            room::update::update(state, room, metadata, annotations, retention, expected_etag)
        }
        Operation::DeleteRoom { room, expected_etag } => room::delete::delete(state, room, expected_etag),
        Operation::AttachSession { room, session, owner, presented, issued, unacknowledged } => {
            Attach { room, session, owner, presented, issued, unacknowledged }.apply(state)
        }
        Operation::SendItems { room, queue, create, sender, items, options } => {
            NewItems { room, queue, create, sender, items, options }.apply(state)
        }
        Operation::LeaseItems { room, queue, create, max_items, lease_ms, consumer, receiver, again, take, window } => {
            Lease { room, queue, create, max_items, lease_ms, consumer, receiver, again, take, window }.apply(state)
        }
        Operation::AckDeliveries { room, queue, deliveries } => queue::ack::ack(state, room, &queue, &deliveries),
        Operation::NackDeliveries { room, queue, deliveries, delay_ms, reject, reason } => {
            GiveBack { room, queue, deliveries, delay_ms, reject, reason }.apply(state)
        }
        Operation::ExtendLeases { room, queue, deliveries, lease_ms } => {
            queue::extend::extend(state, room, &queue, &deliveries, lease_ms)
        }
        Operation::ConfigureQueue { room, queue, how, settings } => {
            queue::configure::configure(state, room, &queue, how, settings)
        }
        Operation::CancelItems { room, queue, items } => queue::cancel::cancel(state, room, &queue, &items),
        Operation::MoveItems { room, queue, to, max_items } => {
            queue::carry::carry(state, room, &queue, to.as_ref(), max_items)
        }
        Operation::PurgeItems { room, queue, max_items } => queue::purge::purge(state, room, &queue, max_items),
        Operation::CreateDocument { room, path } => document::create::create(state, room, &path),
        Operation::PushUpdate { room, path, create, author, clocks, update } => {
            Push { room, path, create, author, clocks, update }.apply(state)
        }
        Operation::RenameDocument { room, from, to } => document::rename::rename(state, room, from, to),
        Operation::DeleteDocument { room, path } => document::delete::delete(state, room, path),
        Operation::PostMessage { room, sender, message } => message::post::post(state, room, sender, message),
        Operation::Advance(command) => advance(state, command.limit),
    }
}
