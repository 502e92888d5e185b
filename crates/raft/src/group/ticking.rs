//! When a replica needs openraft's clock.
//!
//! openraft wakes every replica 25 times a second to see whether a heartbeat or an election is due. With 64 groups that
//! was a third of a core on three hosts that nobody used (bench/README.md). Both are known here without it: the keeper
//! asks for a leader's heartbeats itself, and a follower that has just heard its leader cannot stand for election
//! before a lease and an election timeout have passed. So the clock runs only where silence has begun.

use std::time::Duration;

use openraft::ServerState;
use parking_lot::Mutex;
use tokio::time::Instant;

/// When a replica last took a call of a leader that it follows.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    pub(crate) fn leader(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn at(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

/// Whether openraft's clock must run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// An election may have to be held.
    Runs,
    /// The keeper does all that time asks for.
    Rests,
    /// The leader was heard: nothing is due before then.
    RestsUntil(Instant),
}

impl Clock {
    /// `quiet` is how long after its leader's last call a follower lets the clock rest; it must be shorter than the
    /// silence after which it stands for election.
    pub(crate) fn of(state: ServerState, heard: &Heard, quiet: Duration, now: Instant) -> Clock {
        match state {
            ServerState::Leader => Clock::Rests,
            ServerState::Follower | ServerState::Learner => {
                let until = heard.at().map(|at| at + quiet).filter(|until| *until > now);
                until.map_or(Clock::Runs, Clock::RestsUntil)
            }
            ServerState::Candidate | ServerState::Shutdown => Clock::Runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(900);

    #[tokio::test(start_paused = true)]
    async fn a_follower_rests_only_while_its_leader_was_heard_lately() {
        let (heard, begun) = (Heard::default(), Instant::now());
        let clock = |at| Clock::of(ServerState::Follower, &heard, QUIET, at);
        assert_eq!(clock(begun), Clock::Runs, "nobody was heard yet");
        heard.leader();
        assert_eq!(clock(begun), Clock::RestsUntil(begun + QUIET));
        assert_eq!(clock(begun + QUIET), Clock::Runs);
        tokio::time::advance(QUIET).await;
        heard.leader();
        assert_eq!(clock(begun + QUIET), Clock::RestsUntil(begun + 2 * QUIET));
    }

    #[tokio::test(start_paused = true)]
    async fn a_candidate_needs_the_clock_and_a_leader_does_not() {
        let heard = Heard::default();
        heard.leader();
        let clock = |state| Clock::of(state, &heard, QUIET, Instant::now());
        assert_eq!(clock(ServerState::Candidate), Clock::Runs);
        assert_eq!(clock(ServerState::Leader), Clock::Rests);
        assert_eq!(clock(ServerState::Learner), Clock::RestsUntil(Instant::now() + QUIET));
    }
}
