//! What a shard has only while it is led here: the proposer, its time, waiting receives, attached streams, who is present,
//! and the hub that tells followers what happens.
//!
//! All of it is memory that dies with the leadership; a new leader begins with none, and gateways attach again.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use conclave_raft::{Group, LeaderTerm};
use conclave_room::{Advance, Command, Effect, Operation, Origin};
use conclave_types::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::awareness::{self, Awareness};
use crate::changes;
use crate::documents::Documents;
use crate::feed;
use crate::hub::Hub;
use crate::presence::{self, Presence};
use crate::proposer::Proposer;
use crate::shard_time::ShardTime;
use crate::streams::Streams;
use crate::waiters::Waiters;

/// Most due entries that one `Advance` handles, so that a burst of them does not hold up the shard.
const ADVANCE_LIMIT: u32 = 512;

pub struct Leading {
    pub term: LeaderTerm,
    pub proposer: Proposer,
    pub time: Arc<ShardTime>,
    pub waiters: Waiters,
    /// How many streams of deliveries are open.
    pub delivery_streams: AtomicU64,
    pub streams: Streams,
    pub hub: Hub,
    pub presence: Presence,
    pub awareness: Awareness,
    pub documents: Documents,
    /// Places for server streams, see [`feed::MAX_STREAMS`].
    pub plain_streams: Arc<Semaphore>,
    /// Cancelled once the leadership is over, by the shard or by the proposer whose entry the group refused.
    pub ended: CancellationToken,
}

impl Leading {
    /// Begins a leadership; its tasks are `tasks`' and end with `ended`.
    pub fn begin(
        group: Group,
        term: LeaderTerm,
        time: ShardTime,
        next_due: watch::Receiver<Option<Timestamp>>,
        tasks: &TaskTracker,
    ) -> Arc<Leading> {
        let (proposer, proposing) = Proposer::new();
        let time = Arc::new(time);
        let leading = Arc::new(Leading {
            term,
            proposer,
            time: time.clone(),
            waiters: Waiters::default(),
            delivery_streams: AtomicU64::new(0),
            streams: Streams::default(),
            hub: Hub::default(),
            presence: Presence::new(time.clone()),
            awareness: Awareness::new(time),
            documents: Documents::default(),
            plain_streams: Arc::new(Semaphore::new(feed::MAX_STREAMS)),
            ended: CancellationToken::new(),
        });
        tasks.spawn(proposing.run(group, term, leading.time.clone(), leading.ended.clone()));
        tasks.spawn(run_timer(leading.clone(), next_due));
        tasks.spawn(presence::run(leading.clone()));
        tasks.spawn(awareness::run(leading.clone()));
        leading
    }

    /// Runs the effects of written entries, before anybody has their outcomes. On the thread that applies: followers are
    /// only told that there is something.
    pub fn run(&self, effects: Vec<Effect>) {
        let mut changed = Vec::new();
        for effect in effects {
            match effect {
                Effect::QueueReady { room, queue } => self.waiters.wake_one(room, &queue),
                Effect::ConsumerFreed { room, queue, consumer } => self.waiters.wake_consumer(room, queue, consumer),
                Effect::Changed(change) => changed.push(change),
                Effect::SessionAttached { session, attachment, .. } => self.streams.supersede(session, attachment),
                Effect::RoomDeleted { room } => {
                    self.streams.end_room(room);
                    self.hub.end_room(room);
                    self.waiters.wake_room(room);
                    self.presence.forget_room(room);
                    self.awareness.forget_room(room);
                }
                // Of every replica, whether it leads or not: the machine's.
                Effect::DocumentDropped { .. } => {}
            }
        }
        changes::publish(&self.hub, changed);
    }
}

/// Proposes `Advance` whenever the head of the due index is reached. An idle shard neither wakes nor writes.
async fn run_timer(leading: Arc<Leading>, mut next_due: watch::Receiver<Option<Timestamp>>) {
    loop {
        let due = *next_due.borrow_and_update();
        let reached = async {
            match due {
                Some(due) => tokio::time::sleep(Duration::from_millis(due.since_ms(leading.time.stamp()))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leading.ended.cancelled() => return,
            changed = next_due.changed() => if changed.is_err() { return },
            // The shard's time may run slower than the timer: too early is looked at again, not written.
            () = reached => if due.is_some_and(|due| due <= leading.time.stamp()) {
                let operation = Operation::Advance(Advance { limit: ADVANCE_LIMIT });
                if let Err(reason) = leading.proposer.propose_in_turn(Command { origin: Origin::Host, operation }).await {
                    debug!(%reason, "due work is left to the next leader");
                    return;
                }
            }
        }
    }
}
