//! Watches over one replica: says who leads, has a leader's heartbeats sent, keeps the log short, reads it once after a
//! start, and stops the replica when the store below it is damaged.
//!
//! A leader whose majority has been silent for longer than its followers would wait before they elect another counts as
//! deposed here, though openraft keeps it until it hears of its successor: what waits for it must be told.

use std::sync::Arc;
use std::time::Duration;

use conclave_faults::{Bug, planted};
use conclave_storage::EngineError;
use conclave_types::ReplicaId;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::{Instant as _, ServerState};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};

use super::ticking::{Clock, Heard};
use super::{LeaderTerm, Leadership, OpenraftHandle};
use crate::RaftOptions;
use crate::apply::ApplyProgress;
use crate::group_log::GroupLog;
use crate::log_scrub::LogScrub;
use crate::types::Raft;

/// How often a replica looks whether the store is damaged. What it is asked, or asks, is refused from the first moment.
const DAMAGE_INTERVAL: Duration = Duration::from_secs(1);

/// Groups open at the same moment; their heartbeats are spread over one interval in so many steps.
const HEARTBEAT_PHASES: u32 = 64;

pub(crate) struct Keeper {
    pub(crate) replica: ReplicaId,
    pub(crate) raft: OpenraftHandle,
    pub(crate) heard: Arc<Heard>,
    pub(crate) log: Arc<GroupLog>,
    pub(crate) scrub: LogScrub,
    pub(crate) options: RaftOptions,
    pub(crate) applied: watch::Receiver<ApplyProgress>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) leading: watch::Sender<Option<LeaderTerm>>,
    pub(crate) state: KeeperState,
}

#[derive(Default)]
pub(crate) struct KeeperState {
    /// The present leadership of this replica, and since when it is known.
    led_since: Option<(LeaderTerm, Instant)>,
    compactions: u64,
    /// A compaction was asked for, and the purge that follows it is due.
    purge_due: bool,
}

impl Keeper {
    /// Runs until told to stop or the replica ends.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut server = self.raft.server_metrics();
        let mut compacted = self.raft.watch_snapshot_progress();
        let every = self.options.heartbeat_interval;
        let phase = u32::from(self.log.group.0) % HEARTBEAT_PHASES;
        let mut heartbeat = interval_at(Instant::now() + every * phase / HEARTBEAT_PHASES, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(DAMAGE_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.log.store_is_damaged() {
                self.abandon().await;
                break;
            }
            let metrics = server.borrow_watched().clone();
            self.publish(&metrics);
            self.compact_if_due().await;
            let rests_until = self.set_clock(&metrics);
            tokio::select! {
                changed = server.changed() => if changed.is_err() { break },
                changed = self.applied.changed() => if changed.is_err() { break },
                changed = compacted.changed(), if self.state.purge_due => {
                    if changed.is_err() {
                        break;
                    }
                    self.purge().await;
                }
                () = self.scrub.due(), if !self.scrub.is_done() => self.scrub().await,
                // Nothing else would wake the keeper of a follower that is left alone.
                _ = look.tick() => {}
                // Asked for is not sent: a follower that just had an append, or a majority that is gone, gets none. Fails
                // only when the core has ended, which ends this loop too.
                _ = heartbeat.tick(), if self.state.led_since.is_some() => {
                    let _ = self.raft.trigger().heartbeat().await;
                }
                () = sleep_until(rests_until.unwrap_or_else(Instant::now)), if rests_until.is_some() => {}
                _ = &mut stop => break,
            }
        }
        self.leading.send_replace(None);
        self.leadership.send_replace(Leadership::Stopped);
        if let Err(fatal) = &self.raft.metrics().borrow_watched().running_state
            && *fatal != openraft::errors::Fatal::Stopped
        {
            tracing::error!(group = self.log.group.0, replica = self.replica.0, %fatal, "the replica has stopped");
        }
    }

    /// Lets openraft's clock run only if something may be due. Returns when to decide again.
    fn set_clock(&self, metrics: &RaftServerMetrics<Raft>) -> Option<Instant> {
        let clock = Clock::of(metrics.state, &self.heard, self.options.election_timeout_max, Instant::now());
        self.raft.runtime_config().tick(clock == Clock::Runs);
        match clock {
            Clock::RestsUntil(until) => Some(until),
            Clock::Runs | Clock::Rests => None,
        }
    }

    /// A replica on a damaged store neither votes nor leads, whatever its own part of the store looks like.
    async fn abandon(&self) {
        tracing::error!(group = self.log.group.0, replica = self.replica.0, "stopped: the store is damaged");
        // Fails only when the core has ended.
        let _ = self.raft.shutdown().await;
    }

    async fn scrub(&mut self) {
        match self.scrub.step() {
            // What an earlier process appended counts from now on.
            Ok(()) if self.scrub.is_done() => {
                let most = self.options.keep_log_bytes.saturating_add(self.options.compact_after_bytes);
                if self.log.known_bytes() > most {
                    self.compact().await;
                }
            }
            Ok(()) | Err(EngineError::Damaged(_)) => {}
            Err(error @ EngineError::Io(_)) => self.log.queue.fail(error).await,
            Err(error) => tracing::warn!(group = self.log.group.0, %error, "the log could not be read to its end"),
        }
    }

    fn publish(&mut self, metrics: &RaftServerMetrics<Raft>) {
        let leading = self.leading_now(metrics);
        self.leading.send_if_modified(|present| std::mem::replace(present, leading) != leading);
        let applied = self.applied.borrow_and_update().leadership;
        let leadership = match leading {
            Some(term) if applied == leading => Leadership::Leader { term },
            _ => Leadership::Follower {
                term: metrics.vote.leader_id.term,
                leader: metrics.current_leader.filter(|leader| *leader != self.replica.0).and_then(|leader| {
                    let address = metrics.membership_config.get_node(&leader)?;
                    Some((ReplicaId(leader), address.clone()))
                }),
            },
        };
        self.leadership.send_if_modified(|present| {
            let changed = *present != leadership;
            if changed {
                *present = leadership;
            }
            changed
        });
    }

    /// The leadership this replica holds, if its majority still answers.
    fn leading_now(&mut self, metrics: &RaftServerMetrics<Raft>) -> Option<LeaderTerm> {
        let vote = &metrics.vote;
        let leads = metrics.state == ServerState::Leader && vote.committed && vote.leader_id.node_id == self.replica.0;
        if !leads {
            self.state.led_since = None;
            return None;
        }
        let term = LeaderTerm::from(vote.leader_id);
        let since = match self.state.led_since {
            Some((led, since)) if led == term => since,
            _ => {
                let now = Instant::now();
                self.state.led_since = Some((term, now));
                now
            }
        };
        self.majority_answers(metrics, since).then_some(term)
    }

    fn majority_answers(&self, metrics: &RaftServerMetrics<Raft>, since: Instant) -> bool {
        if metrics.membership_config.voter_ids().eq([self.replica.0]) || planted(Bug::ReadWithoutBarrier) {
            return true;
        }
        let acknowledged = self.raft.data_metrics().borrow_watched().last_quorum_acked;
        let silent = acknowledged.map_or(Duration::MAX, |at| at.elapsed()).min(since.elapsed());
        silent < self.silence_limit()
    }

    /// Followers elect no other before they have heard nothing for one lease and an election timeout, which is at least
    /// two heartbeats. The silence is looked at once a heartbeat, so it is seen before there is a successor.
    fn silence_limit(&self) -> Duration {
        self.options.election_timeout_max + self.options.heartbeat_interval
    }

    /// Notes in the log how far the state reaches, so that what lies before may go.
    async fn compact_if_due(&mut self) {
        let due = self.applied.borrow().compactions_due;
        if due == self.state.compactions {
            return;
        }
        self.state.compactions = due;
        self.compact().await;
    }

    async fn compact(&mut self) {
        // Fails only when the core has ended, which ends this loop too.
        self.state.purge_due = self.raft.trigger().snapshot().await.is_ok();
    }

    /// Bounds what is kept by entries and by bytes. openraft does neither: what it wants to purge and cannot yet must never
    /// be less than what it wanted before, and two rules would take turns.
    async fn purge(&mut self) {
        self.state.purge_due = false;
        let compacted = self.raft.data_metrics().borrow_watched().snapshot;
        let by_entries = compacted.map(|at| (at.index + 1).saturating_sub(self.options.keep_log_entries));
        let keep_from = by_entries.max(self.log.keep_from(self.options.keep_log_bytes));
        if let Some(upto) = keep_from.and_then(|keep_from| keep_from.checked_sub(1)) {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }
}
