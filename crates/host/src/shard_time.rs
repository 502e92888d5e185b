//! One leadership's time: the pure leader clock fed with this node's readings and its peers'.

use std::sync::Arc;
use std::time::Duration;

use conclave_types::{Clock, Timestamp};
use parking_lot::Mutex;

use crate::leader_clock::{LeaderClock, MEDIAN_TOLERANCE, lower_median};

/// The wall clocks of a shard's other voters, as last heard and carried forward to now.
pub trait VoterClocks: Send + Sync {
    fn others(&self) -> Vec<Timestamp>;
}

pub struct ShardTime {
    clock: Arc<dyn Clock>,
    voters: Box<dyn VoterClocks>,
    /// When this leadership began.
    applied: Timestamp,
    leader: Mutex<LeaderClock>,
}

impl ShardTime {
    pub fn start(applied: Timestamp, clock: Arc<dyn Clock>, voters: Box<dyn VoterClocks>) -> Self {
        let wall = clock.wall();
        let median = lower_median(applied, wall, voters.others());
        let leader = LeaderClock::start(applied, wall, median, clock.monotonic());
        ShardTime { clock, voters, applied, leader: Mutex::new(leader) }
    }

    /// This node's steady clock: cheaper to read than the time, and good for nothing but intervals.
    pub fn steady(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The stamp for an entry proposed now; also the present time of the shard.
    ///
    /// Without a peer heard the median is the leader's own straight course, never the wall clock, which may jump.
    pub fn stamp(&self) -> Timestamp {
        let others = self.voters.others();
        let monotonic = self.clock.monotonic();
        let mut leader = self.leader.lock();
        if others.is_empty() {
            leader.stamp_unheard(monotonic)
        } else {
            leader.stamp(monotonic, lower_median(self.applied, self.clock.wall(), others))
        }
    }
}

/// How far this node's wall clock is from the voters' median, when that is further than a leader may start from it.
pub fn skewed_ms(applied: Timestamp, clock: &dyn Clock, voters: &dyn VoterClocks) -> Option<u64> {
    let wall = clock.wall();
    let median = lower_median(applied, wall, voters.others());
    let distance = wall.since_ms(median).max(median.since_ms(wall));
    (distance > MEDIAN_TOLERANCE.as_millis() as u64).then_some(distance)
}

/// Time that tests move.
#[cfg(test)]
pub mod moved {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Milliseconds since the start.
    #[derive(Default)]
    pub struct MovedClock(AtomicU64);

    impl MovedClock {
        pub fn pass(&self, ms: u64) {
            self.0.fetch_add(ms, Ordering::SeqCst);
        }
    }

    impl Clock for MovedClock {
        fn wall(&self) -> Timestamp {
            Timestamp(1_700_000_000_000).plus_ms(self.0.load(Ordering::SeqCst))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    struct Alone;

    impl VoterClocks for Alone {
        fn others(&self) -> Vec<Timestamp> {
            Vec::new()
        }
    }

    pub fn time() -> (Arc<MovedClock>, Arc<ShardTime>) {
        let clock = Arc::new(MovedClock::default());
        let time = ShardTime::start(Timestamp(0), clock.clone(), Box::new(Alone));
        (clock, Arc::new(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Clock for Fixed {
        fn wall(&self) -> Timestamp {
            Timestamp(self.0)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    struct Heard(Vec<u64>);

    impl VoterClocks for Heard {
        fn others(&self) -> Vec<Timestamp> {
            self.0.iter().copied().map(Timestamp).collect()
        }
    }

    #[test]
    fn the_one_of_three_that_is_off_knows_it() {
        let skewed = |wall, others: &[u64]| skewed_ms(Timestamp(0), &Fixed(wall), &Heard(others.to_vec()));
        assert_eq!(skewed(7_200_000, &[1_000, 1_100]), Some(7_198_900));
        assert_eq!(skewed(1_000, &[7_200_000, 1_100]), None);
        assert_eq!(skewed(1_000, &[]), None);
    }

    #[test]
    fn of_two_the_one_that_is_behind_what_was_applied_knows_it() {
        let skewed = |wall, other| skewed_ms(Timestamp(8_000_000), &Fixed(wall), &Heard(vec![other]));
        assert_eq!(skewed(8_010_000, 810_000), None);
        assert_eq!(skewed(810_000, 8_010_000), Some(7_200_000));
    }
}
