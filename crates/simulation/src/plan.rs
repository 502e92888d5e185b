//! What a seed decides before a run begins: the cluster, its machines, its network, its load and the mix of its faults.

use std::time::Duration;

use conclave_raft::RaftOptions;
use conclave_workload::dice::Dice;
use serde::Serialize;

use crate::disk::Pace;
use crate::nemesis::Kind;

/// Host counts, the usual ones more often.
const HOSTS: [usize; 8] = [3, 3, 3, 4, 5, 5, 6, 7];
/// Between the last fault and the end of the load. Long enough to notice, ping by ping, what the faults have cut.
pub const HEAL: Duration = Duration::from_secs(20);
/// Of a run that lets leases end: between two faults, at most, and how long it may take.
const FORCING_QUIET: Duration = Duration::from_secs(4);
const FORCING_LONGEST: Duration = Duration::from_secs(20 * 60);
const TICKS_MS: [u64; 4] = [1, 2, 2, 5];
const SHARDS: [u16; 4] = [1, 2, 4, 8];
/// Kinds of faults of one run: few, so that each run has a character, and what hides behind another fault is found too.
const KINDS: (usize, usize) = (3, 10);

/// Everything that is the same from the beginning of a run to its end.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub seed: u64,
    pub hosts: usize,
    pub gateways: usize,
    pub shards: u16,
    pub rooms: usize,
    /// How finely time passes: what is sent arrives at the beginning of a tick.
    pub tick: Duration,
    /// Between two turns of one actor.
    pub pace: Duration,
    /// Shortest and longest way of a message.
    pub latency: (Duration, Duration),
    /// Longest sync of an unharmed disk.
    pub sync: Duration,
    /// How far each host's wall clock is off, in milliseconds.
    pub clock_offsets: Vec<i64>,
    pub kinds: Vec<Kind>,
    /// Between the beginnings of two faults, at most.
    pub quiet: Duration,
    /// Leases that are to end, instead of a load that does everything.
    pub expiries: Option<u64>,
    /// From the first write to the last fault; at most, if leases are to end.
    pub harm: Duration,
    /// From the last fault to the end of the load.
    pub heal: Duration,
    #[serde(skip)]
    pub raft: RaftOptions,
}

impl Plan {
    /// `lasts`: simulated time of the load, faults and healing together. `hosts`: instead of what the seed says.
    pub fn new(seed: u64, lasts: Duration, hosts: Option<usize>) -> Plan {
        let mut dice = Dice::new(seed ^ 0x5eed_0001);
        let hosts = hosts.unwrap_or(*dice.pick(&HOSTS));
        let mut kinds = Kind::ALL.to_vec();
        dice.shuffle(&mut kinds);
        kinds.truncate(KINDS.0 + dice.roll(KINDS.1 - KINDS.0 + 1));
        let longest_way = Duration::from_micros(*dice.pick(&[500, 1_000, 2_000, 5_000, 15_000]));
        Plan {
            seed,
            hosts,
            gateways: 1 + dice.roll(2),
            shards: *dice.pick(&SHARDS),
            rooms: 2 + dice.roll(2),
            tick: Duration::from_millis(*dice.pick(&TICKS_MS)),
            pace: Duration::from_millis(200 + dice.roll(400) as u64),
            latency: (longest_way / 10, longest_way),
            sync: Duration::from_micros(*dice.pick(&[100, 500, 1_000, 4_000, 10_000])),
            clock_offsets: (0..hosts).map(|_| dice.roll(500) as i64 - 250).collect(),
            kinds,
            quiet: Duration::from_millis(500 + dice.roll(4_000) as u64),
            expiries: None,
            harm: lasts.saturating_sub(HEAL),
            heal: HEAL,
            raft: raft(&mut dice),
        }
    }

    /// A run that lets so many leases end while one leader after the other is killed.
    pub fn forcing(seed: u64, expiries: u64, hosts: Option<usize>) -> Plan {
        Plan {
            expiries: Some(expiries),
            kinds: vec![Kind::CrashLeader, Kind::CrashLeader, Kind::CrashLeader, Kind::Transfer],
            quiet: FORCING_QUIET,
            harm: FORCING_LONGEST,
            ..Plan::new(seed, HEAL, hosts)
        }
    }

    pub fn disk(&self) -> Pace {
        Pace { sync: self.sync, hangs: false }
    }
}

/// Timings between those of tests and those of the product, and thresholds so low that logs are compacted and followers
/// need snapshots all the time, in some runs never.
fn raft(dice: &mut Dice) -> RaftOptions {
    let heartbeat = 50 + dice.roll(150) as u64;
    let election = heartbeat * 3 + dice.roll(300) as u64;
    let compact = *dice.pick(&[20, 100, 400, 50_000]);
    RaftOptions {
        heartbeat_interval: Duration::from_millis(heartbeat),
        heartbeat_min_interval: Duration::from_millis(if dice.roll(2) == 0 { 0 } else { heartbeat * 3 / 4 }),
        election_timeout_min: Duration::from_millis(election),
        election_timeout_max: Duration::from_millis(election * 3 / 2),
        max_payload_entries: *dice.pick(&[1, 16, 256]),
        apply_queue: *dice.pick(&[1, 8, 64]),
        compact_after_entries: compact,
        keep_log_entries: *dice.pick(&[0, 10, 50, 200]),
        log_cache_bytes: *dice.pick(&[1 << 12, 1 << 20, 64 << 20]),
        ..RaftOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plans_one_run_and_seeds_differ() {
        let plan = |seed| format!("{:?}", Plan::new(seed, Duration::from_secs(60), None));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn seeds_reach_every_size_and_every_kind() {
        let plans: Vec<Plan> = (0..200).map(|seed| Plan::new(seed, Duration::from_secs(60), None)).collect();
        for hosts in 3..=7 {
            assert!(plans.iter().any(|plan| plan.hosts == hosts), "no plan has {hosts} hosts");
        }
        for kind in Kind::ALL {
            assert!(plans.iter().any(|plan| plan.kinds.contains(&kind)), "no plan has {kind:?}");
        }
        assert!(plans.iter().all(|plan| plan.clock_offsets.len() == plan.hosts && plan.harm > Duration::ZERO));
    }
}
