//! One run: a cluster is born, loaded, harmed, healed, read back and judged, all in simulated time.
//!
//! ```text
//! born ──first writes──► harm: the nemesis acts ──► heal: nothing is wrong, progress is demanded ──► read back ──► judge
//! ```
//! Between any two ticks the machines are looked at from outside ([`crate::invariants`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use conclave_workload::checks::{Demand, Verdict, judge, overlaps, soonest, violations};
use conclave_workload::dice::Dice;
use conclave_workload::history::History;
use conclave_workload::load::Faults;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;
use turmoil::Sim;

use crate::clock::{MachineClock, Now};
use crate::disk::Disk;
use crate::invariants::{Invariants, applied};
use crate::machine::{Machine, Settings};
use crate::nemesis::Nemesis;
use crate::outcome::{Expired, Finding, Outcome, Violated};
use crate::plan::{HEAL, Plan};
use crate::trace::Trace;
use crate::{client, edge, wire};

/// How long a cluster may take to be born and to serve the load's first writes.
const BORN_WITHIN: Duration = Duration::from_secs(60);
/// How long reading everything back may take once nothing is wrong.
const READ_WITHIN: Duration = Duration::from_secs(240);
/// How long replicas may take to apply the last of what was written.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);
/// Fewer changes of leaders than this prove nothing of leases under them.
const FEWEST_LEADER_CHANGES: u64 = 5;
/// Between two looks at the machines, and between two comparisons of their logs, in ticks.
const LOOK_EVERY: u64 = 25;
const COMPARE_EVERY: u64 = 500;
const CLUSTER_TOKEN: &str = "a-cluster-token-for-simulations";
/// One connection's segments that nobody has read yet.
const TCP_SEGMENTS: usize = 65_536;

/// What the load's node and the driver tell each other.
pub struct Stage {
    /// Where faults are noted, once the load runs.
    pub faults: Mutex<Option<Faults>>,
    /// Asks the load for a flood.
    pub flood: watch::Sender<bool>,
    /// Ends the load.
    pub stop: watch::Sender<bool>,
    /// What harm was to bring has come; without this it goes on for its time.
    pub harmed_enough: AtomicBool,
    /// Leases that ended, by deliveries and as the queues count them.
    pub expired: Mutex<Option<(u64, u64)>>,
    /// What came of it.
    pub history: Mutex<Option<Result<History>>>,
}

struct World {
    sim: Sim<'static>,
    now: Arc<Now>,
    machines: Vec<Arc<Machine>>,
    nemesis: Nemesis,
    invariants: Invariants,
    stage: Arc<Stage>,
    trace: Arc<Trace>,
    ticks: u64,
    history: Option<History>,
    expired: Option<Expired>,
    _folders: TempDir,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan, now: Arc<Now>) -> Outcome {
    let mut outcome = Outcome::new(plan);
    match World::build(plan, now) {
        Err(error) => outcome.finding = Finding::Harness(format!("{error:#}")),
        Ok(mut world) => {
            let found = world.play(plan);
            world.report(&mut outcome);
            outcome.settle(found);
        }
    }
    outcome
}

impl World {
    fn build(plan: &Plan, now: Arc<Now>) -> Result<World> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_secs(24 * 60 * 60))
            .min_message_latency(plan.latency.0)
            .max_message_latency(plan.latency.1)
            .tcp_capacity(TCP_SEGMENTS)
            .enable_random_order()
            .build();
        let trace = Arc::<Trace>::default();
        let hosts: Vec<String> = (0..plan.hosts).map(|host| format!("host-{host}")).collect();
        let gateways: Vec<String> = (0..plan.gateways).map(|gateway| format!("gateway-{gateway}")).collect();
        let settings = Arc::new(Settings {
            hosts: hosts.iter().map(|host| wire::address(host)).collect(),
            token: CLUSTER_TOKEN.parse()?,
            shards: plan.shards,
            raft: plan.raft.clone(),
            network: wire::network(trace.clone()),
            trace: trace.clone(),
        });
        let folders = tempfile::Builder::new().prefix("conclave-simulation-").tempdir_in(fast_folder())?;
        let mut dice = Dice::new(plan.seed ^ 0x5eed_0003);
        let mut machines = Vec::new();
        for (host, name) in hosts.iter().enumerate() {
            let clock = MachineClock { now: now.clone(), ..MachineClock::default() };
            clock.offset.add(plan.clock_offsets[host]);
            let disk = Arc::new(Disk::new(plan.disk(), dice.fork()));
            let machine = Machine::new(name.clone(), clock, disk, folders.path().join(name), settings.clone());
            machines.push(machine.clone());
            sim.host(name.as_str(), move || machine.clone().run());
        }
        let clock = MachineClock { now: now.clone(), ..MachineClock::default() };
        for (gateway, name) in gateways.iter().enumerate() {
            let (settings, clock, seed) = (settings.clone(), clock.clone(), plan.seed ^ gateway as u64);
            sim.host(name.as_str(), move || edge::run(settings.clone(), clock.clone(), seed));
        }
        let stage = Arc::new(Stage {
            faults: Mutex::default(),
            flood: watch::channel(false).0,
            stop: watch::channel(false).0,
            harmed_enough: AtomicBool::new(false),
            expired: Mutex::default(),
            history: Mutex::default(),
        });
        let load = client::Load { plan: plan.clone(), settings, gateways: gateways.clone(), clock };
        sim.client("load", client::run(load, stage.clone()));
        let nemesis = Nemesis::new(plan, machines.clone(), gateways, stage.flood.clone());
        let invariants = Invariants::default();
        Ok(World {
            sim,
            now,
            machines,
            nemesis,
            invariants,
            stage,
            trace,
            ticks: 0,
            history: None,
            expired: None,
            _folders: folders,
        })
    }

    /// Plays all phases and judges what came of them.
    fn play(&mut self, plan: &Plan) -> Result<Finding> {
        let Some(faults) = self.until(BORN_WITHIN, |world| world.stage.faults.lock().clone())? else {
            return Ok(Finding::Violations(vec!["the cluster was not born, and nothing was wrong".into()]));
        };
        let harm_ends = self.sim.elapsed() + plan.harm;
        while self.sim.elapsed() < harm_ends && !self.stage.harmed_enough.load(Ordering::Relaxed) {
            let now = self.sim.elapsed();
            self.nemesis.act(&mut self.sim, now, &faults);
            self.tick()?;
        }
        let now = self.sim.elapsed();
        self.nemesis.heal(&mut self.sim, now, &faults);
        let drained = self.until(BORN_WITHIN, |world| {
            let now = world.sim.elapsed();
            world.nemesis.heal(&mut world.sim, now, &faults);
            world.nemesis.is_calm().then_some(())
        })?;
        if drained.is_none() {
            return Err(anyhow!("the nemesis could not heal what it did"));
        }
        let healed = faults.now();
        let calm_ends = self.sim.elapsed() + plan.heal;
        while self.sim.elapsed() < calm_ends {
            self.tick()?;
        }
        self.stage.stop.send_replace(true);
        let Some(read) = self.until(READ_WITHIN, |world| world.stage.history.lock().take())? else {
            return Ok(Finding::Violations(vec![format!("not everything could be read back within {READ_WITHIN:?}")]));
        };
        let history = match read {
            Ok(history) => history,
            Err(error) => return Ok(Finding::Violations(vec![format!("reading back: {error:#}")])),
        };
        let mut found = self.invariants.compare_logs(&self.machines)?;
        found.extend(self.compare_states()?);
        found.extend(stalled(&history, healed));
        Ok(self.judged(plan, history, found))
    }

    /// Waits until all replicas of each group have applied the same, and compares what they hold.
    fn compare_states(&mut self) -> Result<Vec<String>> {
        let mut states = applied::states(&self.machines)?;
        let end = self.sim.elapsed() + SETTLES_WITHIN;
        while !applied::behind(&states).is_empty() && self.sim.elapsed() < end {
            for _ in 0..LOOK_EVERY {
                self.tick()?;
            }
            states = applied::states(&self.machines)?;
        }
        let behind =
            applied::behind(&states).into_iter().map(|what| format!("{what} {SETTLES_WITHIN:?} after the end"));
        Ok(behind.chain(applied::differing(&states)).collect())
    }

    fn judged(&mut self, plan: &Plan, history: History, found: Vec<String>) -> Finding {
        match plan.expiries {
            Some(wanted) => self.judged_by_leases(wanted, history, found),
            None => self.judged_in_all(plan, history, found),
        }
    }

    /// Of a run that lets leases end.
    fn judged_by_leases(&mut self, wanted: u64, history: History, mut found: Vec<String>) -> Finding {
        let (leases, counted) = self.stage.expired.lock().unwrap_or_default();
        let rooms = 0..history.rooms.len();
        let soonest = rooms.clone().filter_map(|room| soonest(&history, room)).min();
        let expired = Expired {
            leases,
            counted,
            overlaps: rooms.map(|room| overlaps(&history, room).len() as u64).sum(),
            leader_changes: self.invariants.leader_changes(),
            soonest_ms: soonest.unwrap_or_default() / 1_000,
        };
        found.extend(violations(&history).iter().map(ToString::to_string));
        if counted < leases {
            found.push(format!("{leases} leases ended, and queues count {counted} failed deliveries"));
        }
        let mut missing = Vec::new();
        if leases < wanted {
            missing.push(format!("{leases} leases ended, wanted are {wanted}"));
        }
        if expired.leader_changes < FEWEST_LEADER_CHANGES {
            missing.push(format!("{} changes of leaders", expired.leader_changes));
        }
        self.expired = Some(expired);
        self.history = Some(history);
        finding(found, missing)
    }

    fn judged_in_all(&mut self, plan: &Plan, history: History, mut found: Vec<String>) -> Finding {
        // Far below what a run does, and above what one does that hardly ran.
        let demand = Demand::new(plan.harm.as_secs() / 4).faults_in_all(plan.harm.as_secs() / 10);
        let verdict = judge(&history, &demand);
        let missing = match &verdict {
            Verdict::Ok(_) => Vec::new(),
            Verdict::Violations(_, violations) => {
                found.extend(violations.iter().map(ToString::to_string));
                Vec::new()
            }
            Verdict::NotEnoughEvidence(_, missing) => missing.clone(),
        };
        self.history = Some(history);
        finding(found, missing)
    }

    /// Goes on until there is something; none when the time is over.
    fn until<T>(&mut self, within: Duration, mut look: impl FnMut(&mut World) -> Option<T>) -> Result<Option<T>> {
        let end = self.sim.elapsed() + within;
        while self.sim.elapsed() < end {
            if let Some(found) = look(self) {
                return Ok(Some(found));
            }
            self.tick()?;
        }
        Ok(look(self))
    }

    fn tick(&mut self) -> Result<()> {
        let stepped = self.sim.step();
        self.now.set(self.sim.elapsed());
        stepped.map_err(|error| anyhow!(Violated(format!("a process ended: {error}"))))?;
        self.ticks += 1;
        let mut found = Vec::new();
        if self.ticks.is_multiple_of(LOOK_EVERY) {
            found.extend(self.invariants.look(&self.machines));
        }
        if self.ticks.is_multiple_of(COMPARE_EVERY) {
            found.extend(self.invariants.compare_logs(&self.machines).context("a disk cannot be read")?);
        }
        match found.is_empty() {
            true => Ok(()),
            false => Err(anyhow!(Violated(found.join("\n")))),
        }
    }

    fn report(&mut self, outcome: &mut Outcome) {
        outcome.simulated = self.sim.elapsed();
        outcome.digest = self.trace.digest();
        outcome.writes = self.trace.writes();
        outcome.bytes = self.trace.bytes();
        outcome.faults = self.nemesis.counts.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect();
        outcome.expired = self.expired;
        if let Some(history) = self.history.take() {
            outcome.take_history(history);
        }
    }
}

fn finding(found: Vec<String>, missing: Vec<String>) -> Finding {
    match (found.is_empty(), missing.is_empty()) {
        (false, _) => Finding::Violations(found),
        (true, false) => Finding::NotEnoughEvidence(missing),
        (true, true) => Finding::Nothing,
    }
}

/// Rooms that took no write for long although nothing was wrong.
fn stalled(history: &History, healed: u64) -> Vec<String> {
    let serves = |room: usize| {
        let mut writes =
            history.of_room(room).filter(|operation| operation.is_write() && operation.revision().is_some());
        writes.any(|write| {
            write.answered.is_some_and(|answered| (healed..healed + HEAL.as_micros() as u64).contains(&answered))
        })
    };
    let rooms = (0..history.rooms.len()).filter(|room| !serves(*room));
    rooms.map(|room| format!("room {room}: no write was acknowledged within {HEAL:?} after all was healed")).collect()
}

/// Where small files cost no real disk, if there is such a place: identity files are synced, which is not what is tested.
fn fast_folder() -> std::path::PathBuf {
    let shared = std::path::PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}
