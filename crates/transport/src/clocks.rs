//! What the other nodes' wall clocks say.
//!
//! Only data: which nodes count as voters and what follows from their median is the host's decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conclave_types::{Clock, NodeUuid, Timestamp};
use parking_lot::Mutex;

/// Readings older than this say nothing any more and are dropped, so nodes that left do not pile up.
const KEEP: Duration = Duration::from_secs(600);

/// One node's clock, as last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Their wall clock at the moment of hearing. Low by the one-way delay of the message. Kept as it was, not as an
    /// offset from ours: a jump of our own wall clock must not move it.
    pub wall: Timestamp,
    /// When it was heard, on our monotonic clock.
    pub heard: Duration,
}

/// The last reading of every node that talks to this one. Cheap to share.
pub struct PeerClocks {
    clock: Arc<dyn Clock>,
    readings: Mutex<BTreeMap<NodeUuid, ClockReading>>,
}

impl PeerClocks {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(PeerClocks { clock, readings: Mutex::default() })
    }

    /// The last reading of one node; none if it was silent for ten minutes.
    pub fn reading(&self, node: NodeUuid) -> Option<ClockReading> {
        let now = self.clock.monotonic();
        self.readings.lock().get(&node).copied().filter(|reading| is_fresh(reading, now))
    }

    /// The last reading of every node, by uuid.
    pub fn readings(&self) -> Vec<(NodeUuid, ClockReading)> {
        let now = self.clock.monotonic();
        let readings = self.readings.lock();
        readings.iter().filter(|(_, reading)| is_fresh(reading, now)).map(|(node, reading)| (*node, *reading)).collect()
    }

    /// This node's wall clock, as it is told to others.
    pub(crate) fn own(&self) -> Timestamp {
        self.clock.wall()
    }

    pub(crate) fn hear(&self, node: NodeUuid, wall: Timestamp) {
        let heard = self.clock.monotonic();
        let mut readings = self.readings.lock();
        readings.retain(|_, reading| is_fresh(reading, heard));
        readings.insert(node, ClockReading { wall, heard });
    }
}

fn is_fresh(reading: &ClockReading, now: Duration) -> bool {
    now.saturating_sub(reading.heard) <= KEEP
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Hands {
        wall: AtomicU64,
        monotonic: AtomicU64,
    }

    impl Clock for Hands {
        fn wall(&self) -> Timestamp {
            Timestamp(self.wall.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.monotonic.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_reading_stays_as_heard_and_ages_by_the_monotonic_clock() {
        let hands = Arc::new(Hands { wall: AtomicU64::new(10_000), monotonic: AtomicU64::new(5) });
        let clocks = PeerClocks::new(hands.clone());
        let node = NodeUuid([1; 16]);
        clocks.hear(node, Timestamp(7_500));
        hands.wall.store(99_999_999, Ordering::Relaxed);
        assert_eq!(
            clocks.reading(node),
            Some(ClockReading { wall: Timestamp(7_500), heard: Duration::from_millis(5) })
        );

        hands.monotonic.store(5 + 600_001, Ordering::Relaxed);
        assert_eq!(clocks.reading(node), None);
        assert!(clocks.readings().is_empty());
    }
}
