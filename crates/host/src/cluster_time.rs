//! What time it is for the cluster, as one host may judge it: by which it believes signed claims.
//!
//! One wall clock may jump by hours, and its host must go on serving. So the hosts' clocks decide together: the middle
//! one of all that were heard lately, carried on by the monotonic clock, the host's own among them. With an even number
//! either of the two in the middle may be right, and both count.

use std::sync::Arc;

use conclave_types::{Clock, Timestamp};

use crate::shard_time::VoterClocks;

pub struct ClusterTime {
    own: Arc<dyn Clock>,
    hosts: Box<dyn VoterClocks>,
}

impl ClusterTime {
    /// `hosts`: the clocks of the cluster's other hosts.
    pub fn new(own: Arc<dyn Clock>, hosts: Box<dyn VoterClocks>) -> Self {
        ClusterTime { own, hosts }
    }

    /// Whether more than half of so many hosts were heard, this one among them. If not, nothing is refused for its time: a
    /// host that hears nobody cannot tell a wrong clock of its own from everybody else's.
    pub fn may_judge(&self, hosts: usize) -> bool {
        (self.hosts.others().len() + 1) * 2 > hosts
    }

    /// The readings in the middle, earlier first; the same one twice if their number is odd.
    pub fn middle(&self) -> [Timestamp; 2] {
        let mut readings = self.hosts.others();
        readings.push(self.own.wall());
        readings.sort_unstable();
        [readings[(readings.len() - 1) / 2], readings[readings.len() / 2]]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;
    const TWO_HOURS: u64 = 7_200_000;

    struct Wall(u64);

    impl Clock for Wall {
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

    fn middle(own: u64, others: &[u64]) -> [u64; 2] {
        ClusterTime::new(Arc::new(Wall(own)), Box::new(Heard(others.to_vec()))).middle().map(|time| time.0)
    }

    #[test]
    fn a_jump_of_the_own_wall_clock_moves_nothing() {
        assert_eq!(middle(NOW + TWO_HOURS, &[NOW, NOW + 5]), [NOW + 5; 2]);
        assert_eq!(middle(NOW - TWO_HOURS, &[NOW, NOW + 5]), [NOW; 2]);
    }

    #[test]
    fn a_jump_of_another_hosts_clock_moves_nothing() {
        assert_eq!(middle(NOW, &[NOW + 5, NOW + TWO_HOURS]), [NOW + 5; 2]);
        assert_eq!(middle(NOW, &[NOW + 5, NOW - TWO_HOURS]), [NOW; 2]);
    }

    #[test]
    fn of_two_clocks_either_may_be_right() {
        assert_eq!(middle(NOW + TWO_HOURS, &[NOW]), [NOW, NOW + TWO_HOURS]);
    }

    #[test]
    fn who_hears_no_majority_does_not_judge() {
        let time = |others: &[u64]| ClusterTime::new(Arc::new(Wall(NOW)), Box::new(Heard(others.to_vec())));
        assert!(time(&[]).may_judge(1));
        assert!(!time(&[]).may_judge(3));
        assert!(time(&[NOW]).may_judge(3));
        assert!(!time(&[NOW]).may_judge(4));
    }

    #[test]
    fn a_host_alone_has_its_own_clock() {
        assert_eq!(middle(NOW, &[]), [NOW; 2]);
    }
}
