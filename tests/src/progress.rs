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
    began: Instant,
    last: Instant,
    longest: Duration,
    /// When the longest gap began, since the watch began.
    longest_at: Duration,
    events: u64,
}

impl Progress {
    /// Begins to watch now: the time to the first event counts too.
    pub fn begin() -> Progress {
        let (began, none) = (Instant::now(), Duration::ZERO);
        Progress { state: Mutex::new(State { began, last: began, longest: none, longest_at: none, events: 0 }) }
    }

    /// Notes so many events now.
    pub fn note(&self, events: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now - state.last > state.longest {
            state.longest = now - state.last;
            state.longest_at = state.last - state.began;
        }
        state.last = now;
        state.events += events;
    }

    pub fn events(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).events
    }

    /// The longest gap, and when it began.
    pub fn longest_gap(&self) -> (Duration, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.longest, state.longest_at)
    }
}
