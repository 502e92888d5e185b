//! What fails next: every kind once in an order of the seed's, then by weight.
//!
//! A host suffers one fault at a time, and at most [`MOST_AT_ONCE`] faults run. What wants more hosts than are free waits
//! while others go on; a kind that has waited long gets the stage to itself, or the rare ones would never come.

use std::time::Duration;

use super::kind::{Kind, Victims};
use conclave_workload::dice::Dice;

/// Faults at once. With three hosts a third one finds hardly anybody left.
const MOST_AT_ONCE: usize = 3;
/// Between two beginnings: shortest and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(2_500));

/// How often what is next is found impossible before something else is next.
const PATIENCE: usize = 8;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub kind: Kind,
    pub hosts: Vec<usize>,
    pub lasts: Duration,
}

/// What goes on at the moment.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    pub active: Vec<Choice>,
    /// Hosts that lead a room.
    pub leaders: Vec<usize>,
    /// Every replica is there and has caught up.
    /// Asked only when the schedule wants to know.
    pub is_whole: bool,
}

#[derive(Debug)]
pub struct Schedule {
    dice: Dice,
    hosts: usize,
    kinds: Vec<Kind>,
    /// Drawn and not yet possible, first come first.
    waiting: Vec<Kind>,
    /// How often the first of them was not possible.
    in_vain: usize,
}

impl Schedule {
    pub fn new(seed: u64, kinds: Vec<Kind>, hosts: usize) -> Schedule {
        let mut dice = Dice::new(seed);
        let mut waiting = kinds.clone();
        dice.shuffle(&mut waiting);
        Schedule { dice, hosts, kinds, waiting, in_vain: 0 }
    }

    /// Until the next choice.
    pub fn pause(&mut self) -> Duration {
        PAUSE.0 + self.dice.time(PAUSE.1 - PAUSE.0)
    }

    /// Whether what is next may only begin while the cluster is whole.
    pub fn wants_it_whole(&self) -> bool {
        self.waiting.first().is_some_and(|kind| kind.wants_it_whole())
    }

    /// The next fault; none if what is next has to wait.
    pub fn choose(&mut self, situation: &Situation) -> Option<Choice> {
        if self.waiting.is_empty() {
            let drawn = self.draw();
            self.waiting.push(drawn);
        }
        let kind = *self.waiting.first()?;
        let Some(hosts) = self.victims(kind, situation) else {
            self.in_vain += 1;
            if self.in_vain >= PATIENCE {
                let other = self.draw();
                self.waiting.push(other);
                self.waiting.rotate_left(1);
                self.in_vain = 0;
            }
            return None;
        };
        self.waiting.remove(0);
        self.in_vain = 0;
        let (shortest, longest) = kind.lasts();
        let lasts = shortest + self.dice.time(longest.saturating_sub(shortest));
        Some(Choice { kind, hosts, lasts })
    }

    fn draw(&mut self) -> Kind {
        let all: usize = self.kinds.iter().map(|kind| kind.weight()).sum();
        let mut roll = self.dice.roll(all);
        for kind in &self.kinds {
            match roll.checked_sub(kind.weight()) {
                Some(rest) => roll = rest,
                None => return *kind,
            }
        }
        Kind::Kill
    }

    /// Whom it takes now; none if it may not begin.
    fn victims(&mut self, kind: Kind, situation: &Situation) -> Option<Vec<usize>> {
        let active = &situation.active;
        let has_a_cut = active.iter().any(|choice| choice.kind.is_a_cut());
        let is_too_early = kind.wants_it_whole() && !(active.is_empty() && situation.is_whole);
        if active.len() >= MOST_AT_ONCE || kind.is_a_cut() && has_a_cut || is_too_early {
            return None;
        }
        let is_free = |host: &usize| !active.iter().any(|choice| choice.hosts.contains(host));
        let mut free: Vec<usize> = (0..self.hosts).filter(is_free).collect();
        self.dice.shuffle(&mut free);
        let wanted = match kind.victims() {
            Victims::Nobody => 0,
            Victims::One => 1,
            Victims::Leader => {
                free.retain(|host| situation.leaders.contains(host));
                1
            }
            Victims::Two => 2,
            Victims::Majority => self.hosts / 2 + 1,
            Victims::All => self.hosts,
        };
        free.truncate(wanted);
        (free.len() == wanted).then_some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64) -> Schedule {
        Schedule::new(seed, Kind::ALL.to_vec(), 3)
    }

    fn calm() -> Situation {
        Situation { active: Vec::new(), leaders: vec![0, 2], is_whole: true }
    }

    #[test]
    fn every_kind_comes_and_a_seed_acts_the_same_way() {
        let choices = |seed| -> Vec<Choice> {
            let mut schedule = schedule(seed);
            (0..Kind::ALL.len()).filter_map(|_| schedule.choose(&calm())).collect()
        };
        let mut kinds: Vec<Kind> = choices(7).into_iter().map(|choice| choice.kind).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, Kind::ALL);
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
    }

    #[test]
    fn a_host_suffers_one_fault_at_a_time() {
        let mut schedule = schedule(3);
        let busy = Choice { kind: Kind::Pause, hosts: vec![1], lasts: Duration::from_secs(1) };
        let situation = Situation { active: vec![busy], ..calm() };
        for _ in 0..200 {
            let Some(choice) = schedule.choose(&situation) else {
                schedule.waiting.clear();
                continue;
            };
            assert!(!choice.hosts.contains(&1), "{choice:?}");
            assert!(choice.kind != Kind::Damage && choice.kind != Kind::KillLeader, "{choice:?}");
        }
    }

    #[test]
    fn a_store_is_not_damaged_while_another_is_rebuilt() {
        let mut schedule = Schedule::new(1, vec![Kind::Damage], 3);
        assert!(schedule.wants_it_whole());
        assert_eq!(schedule.choose(&Situation { is_whole: false, ..calm() }), None);
        assert!(schedule.choose(&calm()).is_some());
    }

    #[test]
    fn a_leader_is_killed_where_one_is_and_nothing_else_is_wrong() {
        let mut schedule = Schedule::new(1, vec![Kind::KillLeader], 3);
        assert_eq!(schedule.choose(&Situation { leaders: Vec::new(), ..calm() }), None);
        let choice = schedule.choose(&calm()).expect("a leader");
        assert!([0, 2].contains(&choice.hosts[0]));
    }
}
