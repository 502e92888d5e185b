//! Bytes of clients that a gateway keeps to send them again, and their bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What stays for as long as its stream may take this part of the budget, so that there is always room for the frames
/// that come and go.
const STANDING_PART: usize = 2;

/// Shared by sessions and server streams. Whoever takes gives back.
#[derive(Debug)]
pub struct RetainedBudget {
    used: AtomicUsize,
    /// Of them: what stays for as long as its stream.
    standing: AtomicUsize,
    limit: usize,
}

impl RetainedBudget {
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(RetainedBudget { used: AtomicUsize::new(0), standing: AtomicUsize::new(0), limit: limit_bytes })
    }

    pub fn has_room(&self) -> bool {
        self.used_bytes() < self.limit
    }

    /// Takes bytes for what comes and goes: never refused, since whoever has no room is not read.
    pub fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes bytes for the life of a stream, if there is room for them.
    #[must_use]
    pub fn take_standing(&self, bytes: usize) -> bool {
        let before = self.standing.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit / STANDING_PART;
        if fits {
            self.take(bytes);
        } else {
            self.standing.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    pub fn give_back_standing(&self, bytes: usize) {
        self.standing.fetch_sub(bytes, Ordering::Relaxed);
        self.give_back(bytes);
    }

    /// Bytes kept at the moment.
    pub fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_leaves_room_for_what_comes_and_goes() {
        let budget = RetainedBudget::new(100);
        assert!(budget.take_standing(30));
        budget.take(60);
        assert!(budget.take_standing(20), "whatever comes and goes");
        assert!(!budget.take_standing(1));
        assert!(!budget.has_room());
        budget.give_back(60);
        assert!(budget.has_room(), "half is left");
        budget.give_back_standing(20);
        assert!(budget.take_standing(1));
        assert_eq!(budget.used_bytes(), 31);
    }
}
