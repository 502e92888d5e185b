//! The client frames that no reply has come for.
//!
//! They are what the gateway owes the client after it lost the host: sent again to the new leader, in order and byte
//! for byte. Invariant: a frame is in here from before it is sent until its reply is passed on, so none is lost and no
//! reply is passed on twice.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use conclave_types::limits::{MAX_UNACKNOWLEDGED_BYTES, MAX_UNACKNOWLEDGED_FRAMES};

use crate::retained::RetainedBudget;

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

    /// Keeps a frame that is about to be sent. Sequences that do not rise are the host's to refuse: they are not kept,
    /// and false is returned.
    pub fn keep(&mut self, sequence: u64, class: FrameClass, frame: Bytes) -> bool {
        if self.frames.back().is_some_and(|last| sequence <= last.sequence) {
            return false;
        }
        self.highest = self.highest.max(sequence);
        self.budget.take(frame.len());
        let load = self.load(class);
        load.frames += 1;
        load.bytes += frame.len();
        self.frames.push_back(Unanswered { sequence, class, frame: Some(frame) });
        true
    }

    /// Sends one more frame behind an unanswered one whenever that is sent again: its ending, which has no sequence and
    /// so no place of its own.
    pub fn append(&mut self, sequence: u64, ending: &Bytes) {
        let Some(position) = self.position(sequence) else { return };
        let entry = &mut self.frames[position];
        let class = entry.class;
        let Some(frame) = &mut entry.frame else { return };
        *frame = [&frame[..], ending].concat().into();
        self.budget.take(ending.len());
        self.load(class).bytes += ending.len();
    }

    /// Notes a reply and gives up the frame that it answers. None when the frame was answered before or never asked:
    /// then the reply is not the client's.
    pub fn answer(&mut self, sequence: u64) -> Option<Bytes> {
        let position = self.position(sequence)?;
        let entry = &mut self.frames[position];
        let class = entry.class;
        let frame = entry.frame.take()?;
        self.budget.give_back(frame.len());
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
        Some(frame)
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
        self.budget.give_back(self.durable.bytes + self.transient.bytes);
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
            assert!(ledger.answer(answered).is_some());
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
        assert_eq!(ledger.answer(2), Some(frame(2)));
        assert!(ledger.answer(2).is_none());
        assert!(ledger.answer(1).is_some());
        assert!(ledger.answer(1).is_none());
        assert!(ledger.answer(9).is_none());
        assert!(ledger.answer(3).is_some());
        assert!(ledger.is_empty());
    }

    #[test]
    fn an_ending_goes_with_the_frame_that_it_ends() {
        let mut ledger = ledger();
        for sequence in 1..=2 {
            ledger.keep(sequence, FrameClass::Transient, frame(sequence));
        }
        ledger.append(1, &frame(9));
        ledger.append(3, &frame(9));
        let owed: Vec<_> = ledger.unanswered().cloned().collect();
        assert_eq!(owed, [Bytes::from([frame(1), frame(9)].concat()), frame(2)]);
        assert!(ledger.answer(1).is_some() && ledger.answer(2).is_some());
        ledger.append(1, &frame(9));
        assert_eq!((ledger.transient.bytes, ledger.budget.used_bytes()), (0, 0));
    }

    #[test]
    fn gaps_in_the_sequences_are_found() {
        let mut ledger = ledger();
        for sequence in [3, 7, 20] {
            ledger.keep(sequence, FrameClass::Transient, frame(sequence));
        }
        assert!(ledger.answer(20).is_some());
        assert!(ledger.answer(8).is_none());
        assert!(ledger.answer(3).is_some());
        assert!(ledger.answer(7).is_some());
    }

    #[test]
    fn a_receive_that_waits_does_not_make_the_ledger_grow() {
        let mut ledger = ledger();
        ledger.keep(1, FrameClass::Transient, frame(1));
        for sequence in 2..=10_000 {
            ledger.keep(sequence, FrameClass::Durable, frame(sequence));
            let stays_open = sequence > 9_900 && sequence % 7 == 0;
            if !stays_open {
                assert!(ledger.answer(sequence).is_some());
            }
            assert!(ledger.frames.len() <= 2 * MAX_ANSWERED);
        }
        assert!(ledger.answer(9_902).is_none());
        assert!(ledger.answer(9_905).is_some());
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
