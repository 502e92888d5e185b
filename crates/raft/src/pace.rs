//! Spreads bytes over time, so that a transfer leaves room for what must be quick.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// A bound on the bytes of a second that several transfers share.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// When the bytes let through so far have had their time.
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Pace { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Returns when it is these bytes' turn.
    pub(crate) async fn take(&self, bytes: usize) {
        let turn = {
            let mut free_at = self.free_at.lock();
            let turn = (*free_at).max(Instant::now());
            *free_at = turn + time_for(bytes, self.bytes_per_second);
            turn
        };
        sleep_until(turn).await;
    }
}

/// How long so many bytes take.
pub(crate) fn time_for(bytes: usize, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transfers_share_the_bytes_of_a_second() {
        let pace = Pace::new(1_000);
        let begun = Instant::now();
        let transfer = || async {
            for _ in 0..10 {
                pace.take(100).await;
            }
        };
        tokio::join!(transfer(), transfer());
        // The last of twenty begins when nineteen have had their time.
        assert!(begun.elapsed().abs_diff(Duration::from_millis(1_900)) < Duration::from_millis(20));
    }
}
