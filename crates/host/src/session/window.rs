//! What a session may have under way: sequences go up, and durable frames without acknowledgement are bounded.

use std::collections::VecDeque;

use conclave_types::Sequence;
use conclave_types::limits::{MAX_UNACKNOWLEDGED_BYTES, MAX_UNACKNOWLEDGED_FRAMES};

use crate::faults::Fault;

#[derive(Debug, Default)]
pub struct Window {
    last: Sequence,
    acknowledged: Sequence,
    /// Durable frames taken on this stream and not acknowledged, with their bytes.
    open: VecDeque<(Sequence, usize)>,
    open_bytes: usize,
}

impl Window {
    pub fn acknowledged(&self) -> Sequence {
        self.acknowledged
    }

    /// Takes a frame's number. One that does not go up means a client that lost count: the stream ends.
    pub fn number(&mut self, sequence: Sequence) -> Result<(), Fault> {
        if sequence <= self.last {
            return Err(Fault::sequence_invalid(sequence.0, self.last.0));
        }
        self.last = sequence;
        Ok(())
    }

    /// Takes a cumulative acknowledgement; an older one changes nothing.
    pub fn acknowledge(&mut self, upto: Sequence) {
        self.acknowledged = self.acknowledged.max(upto);
        while let Some(&(sequence, bytes)) = self.open.front()
            && sequence <= upto
        {
            self.open.pop_front();
            self.open_bytes -= bytes;
        }
    }

    /// Takes a durable frame, or refuses it with the limit it breaks.
    pub fn open(&mut self, sequence: Sequence, bytes: usize) -> Result<(), Fault> {
        if self.open.len() >= MAX_UNACKNOWLEDGED_FRAMES {
            return Err(Fault::window_exceeded());
        }
        // A single frame at the frame limit must pass.
        if !self.open.is_empty() && self.open_bytes + bytes > MAX_UNACKNOWLEDGED_BYTES {
            return Err(Fault::window_exceeded());
        }
        self.open.push_back((sequence, bytes));
        self.open_bytes += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_must_go_up() {
        let mut window = Window::default();
        assert!(window.number(Sequence(2)).is_ok());
        assert!(window.number(Sequence(2)).is_err());
        assert!(window.number(Sequence(3)).is_ok());
    }

    #[test]
    fn acknowledging_opens_the_window_again() {
        let mut window = Window::default();
        for sequence in 1..=MAX_UNACKNOWLEDGED_FRAMES as u64 {
            assert!(window.open(Sequence(sequence), 1).is_ok());
        }
        let next = Sequence(MAX_UNACKNOWLEDGED_FRAMES as u64 + 1);
        assert!(window.open(next, 1).is_err());
        window.acknowledge(Sequence(1));
        assert!(window.open(next, 1).is_ok());
    }

    #[test]
    fn bytes_are_bounded_but_one_large_frame_passes() {
        let mut window = Window::default();
        assert!(window.open(Sequence(1), MAX_UNACKNOWLEDGED_BYTES).is_ok());
        assert!(window.open(Sequence(2), 1).is_err());
        window.acknowledge(Sequence(1));
        assert!(window.open(Sequence(2), 1).is_ok());
    }
}
