//! Clocks of simulated machines: wall clocks that are off, drift and jump; monotonic ones that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use conclave_types::{Clock, Timestamp};

/// Wall time at which every run begins: 2026-01-01.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// Simulated time as the driver has it, for what runs between two ticks.
#[derive(Debug, Default)]
pub struct Now(AtomicU64);

impl Now {
    pub fn set(&self, elapsed: Duration) {
        self.0.store(elapsed.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn elapsed(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| Duration::from_micros(self.0.load(Ordering::Relaxed)))
    }
}

/// How far a machine's wall clock is off, in milliseconds.
#[derive(Debug, Default)]
pub struct Offset(AtomicI64);

impl Offset {
    pub fn add(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

/// The clocks of one machine.
#[derive(Debug, Clone, Default)]
pub struct MachineClock {
    pub now: Arc<Now>,
    pub offset: Arc<Offset>,
}

impl Clock for MachineClock {
    fn wall(&self) -> Timestamp {
        let elapsed = self.now.elapsed().as_millis() as i64;
        Timestamp((EPOCH_MS + elapsed + self.offset.0.load(Ordering::Relaxed)).max(0) as u64)
    }

    fn monotonic(&self) -> Duration {
        self.now.elapsed()
    }
}
