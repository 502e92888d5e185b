//! How long to stay away from a cluster that was lost, and when to give up.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Waits between attempts: from, to. Each is doubled and spread by half.
const WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// One attempt; the gateway itself looks for a leader for 10 s.
const ATTEMPT: Duration = Duration::from_secs(12);

/// The attempts since the cluster was last heard of.
#[derive(Debug, Clone)]
pub struct Attempts {
    /// How long they go on.
    limit: Duration,
    give_up_at: Instant,
    wait: Duration,
}

impl Attempts {
    pub fn new(limit: Duration) -> Self {
        Attempts { limit, give_up_at: Instant::now() + limit, wait: WAIT.0 }
    }

    /// Begins again: the cluster was there until now.
    pub fn restart(&mut self) {
        *self = Attempts::new(self.limit);
    }

    pub fn are_over(&self) -> bool {
        Instant::now() >= self.give_up_at
    }

    /// When an attempt that begins now counts as failed.
    pub fn deadline(&self) -> Instant {
        self.give_up_at.min(Instant::now() + ATTEMPT)
    }

    /// When to try again: after what the cluster asks for, and no sooner than is polite.
    pub fn next(&mut self, asked: Option<Duration>) -> Instant {
        let pause = asked.unwrap_or_default().max(spread(self.wait));
        self.wait = (self.wait * 2).min(WAIT.1);
        self.give_up_at.min(Instant::now() + pause)
    }
}

/// Half of the wait to one and a half of it, so that those who were lost together do not come back together.
fn spread(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1_000;
    wait / 2 + wait.mul_f64(random as f64 / 1_000.0)
}
