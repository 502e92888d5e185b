//! The client frames that no reply has come for.
//!
//! They are what the gateway owes the client after it lost the host: sent again to the new leader, in order and byte
//! for byte. Invariant: a frame is in here from before it is sent until its reply is passed on, so none is lost and no
//! reply is passed on twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use conclave_types::limits::{MAX_UNACKNOWLEDGED_BYTES, MAX_UNACKNOWLEDGED_FRAMES};

/// What may wait in one class; past it the client is not read.
const FRAMES_LIMIT: usize = MAX_UNACKNOWLEDGED_FRAMES;
const BYTES_LIMIT: usize = MAX_UNACKNOWLEDGED_BYTES;

/// Places of answered frames that are kept before they are cleared away all at once.
const MAX_ANSWERED: usize = 256;

/// Durable frames and others are bounded apart, so that receives which wait do not keep sends out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameClass {
    Durable,
    Transient,
}

/// Bytes that all sessions of this gateway keep.
#[derive(Debug)]
pub struct RetainedBudget {
    used: AtomicUsize,
    limit: usize,
}

impl RetainedBudget {
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(RetainedBudget { used: AtomicUsize::new(0), limit: limit_bytes })
    }

    fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit
    }

    /// Bytes kept at the moment.
    #[cfg(test)]
    fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Unanswered {
    sequence: u64,
    class: FrameClass,
    /// With its gRPC prefix; none once it is answered.
    frame: Option<Bytes>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Load {
    frames: usize,
    bytes: usize,
}

#[derive(Debug)]
pub struct Ledger {
    /// By sequence, rising. The front is always unanswered.
    frames: VecDeque<Unanswered>,
    /// How many of them are answered and wait for those before them.
    answered: usize,
    durable: Load,
    transient: Load,
    highest: u64,
    budget: Arc<RetainedBudget>,
}

/// What to do with a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The first to this frame: the client's.
    First,
    /// The frame was answered before, or never asked: dropped.
    Repeated,
}

impl Ledger {
    /// `sent`: the highest sequence that earlier streams of the session have sent.
    pub fn new(sent: u64, budget: Arc<RetainedBudget>) -> Self {
        Ledger {
            frames: VecDeque::new(),
            answered: 0,
            durable: Load::default(),
            transient: Load::default(),
            highest: sent,
            budget,
        }
    }

    /// Keeps a frame that is about to be sent. Sequences that do not rise are the host's to refuse: they are not kept.
    pub fn keep(&mut self, sequence: u64, class: FrameClass, frame: Bytes) {
        if self.frames.back().is_some_and(|last| sequence <= last.sequence) {
            return;
        }
        self.highest = self.highest.max(sequence);
        self.budget.used.fetch_add(frame.len(), Ordering::Relaxed);
        let load = self.load(class);
        load.frames += 1;
        load.bytes += frame.len();
        self.frames.push_back(Unanswered { sequence, class, frame: Some(frame) });
    }

    /// Notes a reply.
    pub fn answer(&mut self, sequence: u64) -> Reply {
        let Some(position) = self.position(sequence) else { return Reply::Repeated };
        let entry = &mut self.frames[position];
        let class = entry.class;
        let Some(frame) = entry.frame.take() else { return Reply::Repeated };
        self.budget.used.fetch_sub(frame.len(), Ordering::Relaxed);
        let load = self.load(class);
        load.frames -= 1;
        load.bytes -= frame.len();
        self.answered += 1;
        while self.frames.front().is_some_and(|front| front.frame.is_none()) {
            self.frames.pop_front();
            self.answered -= 1;
        }
        // A receive may wait for a minute while everything behind it is answered.
        if self.answered > MAX_ANSWERED && self.answered > self.frames.len() / 2 {
            self.frames.retain(|entry| entry.frame.is_some());
            self.answered = 0;
        }
        Reply::First
    }

    /// Whether the client may be read. A session that keeps nothing may always, or the gateway's budget could hold it
    /// for ever.
    pub fn has_room(&self) -> bool {
        let fits = |load: Load| load.frames < FRAMES_LIMIT && load.bytes < BYTES_LIMIT;
        fits(self.durable) && fits(self.transient) && (self.frames.is_empty() || self.budget.has_room())
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a durable frame is unanswered.
    pub fn has_durable(&self) -> bool {
        self.durable.frames > 0
    }

    /// The highest sequence sent so far.
    pub fn highest_sent(&self) -> u64 {
        self.highest
    }

    /// The unanswered frames in their order.
    pub fn unanswered(&self) -> impl Iterator<Item = &Bytes> {
        self.frames.iter().filter_map(|entry| entry.frame.as_ref())
    }

    /// Clients number frames without gaps, so the first guess is nearly always right.
    fn position(&self, sequence: u64) -> Option<usize> {
        let front = self.frames.front()?.sequence;
        let guess = usize::try_from(sequence.checked_sub(front)?).ok()?;
        match self.frames.get(guess) {
            Some(entry) if entry.sequence == sequence => Some(guess),
            _ => self.frames.binary_search_by_key(&sequence, |entry| entry.sequence).ok(),
        }
    }

    fn load(&mut self, class: FrameClass) -> &mut Load {
        match class {
            FrameClass::Durable => &mut self.durable,
            FrameClass::Transient => &mut self.transient,
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let bytes = self.durable.bytes + self.transient.bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u64) -> Bytes {
        Bytes::from(sequence.to_be_bytes().to_vec())
    }

    fn ledger() -> Ledger {
        Ledger::new(0, RetainedBudget::new(1 << 20))
    }

    #[test]
    fn unanswered_frames_keep_their_order_whatever_was_answered_between() {
        let mut ledger = ledger();
        for sequence in 1..=6 {
            ledger.keep(sequence, FrameClass::Durable, frame(sequence));
        }
        for answered in [2, 1, 5] {
            assert_eq!(ledger.answer(answered), Reply::First);
        }
        assert_eq!(ledger.unanswered().cloned().collect::<Vec<_>>(), [frame(3), frame(4), frame(6)]);
        assert_eq!(ledger.highest_sent(), 6);
    }

    #[test]
    fn a_reply_counts_once() {
        let mut ledger = ledger();
        for sequence in 1..=3 {
            ledger.keep(sequence, FrameClass::Durable, frame(sequence));
        }
        assert_eq!(ledger.answer(2), Reply::First);
        assert_eq!(ledger.answer(2), Reply::Repeated);
        assert_eq!(ledger.answer(1), Reply::First);
        assert_eq!(ledger.answer(1), Reply::Repeated);
        assert_eq!(ledger.answer(9), Reply::Repeated);
        assert_eq!(ledger.answer(3), Reply::First);
        assert!(ledger.is_empty());
    }

    #[test]
    fn gaps_in_the_sequences_are_found() {
        let mut ledger = ledger();
        for sequence in [3, 7, 20] {
            ledger.keep(sequence, FrameClass::Transient, frame(sequence));
        }
        assert_eq!(ledger.answer(20), Reply::First);
        assert_eq!(ledger.answer(8), Reply::Repeated);
        assert_eq!(ledger.answer(3), Reply::First);
        assert_eq!(ledger.answer(7), Reply::First);
    }

    #[test]
    fn a_receive_that_waits_does_not_make_the_ledger_grow() {
        let mut ledger = ledger();
        ledger.keep(1, FrameClass::Transient, frame(1));
        for sequence in 2..=10_000 {
            ledger.keep(sequence, FrameClass::Durable, frame(sequence));
            let stays_open = sequence > 9_900 && sequence % 7 == 0;
            if !stays_open {
                assert_eq!(ledger.answer(sequence), Reply::First);
            }
            assert!(ledger.frames.len() <= 2 * MAX_ANSWERED);
        }
        assert_eq!(ledger.answer(9_902), Reply::Repeated);
        assert_eq!(ledger.answer(9_905), Reply::First);
        let owed: Vec<_> = ledger.unanswered().take(3).cloned().collect();
        assert_eq!(owed, [frame(1), frame(9_912), frame(9_919)]);
    }

    #[test]
    fn a_full_class_stops_reading_until_a_reply_comes() {
        let mut ledger = ledger();
        for sequence in 1..=FRAMES_LIMIT as u64 {
            assert!(ledger.has_room());
            ledger.keep(sequence, FrameClass::Durable, frame(sequence));
        }
        assert!(!ledger.has_room());
        ledger.answer(1);
        assert!(ledger.has_room());
    }

    #[test]
    fn the_gateways_budget_is_shared_and_given_back() {
        let budget = RetainedBudget::new(10);
        let mut greedy = Ledger::new(0, budget.clone());
        greedy.keep(1, FrameClass::Durable, Bytes::from(vec![0; 12]));
        let mut other = Ledger::new(0, budget.clone());
        assert!(!greedy.has_room());
        assert!(other.has_room(), "a session that keeps nothing is always read");
        other.keep(1, FrameClass::Durable, frame(1));
        assert!(!other.has_room());
        drop(greedy);
        assert!(other.has_room());
        assert_eq!(budget.used_bytes(), 8);
        other.answer(1);
        assert_eq!(budget.used_bytes(), 0);
    }
}
