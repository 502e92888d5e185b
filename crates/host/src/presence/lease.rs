//! A participant's lease: how long it stays without a sign of life.
//!
//! Renewed by every frame of its session, so a renewal takes no lock and is left out when one was a moment ago. A lease
//! that is over is never renewed: who lists the room may have been told so already.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use conclave_types::Timestamp;

/// Renewals closer together than this count as one. A lease therefore runs this much longer than was asked for, never
/// shorter.
pub const RENEWAL_GRAIN_MS: u64 = 100;

#[derive(Debug)]
pub struct Lease {
    length_ms: AtomicU64,
    renewed: AtomicU64,
    /// The steady clock at the last renewal, in milliseconds.
    renewed_steady_ms: AtomicU64,
    /// Streams that keep the lease from running.
    holds: AtomicU32,
    /// Its participant was taken out.
    ended: AtomicBool,
}

impl Lease {
    pub fn new(length_ms: u64, now: Timestamp) -> Self {
        Lease {
            length_ms: length_ms.into(),
            renewed: now.0.into(),
            renewed_steady_ms: 0.into(),
            holds: 0.into(),
            ended: false.into(),
        }
    }

    pub fn length_ms(&self) -> u64 {
        self.length_ms.load(Ordering::Relaxed)
    }

    /// When it will be over unless it is renewed.
    pub fn end(&self, now: Timestamp) -> Timestamp {
        let renewed = match self.holds.load(Ordering::Acquire) {
            0 => Timestamp(self.renewed.load(Ordering::Relaxed)),
            _ => now,
        };
        renewed.plus_ms(self.length_ms() + RENEWAL_GRAIN_MS)
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ended.load(Ordering::Acquire) || self.end(now) <= now
    }

    /// Begins anew with another length.
    pub fn set(&self, length_ms: u64, now: Timestamp) {
        self.length_ms.store(length_ms, Ordering::Relaxed);
        self.renewed.fetch_max(now.0, Ordering::Relaxed);
    }

    pub fn renew(&self, now: Timestamp) {
        if !self.is_over(now) {
            self.renewed.fetch_max(now.0, Ordering::Relaxed);
        }
    }

    /// As [`Lease::renew`], by a steady clock that is cheaper to read than the time: `now` is asked for only when the
    /// last renewal is a moment ago.
    pub fn renew_coarsely(&self, steady: Duration, now: impl FnOnce() -> Timestamp) {
        let steady_ms = steady.as_millis() as u64;
        let last = self.renewed_steady_ms.load(Ordering::Relaxed);
        if last == 0 || steady_ms.saturating_sub(last) >= RENEWAL_GRAIN_MS {
            self.renewed_steady_ms.store(steady_ms, Ordering::Relaxed);
            self.renew(now());
        }
    }

    pub fn finish(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Keeps the lease from running until [`Lease::release`].
    pub fn hold(&self) {
        self.holds.fetch_add(1, Ordering::AcqRel);
    }

    /// The lease runs again from `now`, if nobody else holds it.
    pub fn release(&self, now: Timestamp) {
        self.renew(now);
        self.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH_MS: u64 = 5_000;
    const START: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_lease_is_over_after_its_length_and_not_before() {
        let lease = Lease::new(LENGTH_MS, START);
        assert!(!lease.is_over(START.plus_ms(LENGTH_MS)));
        assert!(lease.is_over(START.plus_ms(LENGTH_MS + RENEWAL_GRAIN_MS)));
    }

    #[test]
    fn a_lease_that_is_over_is_not_renewed() {
        let lease = Lease::new(LENGTH_MS, START);
        let late = START.plus_ms(LENGTH_MS + RENEWAL_GRAIN_MS);
        lease.renew(late);
        assert!(lease.is_over(late));
    }

    #[test]
    fn renewals_in_quick_succession_shorten_no_lease() {
        let lease = Lease::new(LENGTH_MS, START);
        let mut last = START;
        for ms in (0..1_000).step_by(7) {
            last = START.plus_ms(ms);
            lease.renew_coarsely(Duration::from_millis(1 + ms), || last);
        }
        assert!(!lease.is_over(last.plus_ms(LENGTH_MS)));
        assert!(lease.is_over(last.plus_ms(LENGTH_MS + RENEWAL_GRAIN_MS)));
    }

    #[test]
    fn a_held_lease_runs_from_its_release() {
        let lease = Lease::new(LENGTH_MS, START);
        lease.hold();
        let released = START.plus_ms(60_000);
        assert!(!lease.is_over(released));
        lease.release(released);
        assert!(!lease.is_over(released.plus_ms(LENGTH_MS)));
        assert!(lease.is_over(released.plus_ms(LENGTH_MS + RENEWAL_GRAIN_MS)));
    }
}
