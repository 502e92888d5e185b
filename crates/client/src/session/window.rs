//! What a session owes and is owed: frames waiting to be sent, and frames waiting for their reply.
//!
//! Pure. Invariants: frames leave in the order of their sequences, on every stream; a frame is forgotten only when its
//! reply came; `acknowledged` never passes a durable frame without a reply.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::ENVELOPE_BYTES;

/// Frames and bytes that may wait to be sent beyond the window. A caller that runs further ahead gets errors: it does
/// not watch its replies.
const MAX_QUEUED_FRAMES: usize = 16_384;
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// What the cluster takes before it is told that replies arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    pub frames: usize,
    pub bytes: usize,
}

/// Whether a frame is applied once and acknowledged, or may simply be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameClass {
    Durable,
    Transient,
}

/// A frame to put on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// 0 for frames that want no reply.
    pub sequence: u64,
    pub acknowledged: u64,
    /// The encoded body field of the frame.
    pub body: Bytes,
}

/// More frames are queued than may be.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
struct Pending<R> {
    sequence: u64,
    body: Bytes,
    /// Taken when the reply has come.
    reply: Option<R>,
}

/// `R` is whatever takes the reply.
#[derive(Debug)]
pub struct Window<R> {
    limits: WindowLimits,
    last_sequence: u64,
    acknowledged: u64,
    /// The newest `acknowledged` that was put on a stream.
    told: u64,
    /// By sequence. The front has no reply yet; behind it some may have theirs.
    durable: VecDeque<Pending<R>>,
    transient: BTreeMap<u64, Pending<R>>,
    /// Sequences still to be put on the present stream.
    unsent: VecDeque<(u64, FrameClass)>,
    unsent_bytes: usize,
    /// Of the durable frames: how many were put on the present stream or have their reply, and their bytes.
    in_window: usize,
    in_window_bytes: usize,
    highest_sent: u64,
}

impl<R> Window<R> {
    pub fn new(limits: WindowLimits) -> Self {
        Window {
            limits,
            last_sequence: 0,
            acknowledged: 0,
            told: 0,
            durable: VecDeque::new(),
            transient: BTreeMap::new(),
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            in_window: 0,
            in_window_bytes: 0,
            highest_sent: 0,
        }
    }

    pub fn set_limits(&mut self, limits: WindowLimits) {
        self.limits = limits;
    }

    /// Gives a frame the next sequence, or gives back who waits for its reply.
    pub fn enqueue(&mut self, class: FrameClass, body: Bytes, reply: R) -> Result<(), (Full, R)> {
        if self.unsent.len() >= MAX_QUEUED_FRAMES || self.unsent_bytes + body.len() > MAX_QUEUED_BYTES {
            return Err((Full, reply));
        }
        self.last_sequence += 1;
        self.unsent.push_back((self.last_sequence, class));
        self.unsent_bytes += body.len();
        let pending = Pending { sequence: self.last_sequence, body, reply: Some(reply) };
        match class {
            FrameClass::Durable => self.durable.push_back(pending),
            FrameClass::Transient => {
                self.transient.insert(self.last_sequence, pending);
            }
        }
        Ok(())
    }

    /// Whether a frame given now would be sent without waiting for replies.
    pub fn has_room(&self) -> bool {
        self.in_window + self.unsent.len() < self.limits.frames
    }

    /// The next frame for the stream; none while nothing waits or the window is full.
    pub fn next(&mut self) -> Option<Outgoing> {
        let (sequence, class) = *self.unsent.front()?;
        let pending = match class {
            FrameClass::Durable => &self.durable[self.position(sequence).expect("an unsent frame is kept")],
            FrameClass::Transient => &self.transient[&sequence],
        };
        let body = pending.body.clone();
        if class == FrameClass::Durable {
            // The cluster counts whole frames.
            let envelopes = (self.in_window + 1) * ENVELOPE_BYTES;
            let bytes = self.in_window_bytes + body.len() + envelopes;
            let fits = self.in_window < self.limits.frames && bytes <= self.limits.bytes;
            if !fits && self.in_window > 0 {
                return None;
            }
            self.in_window += 1;
            self.in_window_bytes += body.len();
        }
        self.unsent.pop_front();
        self.unsent_bytes -= body.len();
        self.highest_sent = self.highest_sent.max(sequence);
        self.told = self.acknowledged;
        Some(Outgoing { sequence, acknowledged: self.acknowledged, body })
    }

    /// Notes that the reply to this sequence came; returns who waits for it, or none if it came before.
    pub fn answer(&mut self, sequence: u64) -> Option<R> {
        // Nothing can answer what this stream has not carried yet.
        if self.unsent.front().is_some_and(|(unsent, _)| sequence >= *unsent) {
            return None;
        }
        let Some(position) = self.position(sequence) else {
            return self.transient.remove(&sequence)?.reply;
        };
        let reply = self.durable[position].reply.take()?;
        while self.durable.front().is_some_and(|front| front.reply.is_none()) {
            let done = self.durable.pop_front().expect("just seen");
            self.acknowledged = done.sequence;
            self.in_window -= 1;
            self.in_window_bytes -= done.body.len();
        }
        Some(reply)
    }

    /// Begins a new stream: everything without a reply is to be sent again, in order.
    pub fn restart(&mut self) {
        let durable =
            self.durable.iter().filter(|frame| frame.reply.is_some()).map(|f| (f.sequence, FrameClass::Durable));
        let transient = self.transient.keys().map(|sequence| (*sequence, FrameClass::Transient));
        let mut unsent: Vec<_> = durable.chain(transient).collect();
        unsent.sort_unstable_by_key(|(sequence, _)| *sequence);
        self.unsent = unsent.into();
        let answered = self.durable.iter().filter(|frame| frame.reply.is_none());
        (self.in_window, self.in_window_bytes) =
            answered.fold((0, 0), |(frames, bytes), frame| (frames + 1, bytes + frame.body.len()));
        let waiting = self.durable.iter().filter(|frame| frame.reply.is_some()).chain(self.transient.values());
        self.unsent_bytes = waiting.map(|frame| frame.body.len()).sum();
    }

    /// The highest sequence that any stream has carried.
    pub fn highest_sent(&self) -> u64 {
        self.highest_sent
    }

    /// Whether a durable frame was put on a stream and has no reply.
    pub fn is_owed(&self) -> bool {
        self.durable.iter().any(|frame| frame.reply.is_some() && frame.sequence <= self.highest_sent)
    }

    /// What to acknowledge if no frame is about to carry it; none if nothing is new.
    pub fn untold(&mut self) -> Option<u64> {
        (self.acknowledged > self.told).then(|| {
            self.told = self.acknowledged;
            self.acknowledged
        })
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Nothing waits to be sent or answered.
    pub fn is_idle(&self) -> bool {
        self.durable.is_empty() && self.transient.is_empty()
    }

    /// Gives up everything: who waited, and whether the frame may have changed something, because it is durable and had been
    /// put on a stream.
    pub fn abandon(&mut self) -> Vec<(R, bool)> {
        self.unsent.clear();
        self.unsent_bytes = 0;
        (self.in_window, self.in_window_bytes) = (0, 0);
        let highest_sent = self.highest_sent;
        let durable = self.durable.drain(..).map(|frame| (frame.reply, frame.sequence <= highest_sent));
        let transient = std::mem::take(&mut self.transient).into_values().map(|frame| (frame.reply, false));
        durable.chain(transient).filter_map(|(reply, may_count)| Some((reply?, may_count))).collect()
    }

    /// Durable sequences have gaps only where other frames stand, so the first guess is usually right.
    fn position(&self, sequence: u64) -> Option<usize> {
        let front = self.durable.front()?.sequence;
        let guess = usize::try_from(sequence.checked_sub(front)?).ok()?;
        match self.durable.get(guess) {
            Some(frame) if frame.sequence == sequence => Some(guess),
            _ => self.durable.binary_search_by_key(&sequence, |frame| frame.sequence).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FrameClass::{Durable, Transient};
    use super::*;

    fn window(frames: usize) -> Window<u32> {
        Window::new(WindowLimits { frames, bytes: 1_000 })
    }

    fn fill(window: &mut Window<u32>, classes: &[FrameClass]) {
        for (number, class) in (1..).zip(classes) {
            window.enqueue(*class, Bytes::from(vec![0; 10]), number).unwrap();
        }
    }

    fn sent(window: &mut Window<u32>) -> Vec<u64> {
        std::iter::from_fn(|| window.next()).map(|frame| frame.sequence).collect()
    }

    #[test]
    fn a_full_window_waits_for_replies() {
        let mut window = window(2);
        fill(&mut window, &[Durable; 4]);
        assert_eq!(sent(&mut window), [1, 2]);
        assert_eq!(window.answer(1), Some(1));
        let next = window.next().unwrap();
        assert_eq!((next.sequence, next.acknowledged), (3, 1));
        assert_eq!(window.next(), None);
    }

    #[test]
    fn acknowledged_never_passes_a_durable_frame_without_a_reply() {
        let mut window = window(10);
        fill(&mut window, &[Durable, Durable, Transient, Durable]);
        assert_eq!(sent(&mut window), [1, 2, 3, 4]);
        window.answer(2);
        window.answer(4);
        assert_eq!(window.acknowledged(), 0);
        window.answer(1);
        assert_eq!(window.acknowledged(), 4, "a receive that waits holds nothing up");
        assert_eq!(window.untold(), Some(4));
        assert_eq!(window.untold(), None);
        assert_eq!(window.answer(3), Some(3));
    }

    #[test]
    fn what_has_no_reply_is_sent_again_in_order_and_nothing_else() {
        let mut window = window(10);
        fill(&mut window, &[Durable, Transient, Durable, Transient, Durable]);
        assert_eq!(sent(&mut window), [1, 2, 3, 4, 5]);
        window.answer(3);
        window.answer(2);
        window.restart();
        window.enqueue(Durable, Bytes::new(), 6).unwrap();
        assert_eq!(sent(&mut window), [1, 4, 5, 6]);
        assert_eq!(window.answer(3), None, "a reply counts once");
        assert_eq!(window.highest_sent(), 6);
    }

    #[test]
    fn a_restart_in_the_middle_of_sending_loses_nothing() {
        let mut window = window(2);
        fill(&mut window, &[Durable; 5]);
        assert_eq!(sent(&mut window), [1, 2]);
        assert!(window.is_owed());
        window.answer(2);
        window.restart();
        assert_eq!(sent(&mut window), [1], "the reply of 2 is not acknowledged yet, so it fills the window");
        window.answer(1);
        assert_eq!(sent(&mut window), [3, 4]);
    }

    #[test]
    fn one_frame_over_the_byte_limit_goes_alone() {
        let mut window = Window::new(WindowLimits { frames: 10, bytes: 15 + 2 * ENVELOPE_BYTES });
        fill(&mut window, &[Durable; 2]);
        assert_eq!(sent(&mut window), [1]);
        window.answer(1);
        assert_eq!(sent(&mut window), [2]);
    }

    #[test]
    fn envelopes_count_as_the_cluster_counts_them() {
        let mut window = Window::new(WindowLimits { frames: 10, bytes: 30 + 2 * ENVELOPE_BYTES });
        fill(&mut window, &[Durable; 3]);
        assert_eq!(sent(&mut window), [1, 2]);
    }

    #[test]
    fn a_reply_to_what_was_not_sent_is_ignored() {
        let mut window = window(1);
        fill(&mut window, &[Durable, Durable, Transient]);
        assert_eq!(sent(&mut window), [1]);
        assert_eq!(window.answer(2), None);
        assert_eq!(window.answer(3), None);
        assert_eq!(window.answer(9), None);
        window.answer(1);
        assert_eq!(sent(&mut window), [2, 3]);
    }

    #[test]
    fn running_too_far_ahead_is_refused() {
        let mut window = window(1);
        for number in 0..MAX_QUEUED_FRAMES as u32 {
            window.enqueue(Durable, Bytes::new(), number).unwrap();
        }
        assert_eq!(window.enqueue(Durable, Bytes::new(), 7), Err((Full, 7)));
    }

    #[test]
    fn abandoned_frames_say_whether_they_were_sent() {
        let mut window = window(1);
        fill(&mut window, &[Durable, Durable]);
        assert_eq!(sent(&mut window), [1]);
        assert_eq!(window.abandon(), [(1, true), (2, false)]);
        assert!(window.is_idle());
    }
}
