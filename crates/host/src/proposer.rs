//! Turns commands into log entries: what arrives while an entry is on its way shares the next one.
//!
//! One proposer serves one leadership of one shard and proposes bound to it. One entry is in flight at a time, so the
//! order of the queue is the order of the log, and batching needs no timer: it is as wide as a round trip is long.

use std::sync::Arc;
use std::time::Duration;

use conclave_proto::log::encode_batch;
use conclave_raft::{Group, LeaderTerm, ProposeError};
use conclave_room::{Command, Operation, Outcome};
use conclave_types::limits::{MAX_BATCH_BYTES, MAX_BATCH_COMMANDS};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::shard_time::ShardTime;

/// Commands of one shard that are queued or under way. With more, unary calls are shed and sessions stop reading, each
/// waiting its turn: so one session's full window never stands before another's single frame. One entry that is under
/// way and one that gathers keep entries full; more would only be latency.
pub const MAX_QUEUED_COMMANDS: usize = 2_048;

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproposed {
    /// Never appended: safe to propose elsewhere.
    #[error("this replica does not lead the shard")]
    NotLeader,
    /// May or may not happen, now or later.
    #[error("leadership was lost while the write was under way")]
    Unknown,
    /// Never appended: the shard has more work than it takes.
    #[error("the shard is overloaded")]
    Overloaded,
}

struct Proposal {
    commands: Vec<Command>,
    /// The queue's room that the commands take until they are answered.
    room: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<Vec<Outcome>, Unproposed>>,
}

/// The pending outcomes of commands that were queued together, in their order.
pub type Outcomes = oneshot::Receiver<Result<Vec<Outcome>, Unproposed>>;

/// Queues commands. Clones share the queue.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::UnboundedSender<Proposal>,
    room: Arc<Semaphore>,
}

impl Proposer {
    pub fn new() -> (Proposer, ProposerLoop) {
        #[expect(clippy::disallowed_methods, reason = "bounded by the room that each proposal holds")]
        let (queue, proposals) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(MAX_QUEUED_COMMANDS));
        (Proposer { queue, room: room.clone() }, ProposerLoop { proposals, room })
    }

    /// Queues commands that go into one entry, waiting for room in the queue. Dropping the future queues nothing.
    pub async fn queue(&self, commands: Vec<Command>) -> Result<Outcomes, Unproposed> {
        let count = commands.len().min(MAX_QUEUED_COMMANDS) as u32;
        let room = self.room.clone().acquire_many_owned(count).await.map_err(|_| Unproposed::NotLeader)?;
        self.send(commands, room)
    }

    /// Queues one command and waits for its outcome; refuses at once when the queue is full.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Unproposed> {
        let room = self.room.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => Unproposed::Overloaded,
            TryAcquireError::Closed => Unproposed::NotLeader,
        })?;
        let mut outcomes = outcome_of(self.send(vec![command], room)?).await?;
        outcomes.pop().ok_or(Unproposed::Unknown)
    }

    /// As [`Proposer::propose`], but waits for room: for what the host does by itself, and for what a session waits for.
    pub async fn propose_in_turn(&self, command: Command) -> Result<Outcome, Unproposed> {
        let mut outcomes = outcome_of(self.queue(vec![command]).await?).await?;
        outcomes.pop().ok_or(Unproposed::Unknown)
    }

    fn send(&self, commands: Vec<Command>, room: OwnedSemaphorePermit) -> Result<Outcomes, Unproposed> {
        let (answer, outcomes) = oneshot::channel();
        self.queue.send(Proposal { commands, room, answer }).map_err(|_| Unproposed::NotLeader)?;
        Ok(outcomes)
    }
}

/// Waits for queued commands. A queue that closed before it proposed them never appended them.
pub async fn outcome_of(outcomes: Outcomes) -> Result<Vec<Outcome>, Unproposed> {
    outcomes.await.unwrap_or(Err(Unproposed::NotLeader))
}

/// The proposing side of the queue, driven by the leadership that owns it.
pub struct ProposerLoop {
    proposals: mpsc::UnboundedReceiver<Proposal>,
    room: Arc<Semaphore>,
}

impl ProposerLoop {
    /// Proposes until the leadership ends, or until the group refuses an entry, which ends it. What is still queued then
    /// was never appended and is answered so.
    pub async fn run(mut self, group: Group, term: LeaderTerm, time: Arc<ShardTime>, ended: CancellationToken) {
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(proposal) => proposal,
                None => tokio::select! {
                    biased;
                    () = ended.cancelled() => break,
                    proposal = self.proposals.recv() => match proposal {
                        Some(proposal) => proposal,
                        None => return,
                    },
                },
            };
            let (batch, next) = self.fill(first);
            held = next;
            if !propose(&group, term, &time, batch).await {
                break;
            }
        }
        self.room.close();
        self.proposals.close();
        drop(held);
        while self.proposals.recv().await.is_some() {}
        // Nobody else may know it yet: the group refuses proposals also while it still counts as led here.
        ended.cancel();
    }

    /// Takes what is queued, up to one entry's limits. Returns the proposal that did not fit.
    fn fill(&mut self, first: Proposal) -> (Vec<Proposal>, Option<Proposal>) {
        let mut commands = first.commands.len();
        let mut bytes = bytes_of(&first.commands);
        let mut batch = vec![first];
        while let Ok(next) = self.proposals.try_recv() {
            commands += next.commands.len();
            bytes += bytes_of(&next.commands);
            if commands > MAX_BATCH_COMMANDS || bytes > MAX_BATCH_BYTES {
                return (batch, Some(next));
            }
            batch.push(next);
        }
        (batch, None)
    }
}

/// Proposes one entry and answers everybody in it. Returns whether the leadership still stands.
async fn propose(group: &Group, term: LeaderTerm, time: &ShardTime, batch: Vec<Proposal>) -> bool {
    let mut commands = Vec::with_capacity(batch.iter().map(|proposal| proposal.commands.len()).sum());
    let mut waiting = Vec::with_capacity(batch.len());
    for proposal in batch {
        waiting.push(Waiting { count: proposal.commands.len(), answer: proposal.answer, _room: proposal.room });
        commands.extend(proposal.commands);
    }
    let payload = encode_batch(time.stamp(), &commands);
    drop(commands);
    let failure = loop {
        match group.propose(payload.clone(), Some(term)).await {
            Ok(reply) => match reply.downcast::<Vec<Outcome>>() {
                Ok(outcomes) => {
                    answer(waiting, *outcomes);
                    return true;
                }
                Err(_) => {
                    error!("a reply of another kind came from the state machine");
                    break Unproposed::Unknown;
                }
            },
            // Tried again, never given up: what is queued behind it must not overtake it.
            Err(ProposeError::Overloaded) => tokio::time::sleep(OVERLOADED_PAUSE).await,
            Err(ProposeError::NotLeader { .. }) => break Unproposed::NotLeader,
            Err(ProposeError::Unknown | ProposeError::Stopped) => break Unproposed::Unknown,
        }
    };
    for waiting in waiting {
        let _ = waiting.answer.send(Err(failure.clone()));
    }
    false
}

/// Before an entry that the group was too busy for is tried again.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(5);

/// Who waits for the outcomes of so many commands of an entry.
struct Waiting {
    count: usize,
    answer: oneshot::Sender<Result<Vec<Outcome>, Unproposed>>,
    _room: OwnedSemaphorePermit,
}

fn answer(waiting: Vec<Waiting>, outcomes: Vec<Outcome>) {
    let mut outcomes = outcomes.into_iter();
    for waiting in waiting {
        let _ = waiting.answer.send(Ok(outcomes.by_ref().take(waiting.count).collect()));
    }
}

/// A close bound on what commands add to an entry: their bodies and a little for the rest.
fn bytes_of(commands: &[Command]) -> usize {
    const REST: usize = 128;
    let body = |command: &Command| match &command.operation {
        // What an item asks for is two short texts and a few numbers at most.
        Operation::SendItems { items, options, .. } => {
            items.iter().map(|item| item.len()).sum::<usize>() + options.len() * 64
        }
        Operation::AckDeliveries { deliveries, .. }
        | Operation::NackDeliveries { deliveries, .. }
        | Operation::ExtendLeases { deliveries, .. } => deliveries.len() * 16,
        Operation::CancelItems { items, .. } => items.len() * 8,
        Operation::CreateRoom { metadata, annotations, .. } => labels(metadata) + labels(annotations),
        Operation::UpdateRoom { metadata, annotations, .. } => {
            metadata.as_ref().map_or(0, labels) + annotations.as_ref().map_or(0, labels)
        }
        // A clock of an update and its client are numbers of at most eight bytes each, written short.
        Operation::PushUpdate { path, clocks, update, .. } => {
            path.as_bytes().len() + update.len() + clocks.added.len() * 24 + clocks.required.len() * 16
        }
        Operation::RenameDocument { from, to, .. } => from.as_bytes().len() + to.as_bytes().len(),
        Operation::CreateDocument { path, .. } | Operation::DeleteDocument { path, .. } => path.as_bytes().len(),
        Operation::PostMessage { message, .. } => message.len(),
        Operation::DeleteRoom { .. }
        | Operation::AttachSession { .. }
        | Operation::LeaseItems { .. }
        | Operation::ConfigureQueue { .. }
        | Operation::MoveItems { .. }
        | Operation::PurgeItems { .. }
        | Operation::Advance(_) => 0,
    };
    commands.iter().map(|command| body(command) + REST).sum()
}

fn labels(labels: &std::collections::BTreeMap<String, String>) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}
