//! Turns commands into log entries: what arrives while an entry is on its way shares the next one.
//!
//! One proposer serves one leadership of one shard and proposes bound to it. Entries are begun one after the other, so the
//! order of the queue is the order of the log. One is under way, and a second once there is enough for it; batching needs
//! no timer, because an entry is as wide as a round trip is long.

use std::sync::Arc;
use std::time::Duration;

use conclave_proto::log::encode_batch;
use conclave_raft::{Group, LeaderTerm, ProposeError, Proposed};
use conclave_room::{Command, Operation, Outcome};
use conclave_types::limits::{MAX_BATCH_BYTES, MAX_BATCH_COMMANDS};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::shard_time::ShardTime;

/// Commands of one shard that are queued or under way. With more, unary calls are shed and sessions stop reading, each
/// waiting its turn: so one session's full window never stands before another's single frame. Two
/// of the largest entries; more would only be latency.
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
        let mut gathered = Gathered::default();
        let mut under_way = FuturesOrdered::new();
        loop {
            let may_begin = match under_way.len() {
                0 => !gathered.is_empty(),
                others => others < ENTRIES_UNDER_WAY && gathered.fills_an_entry(),
            };
            if may_begin {
                let Some(entry) = begin(&group, term, &time, gathered.take()).await else { break };
                under_way.push_back(entry.end());
                continue;
            }
            tokio::select! {
                biased;
                () = ended.cancelled() => break,
                Some(leads) = under_way.next(), if !under_way.is_empty() => {
                    if !leads {
                        break;
                    }
                }
                proposal = self.proposals.recv(), if !gathered.is_full() => {
                    let Some(proposal) = proposal else { break };
                    gathered.add(proposal);
                    while !gathered.is_full()
                        && let Ok(next) = self.proposals.try_recv()
                    {
                        gathered.add(next);
                    }
                }
            }
        }
        self.room.close();
        self.proposals.close();
        drop(gathered);
        while self.proposals.recv().await.is_some() {}
        // Their fate is known soon: leadership is over, or about to be.
        while under_way.next().await.is_some() {}
        // Nobody else may know it yet: the group refuses proposals also while it still counts as led here.
        ended.cancel();
    }
}

/// What the next entry will hold, up to its limits.
#[derive(Default)]
struct Gathered {
    proposals: Vec<Proposal>,
    commands: usize,
    bytes: usize,
    /// The first that does not fit any more.
    next: Option<Proposal>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    fn is_full(&self) -> bool {
        self.next.is_some() || self.commands >= MAX_BATCH_COMMANDS || self.bytes >= MAX_BATCH_BYTES
    }

    /// Enough to begin another entry before the one under way has ended.
    fn fills_an_entry(&self) -> bool {
        self.commands >= SECOND_ENTRY_COMMANDS || self.bytes >= SECOND_ENTRY_BYTES
    }

    fn add(&mut self, proposal: Proposal) {
        let commands = self.commands + proposal.commands.len();
        let bytes = self.bytes + bytes_of(&proposal.commands);
        if !self.is_empty() && (commands > MAX_BATCH_COMMANDS || bytes > MAX_BATCH_BYTES) {
            self.next = Some(proposal);
            return;
        }
        (self.commands, self.bytes) = (commands, bytes);
        self.proposals.push(proposal);
    }

    fn take(&mut self) -> Vec<Proposal> {
        let Gathered { proposals, next, .. } = std::mem::take(self);
        next.into_iter().for_each(|next| self.add(next));
        proposals
    }
}

/// Hands one entry over to the group. Where it is refused everybody in it is told, and there is none.
async fn begin(group: &Group, term: LeaderTerm, time: &ShardTime, batch: Vec<Proposal>) -> Option<Entry> {
    let mut commands = Vec::with_capacity(batch.iter().map(|proposal| proposal.commands.len()).sum());
    let mut waiting = Vec::with_capacity(batch.len());
    for proposal in batch {
        waiting.push(Waiting { count: proposal.commands.len(), answer: proposal.answer, _room: proposal.room });
        commands.extend(proposal.commands);
    }
    let payload = encode_batch(time.stamp(), &commands);
    drop(commands);
    loop {
        match group.begin(payload.clone(), Some(term)).await {
            Ok(proposed) => return Some(Entry { proposed, waiting }),
            // Tried again, never given up: what is queued behind it must not overtake it.
            Err(ProposeError::Overloaded) => tokio::time::sleep(OVERLOADED_PAUSE).await,
            Err(failure) => {
                refuse(waiting, &failure);
                return None;
            }
        }
    }
}

/// An entry that is under way, and who waits for it.
struct Entry {
    proposed: Proposed,
    waiting: Vec<Waiting>,
}

impl Entry {
    /// Waits for its outcome and answers everybody in it. Returns whether the leadership still stands.
    async fn end(self) -> bool {
        match self.proposed.outcome().await {
            Ok(reply) => match reply.downcast::<Vec<Outcome>>() {
                Ok(outcomes) => {
                    answer(self.waiting, *outcomes);
                    true
                }
                Err(_) => {
                    error!("a reply of another kind came from the state machine");
                    refuse(self.waiting, &ProposeError::Unknown);
                    false
                }
            },
            Err(failure) => {
                refuse(self.waiting, &failure);
                false
            }
        }
    }
}

fn refuse(waiting: Vec<Waiting>, failure: &ProposeError) {
    let failure = match failure {
        ProposeError::NotLeader { .. } => Unproposed::NotLeader,
        // An entry that was too much for the group is tried again before it is begun, never after.
        ProposeError::Unknown | ProposeError::Stopped | ProposeError::Overloaded => Unproposed::Unknown,
    };
    for waiting in waiting {
        let _ = waiting.answer.send(Err(failure.clone()));
    }
}

/// Entries of one shard that are under way at most. With two, the clients of one are answered while the other is on its
/// way to the disks.
const ENTRIES_UNDER_WAY: usize = 2;
/// What makes a second one worth its price: a small one costs as many messages and syncs as a large one.
const SECOND_ENTRY_COMMANDS: usize = 128;
const SECOND_ENTRY_BYTES: usize = 64 << 10;
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

#[cfg(test)]
mod tests {
    use conclave_room::{Advance, Origin};

    use super::*;

    fn proposal(commands: usize) -> Proposal {
        let command = || Command { origin: Origin::Host, operation: Operation::Advance(Advance { limit: 1 }) };
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Proposal { commands: (0..commands).map(|_| command()).collect(), room, answer: oneshot::channel().0 }
    }

    fn sizes(proposals: &[Proposal]) -> Vec<usize> {
        proposals.iter().map(|proposal| proposal.commands.len()).collect()
    }

    #[test]
    fn an_entry_gathers_whole_proposals_up_to_its_limit() {
        let mut gathered = Gathered::default();
        gathered.add(proposal(SECOND_ENTRY_COMMANDS - 1));
        assert!(!gathered.fills_an_entry() && !gathered.is_full());
        gathered.add(proposal(1));
        assert!(gathered.fills_an_entry() && !gathered.is_full());
        gathered.add(proposal(MAX_BATCH_COMMANDS - SECOND_ENTRY_COMMANDS - 1));
        gathered.add(proposal(2));
        assert!(gathered.is_full(), "the last would be one too many");
        assert_eq!(sizes(&gathered.take()), [127, 1, MAX_BATCH_COMMANDS - 129]);
        assert_eq!(sizes(&gathered.take()), [2], "it begins the next entry");
        assert!(gathered.is_empty() && gathered.take().is_empty());
    }

    #[test]
    fn a_proposal_larger_than_an_entry_is_one_of_its_own() {
        let mut gathered = Gathered::default();
        gathered.add(proposal(MAX_BATCH_COMMANDS + 1));
        assert!(gathered.is_full() && gathered.next.is_none());
        assert_eq!(sizes(&gathered.take()), [MAX_BATCH_COMMANDS + 1]);
    }
}
