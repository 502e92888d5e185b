//! The course of one call over the hosts of a shard: which to ask, how long to wait between, when to give up.
//!
//! Unary calls, session attachments and server streams share it. What to do after a failure is decided in [`crate::retry`]; here it is
//! done.

use std::ops::ControlFlow;
use std::time::Duration;

use conclave_proto::status::ApiError;
use conclave_types::ShardId;
use tonic::{Code, Status};
use tower::retry::budget::Budget;

use crate::core::Core;
use crate::retry::{self, Failure, Next, Refusal, Repeat};
use crate::routing::{LeaderHint, ShardHost};

/// Leaders named by other hosts are followed at once this many times; then somebody is confused and we wait.
const MAX_HOPS: u32 = 3;
/// Between questions for a leader. A planned transfer takes milliseconds, an election a second or two. Whoever asks in the
/// middle of a transfer waits this long too much: up to 100 ms made the longest pause of a drain 132 ms instead of 99.
const LEADER_WAIT_MS: std::ops::Range<u64> = 5..40;
/// The same when the gateway as a whole has spent its retries.
const SPENT_WAIT_MS: std::ops::Range<u64> = 250..500;
/// Most of what a host that goes away may ask us to wait before we ask for the next leader.
const MAX_GO_AWAY_WAIT: Duration = Duration::from_secs(1);

/// How long a stream looks for a leader before its client is told; an election takes a second or two.
pub const STREAM_PATIENCE: Duration = Duration::from_secs(10);
/// A host that does not take a stream in this time is passed over: a host that hangs must not use up the patience.
/// Long, because an attachment that commits after it was given up supersedes the next attempt with the same token.
const STREAM_ATTEMPT: Duration = Duration::from_secs(5);

/// One failed attempt.
#[derive(Debug)]
pub struct Failed {
    pub failure: Failure,
    /// What the host said, when it said something.
    pub status: Option<Status>,
}

impl Failed {
    pub fn cut() -> Self {
        Failure::Cut.into()
    }

    /// A host's stream that ended: with this status, or cut by whatever carried it.
    pub fn ended(status: Option<Status>) -> Self {
        match status {
            Some(status) => Failed { failure: Failure::Refused(Refusal::from(&status)), status: Some(status) },
            None => Failed::cut(),
        }
    }

    /// What a host would say that does not lead any more, if it said anything.
    pub fn deposed(leader: &ShardHost, term: u64) -> Self {
        Failed::ended(Some(ApiError::not_leader(Some(&leader.address), term).into()))
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Failed { failure, status: None }
    }
}

/// Why a course ended without success.
#[derive(Debug)]
pub enum Verdict {
    /// The answer is the caller's.
    Pass(Status),
    /// The call may have had its effect.
    Unknown,
    /// Time or retries ran out before anybody could take the call.
    NobodyAnswered,
}

pub struct Course<'a> {
    core: &'a Core,
    shard: ShardId,
    asked: Option<ShardHost>,
    hops: u32,
    /// On the monotonic clock.
    give_up_at: Duration,
}

impl<'a> Course<'a> {
    /// `patience`: how long to go on after failures.
    pub fn new(core: &'a Core, shard: ShardId, patience: Duration) -> Self {
        Course { core, shard, asked: None, hops: 0, give_up_at: core.clock.monotonic() + patience }
    }

    /// A course whose first attempt was made elsewhere, on this host.
    pub fn after(core: &'a Core, shard: ShardId, patience: Duration, asked: ShardHost) -> Self {
        Course { asked: Some(asked), ..Course::new(core, shard, patience) }
    }

    pub fn remaining(&self) -> Duration {
        self.give_up_at.saturating_sub(self.core.clock.monotonic())
    }

    /// The host to ask now.
    pub fn target(&mut self) -> Result<ShardHost, Verdict> {
        if self.asked.is_none() {
            self.asked = self.core.router.first(self.shard);
        }
        self.asked.clone().ok_or(Verdict::NobodyAnswered)
    }

    /// The host asked last did its work as a leader.
    pub fn succeeded(&self) {
        if let Some(host) = &self.asked {
            self.core.router.confirm(self.shard, host.node);
        }
    }

    /// Opens a stream: asks one host after the other until one takes it. `failed`: how the stream before it ended, if
    /// the course was used for one.
    pub async fn open<T, F>(
        &mut self,
        mut failed: Option<Failed>,
        attempt: impl Fn(ShardHost) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        loop {
            if let Some(failed) = failed.take()
                && let ControlFlow::Break(verdict) = self.failed(failed, Repeat::Recognised).await
            {
                return Err(given_up(verdict));
            }
            let host = self.target().map_err(|_| Status::from(ApiError::no_leader()))?;
            let node = host.node;
            let attempt = async {
                tokio::select! {
                    biased;
                    opened = attempt(host) => opened,
                    // A host that hangs must not hold the stream up once another leads.
                    (leader, term) = self.core.router.led_elsewhere(self.shard, node) => {
                        Err(Failed::deposed(&leader, term))
                    }
                }
            };
            match tokio::time::timeout(STREAM_ATTEMPT.min(self.remaining()), attempt).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => failed = Some(error),
                Err(_late) => failed = Some(Failed::cut()),
            }
        }
    }

    /// Prepares the next attempt, waiting as the failure demands; breaks when there must be none.
    pub async fn failed(&mut self, failed: Failed, repeat: Repeat) -> ControlFlow<Verdict> {
        let next = retry::next(&failed.failure, repeat);
        tracing::debug!(shard = self.shard.0, failure = ?failed.failure, ?next, "attempt failed");
        let last_word = || failed.status.clone().map_or(Verdict::NobodyAnswered, Verdict::Pass);
        match next {
            Next::Pass => return ControlFlow::Break(last_word()),
            Next::Unknown => return ControlFlow::Break(Verdict::Unknown),
            Next::Follow => {
                self.hops += 1;
                match self.named_leader(&failed.failure).filter(|_| self.hops <= MAX_HOPS) {
                    Some(leader) => self.asked = Some(leader),
                    None => {
                        self.hops = 0;
                        self.wait_for_leader(self.leader_wait()).await;
                    }
                }
            }
            Next::WaitForLeader => {
                let asked_for = retry_after(&failed.failure).unwrap_or_default().min(MAX_GO_AWAY_WAIT);
                self.wait_for_leader(self.leader_wait().max(asked_for)).await;
            }
            Next::AwaitTable => {
                let known = self.core.router.map().map(|map| map.revision);
                let pause = self.leader_wait();
                // A table that does not come in time is waited for again after the next refusal.
                let _ = tokio::time::timeout(pause, self.core.router.newer_map(known)).await;
                self.asked = None;
            }
            Next::ProbeAnother => {
                if let Some(host) = &self.asked {
                    self.core.router.suspect(self.shard, host.node);
                }
                let spent = !self.core.retries.withdraw();
                self.move_on();
                let everybody = self.asked.as_ref().is_none_or(|host| self.core.router.is_suspect(host.node));
                if (spent || everybody) && self.is_told_of_leader(self.leader_wait()).await {
                    self.asked = self.core.router.first(self.shard);
                }
            }
            Next::After(delay) => {
                if delay >= self.remaining() || !self.core.retries.withdraw() {
                    return ControlFlow::Break(last_word());
                }
                self.wait(delay).await;
            }
        }
        if self.remaining().is_zero() { ControlFlow::Break(last_word()) } else { ControlFlow::Continue(()) }
    }

    /// The leader that a refusal names, noted for others; none if it does not hold the shard by the present map, or is
    /// the host that was just asked or did not answer.
    fn named_leader(&self, failure: &Failure) -> Option<ShardHost> {
        let Failure::Refused(Refusal { leader: Some(named), .. }) = failure else { return None };
        let leader = self.core.router.host_named(self.shard, &named.name)?;
        self.core.router.learn(self.shard, LeaderHint { node: leader.node, term: named.term });
        let asked = self.asked.as_ref().is_some_and(|asked| asked.node == leader.node);
        (!asked && !self.core.router.is_suspect(leader.node)).then_some(leader)
    }

    fn move_on(&mut self) {
        self.asked = match &self.asked {
            Some(host) => self.core.router.after(self.shard, host.node),
            None => self.core.router.first(self.shard),
        };
    }

    /// Waiting for a leader never fails for want of retries, it only becomes slower: failing would turn one election
    /// into errors for everybody.
    fn leader_wait(&self) -> Duration {
        let range = if self.core.retries.withdraw() { LEADER_WAIT_MS } else { SPENT_WAIT_MS };
        self.core.jitter.duration_ms(range)
    }

    /// Waits, at most so long, for somebody to lead; then asks the new leader, or whoever is next.
    async fn wait_for_leader(&mut self, most: Duration) {
        if self.is_told_of_leader(most).await {
            self.asked = self.core.router.first(self.shard);
        } else {
            self.move_on();
        }
    }

    async fn is_told_of_leader(&self, most: Duration) -> bool {
        tokio::select! {
            () = self.core.router.news_of_leader(self.shard) => true,
            () = self.wait(most) => false,
        }
    }

    async fn wait(&self, duration: Duration) {
        tokio::time::sleep(duration.min(self.remaining())).await;
    }
}

/// What a stream's client is told when nobody takes the stream.
fn given_up(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Pass(status) if status.code() != Code::Ok => status,
        Verdict::Pass(_) | Verdict::Unknown | Verdict::NobodyAnswered => ApiError::no_leader().into(),
    }
}

fn retry_after(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Refused(refusal) => refusal.retry_after,
        Failure::NotSent | Failure::Cut => None,
    }
}
