//! I1 and I6: a leadership belongs to one process, and terms, commits and applied state of a process never go back.
//!
//! Across a crash they may go back: what was not synced was promised to nobody. A leader that restarts does not lead on:
//! what it had in memory of its leadership, its leases and barriers, is gone.

use std::collections::{BTreeMap, BTreeSet};

use conclave_raft::{LeaderTerm, Leadership};

use super::Sight;

/// What was last seen of one replica in one life of its process.
#[derive(Default)]
struct Seen {
    life: u64,
    term: u64,
    committed: Option<u64>,
    applied: Option<u64>,
}

#[derive(Default)]
pub struct Progress {
    seen: BTreeMap<(String, u32), Seen>,
    /// The process of each leadership that was ever shown: its machine, and which life of it.
    leaders: BTreeMap<(u32, LeaderTerm), (String, u64)>,
}

impl Progress {
    /// Leaderships that were shown, but for the first of each group.
    pub fn leader_changes(&self) -> u64 {
        let groups: BTreeSet<u32> = self.leaders.keys().map(|(group, _)| *group).collect();
        (self.leaders.len() - groups.len()) as u64
    }

    pub fn check(&mut self, sight: &Sight<'_>) -> Vec<String> {
        let replica = sight.replica;
        let group = u32::from(replica.group.0);
        let mut found = Vec::new();
        let mut complain = |what: String| found.push(format!("{}, group {group}: {what}", sight.machine));
        let seen = self.seen.entry((sight.machine.to_owned(), group)).or_default();
        if seen.life == sight.life {
            if replica.term < seen.term {
                complain(format!("term {} after term {}", replica.term, seen.term));
            }
            if replica.committed < seen.committed {
                complain(format!("committed {:?} after {:?}", replica.committed, seen.committed));
            }
            if replica.applied < seen.applied {
                complain(format!("applied {:?} after {:?}", replica.applied, seen.applied));
            }
        }
        *seen = Seen { life: sight.life, term: replica.term, committed: replica.committed, applied: replica.applied };
        if let Leadership::Leader { term } = replica.leadership {
            let present = (sight.machine.to_owned(), sight.life);
            let leader = self.leaders.entry((group, term)).or_insert_with(|| present.clone());
            if *leader != present {
                complain(format!("leads {term:?}, which process {} of {} has led", leader.1, leader.0));
            }
        }
        found
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use conclave_raft::GroupStatus;
    use conclave_types::{GroupId, ReplicaId};

    use super::*;

    pub fn replica(term: u64) -> GroupStatus {
        GroupStatus {
            group: GroupId(1),
            replica: ReplicaId(1),
            leadership: Leadership::Follower { term, leader: None },
            term,
            last: None,
            committed: None,
            applied: None,
            purged: None,
            changing: false,
            voters: BTreeMap::new(),
            learners: BTreeMap::new(),
            matched: BTreeMap::new(),
            fatal: None,
        }
    }

    fn check(progress: &mut Progress, machine: &str, life: u64, replica: &GroupStatus) -> Vec<String> {
        progress.check(&Sight { machine, life, replica })
    }

    #[test]
    fn a_term_that_goes_back_is_refused_unless_the_process_is_another() {
        let mut progress = Progress::default();
        assert!(check(&mut progress, "host-0", 1, &replica(4)).is_empty());
        assert_eq!(check(&mut progress, "host-0", 1, &replica(3)).len(), 1);
        assert!(check(&mut progress, "host-0", 2, &replica(2)).is_empty());
    }

    #[test]
    fn state_that_goes_back_is_refused() {
        let mut progress = Progress::default();
        let mut seen = replica(1);
        (seen.committed, seen.applied) = (Some(9), Some(8));
        assert!(check(&mut progress, "host-0", 1, &seen).is_empty());
        (seen.committed, seen.applied) = (Some(8), Some(7));
        assert_eq!(check(&mut progress, "host-0", 1, &seen).len(), 2);
    }

    #[test]
    fn a_leadership_belongs_to_one_process() {
        let mut progress = Progress::default();
        let mut leader = replica(4);
        leader.leadership = Leadership::Leader { term: LeaderTerm { term: 4, leader: ReplicaId(1) } };
        assert!(check(&mut progress, "host-0", 1, &leader).is_empty());
        assert!(check(&mut progress, "host-0", 1, &leader).is_empty());
        assert_eq!(progress.leader_changes(), 0);
        assert_eq!(check(&mut progress, "host-0", 2, &leader).len(), 1);
        assert_eq!(check(&mut progress, "host-1", 1, &leader).len(), 1);
        leader.term = 5;
        leader.leadership = Leadership::Leader { term: LeaderTerm { term: 5, leader: ReplicaId(2) } };
        assert!(check(&mut progress, "host-1", 1, &leader).is_empty());
        assert_eq!(progress.leader_changes(), 1);
    }
}
