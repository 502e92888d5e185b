//! How long a stream of events stood still at most.

use std::time::{Duration, Instant};

use std::sync::{Mutex, PoisonError};

/// Notes events and remembers the longest time between two.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Instant,
    longest: Duration,
    events: u64,
}

impl Progress {
    /// Begins to watch now: the time to the first event counts too.
    pub fn begin() -> Progress {
        Progress { state: Mutex::new(State { last: Instant::now(), longest: Duration::ZERO, events: 0 }) }
    }

    /// Notes so many events now.
    pub fn note(&self, events: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.longest = state.longest.max(now - state.last);
        state.last = now;
        state.events += events;
    }

    pub fn events(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).events
    }

    pub fn longest_gap(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).longest
    }
}
