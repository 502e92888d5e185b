//! What goes wrong in a run, drawn from its seed, and how it is healed again.
//!
//! Of faults of the network one is there at a time, because healing a link heals it from all that ails it; those of
//! processes, disks and clocks come on top. A machine suffers one of its own at a time.

mod kind;
mod network;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conclave_workload::dice::Dice;
use conclave_workload::load::{Begun, Faults};
use tokio::sync::watch;
use turmoil::Sim;

use crate::machine::{Machine, Order};
use crate::plan::Plan;
pub use kind::Kind;
use network::{Cut, Wires};

/// How long a host may take to hand over and end before it is killed all the same.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// Restarts of a storm.
const STORM: usize = 4;
/// How long a host is up and down in between, at most.
const UP_FOR: Duration = Duration::from_millis(900);
const DOWN_FOR: Duration = Duration::from_millis(700);
const TWO_HOURS_MS: i64 = 7_200_000;

/// A fault that is there now.
struct Active {
    kind: Kind,
    ends: Duration,
    harm: Harm,
    begun: Option<Begun>,
}

enum Harm {
    /// Hosts that are down, and how often they are still to be taken down again.
    Down {
        hosts: Vec<usize>,
        again: usize,
    },
    /// Between two falls of a storm.
    Up {
        hosts: Vec<usize>,
        again: usize,
    },
    /// A host that was asked to end.
    Draining {
        host: usize,
        down: bool,
    },
    Gateway(usize),
    Network(Cut),
    /// A host whose disk is slow, or hangs.
    Disk(usize),
    Clock {
        host: usize,
        by: i64,
    },
    /// Nothing to undo.
    Passed,
}

pub struct Nemesis {
    dice: Dice,
    kinds: Vec<Kind>,
    quiet: Duration,
    machines: Vec<Arc<Machine>>,
    gateways: Vec<String>,
    wires: Wires,
    /// Tells the load to flood a room.
    flood: watch::Sender<bool>,
    active: Vec<Active>,
    next: Duration,
    pub counts: BTreeMap<Kind, u64>,
}

impl Nemesis {
    pub fn new(plan: &Plan, machines: Vec<Arc<Machine>>, gateways: Vec<String>, flood: watch::Sender<bool>) -> Nemesis {
        let hosts = machines.iter().map(|machine| machine.name.clone()).collect();
        Nemesis {
            dice: Dice::new(plan.seed ^ 0x5eed_0002),
            kinds: plan.kinds.clone(),
            quiet: plan.quiet,
            wires: Wires { hosts, gateways: gateways.clone(), latency: plan.latency },
            machines,
            gateways,
            flood,
            active: Vec::new(),
            next: Duration::ZERO,
            counts: BTreeMap::new(),
        }
    }

    /// Ends what is over and begins what is due.
    pub fn act(&mut self, sim: &mut Sim<'_>, now: Duration, faults: &Faults) {
        self.follow_up(sim, now, faults);
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_millis(50) + self.dice.time(self.quiet);
        let kind = *self.dice.pick(&self.kinds);
        if let Some((harm, lasts, detail)) = self.inflict(sim, kind) {
            tracing::info!(target: "conclave_simulation", ?kind, %detail, ?lasts, "fault");
            let begun = faults.begin(kind.name(), detail, Vec::new());
            *self.counts.entry(kind).or_default() += 1;
            self.active.push(Active { kind, ends: now + lasts, harm, begun: Some(begun) });
        }
    }

    /// Heals everything; hosts that are ending are given the time to.
    pub fn heal(&mut self, sim: &mut Sim<'_>, now: Duration, faults: &Faults) {
        for active in &mut self.active {
            match &mut active.harm {
                Harm::Down { again, .. } => *again = 0,
                Harm::Up { .. } => active.harm = Harm::Passed,
                _ => {}
            }
            if !matches!(active.harm, Harm::Draining { .. }) {
                active.ends = now;
            }
        }
        self.follow_up(sim, now, faults);
    }

    /// Whether nothing is wrong any more.
    pub fn is_calm(&self) -> bool {
        self.active.is_empty()
    }

    fn follow_up(&mut self, sim: &mut Sim<'_>, now: Duration, faults: &Faults) {
        let mut left = Vec::new();
        for mut active in std::mem::take(&mut self.active) {
            if self.is_over(sim, &mut active, now) {
                tracing::info!(target: "conclave_simulation", kind = ?active.kind, "healed");
                if let Some(begun) = active.begun.take() {
                    faults.end(begun);
                }
            } else {
                left.push(active);
            }
        }
        self.active = left;
    }

    /// Undoes a fault whose time is over, as far as it can be undone now.
    fn is_over(&mut self, sim: &mut Sim<'_>, active: &mut Active, now: Duration) -> bool {
        if let Harm::Draining { host, down } = &mut active.harm {
            let name = &self.machines[*host].name;
            if !*down && (!sim.is_host_running(name.as_str()) || now > active.ends + DRAIN_WITHIN) {
                // It has ended, or takes too long; an operator would kill it.
                sim.crash(name.as_str());
                self.machines[*host].forget_process();
                self.machines[*host].disk.lose_process();
                *down = true;
            }
            if !*down || now < active.ends {
                return false;
            }
            sim.bounce(name.as_str());
            return true;
        }
        if now < active.ends {
            return false;
        }
        match &active.harm {
            Harm::Down { hosts, again } => {
                let (hosts, again) = (hosts.clone(), *again);
                for host in &hosts {
                    sim.bounce(self.machines[*host].name.as_str());
                }
                if again > 0 {
                    // Up for a moment, often while it is still opening what it has.
                    active.ends = now + Duration::from_millis(5) + self.dice.time(UP_FOR);
                    active.harm = Harm::Up { hosts, again: again - 1 };
                    return false;
                }
            }
            Harm::Up { hosts, again } => {
                let (hosts, again) = (hosts.clone(), *again);
                for host in &hosts {
                    self.take_down(sim, *host);
                }
                active.ends = now + Duration::from_millis(10) + self.dice.time(DOWN_FOR);
                active.harm = Harm::Down { hosts, again };
                return false;
            }
            Harm::Gateway(gateway) => sim.bounce(self.gateways[*gateway].as_str()),
            Harm::Network(cut) => self.wires.heal(sim, cut),
            Harm::Disk(host) => self.machines[*host].disk.set_pace(|pace| *pace = active.kind.healed(*pace)),
            Harm::Clock { host, by } => self.machines[*host].clock.offset.add(-*by),
            Harm::Draining { .. } | Harm::Passed => {}
        }
        true
    }

    fn take_down(&mut self, sim: &mut Sim<'_>, host: usize) {
        let machine = &self.machines[host];
        machine.forget_process();
        sim.crash(machine.name.as_str());
        // More often than not the power goes with the process.
        match self.dice.roll(3) {
            0 => machine.disk.lose_process(),
            _ => machine.disk.lose_power(),
        }
    }

    /// Begins a fault; none if it cannot begin now.
    fn inflict(&mut self, sim: &mut Sim<'_>, kind: Kind) -> Option<(Harm, Duration, String)> {
        let (shortest, longest) = kind.lasts();
        let lasts = shortest + self.dice.time(longest - shortest);
        let free: Vec<usize> = (0..self.machines.len()).filter(|host| !self.suffers(*host)).collect();
        let harm = match kind {
            Kind::Crash | Kind::CrashLeader | Kind::CrashMajority | Kind::CrashAll | Kind::Storm => {
                let hosts = self.victims(kind, free)?;
                for host in &hosts {
                    self.take_down(sim, *host);
                }
                let again = if kind == Kind::Storm { 1 + self.dice.roll(STORM) } else { 0 };
                Harm::Down { hosts, again }
            }
            Kind::Restart => {
                let host = *self.pick_from(&free)?;
                self.machines[host].order(Order::Drain);
                Harm::Draining { host, down: false }
            }
            Kind::Transfer => {
                let host = *self.pick_from(&free)?;
                self.machines[host].order(Order::Transfer(self.dice.roll(16)));
                Harm::Passed
            }
            Kind::Flood => {
                // Thousands of operations are dear, and one flood is like another.
                if self.counts.contains_key(&Kind::Flood) {
                    return None;
                }
                self.flood.send_replace(true);
                Harm::Passed
            }
            Kind::GatewayCrash => {
                let taken = self.active.iter().any(|active| matches!(active.harm, Harm::Gateway(_)));
                let gateway = self.dice.roll(self.gateways.len());
                if taken {
                    return None;
                }
                sim.crash(self.gateways[gateway].as_str());
                Harm::Gateway(gateway)
            }
            Kind::SlowDisk | Kind::DiskHang => {
                let host = *self.pick_from(&free)?;
                self.machines[host].disk.set_pace(|pace| *pace = kind.harmed(*pace));
                Harm::Disk(host)
            }
            Kind::ClockJump => {
                let host = *self.pick_from(&free)?;
                // Of all clocks most must be right, and one jump is as far as a machine goes.
                if self.active.iter().any(|active| matches!(active.harm, Harm::Clock { .. })) {
                    return None;
                }
                let by = if self.dice.roll(2) == 0 { TWO_HOURS_MS } else { -TWO_HOURS_MS };
                self.machines[host].clock.offset.add(by);
                Harm::Clock { host, by }
            }
            Kind::Isolate
            | Kind::OneWay
            | Kind::Ring
            | Kind::Split
            | Kind::Loss
            | Kind::Delay
            | Kind::Hang
            | Kind::GatewayCut => {
                if self.active.iter().any(|active| matches!(active.harm, Harm::Network(_))) {
                    return None;
                }
                Harm::Network(self.wires.cut(sim, kind, &mut self.dice))
            }
        };
        let detail = self.describe(&harm);
        Some((harm, lasts, detail))
    }

    fn victims(&mut self, kind: Kind, mut free: Vec<usize>) -> Option<Vec<usize>> {
        self.dice.shuffle(&mut free);
        let all = self.machines.len();
        let wanted = match kind {
            Kind::CrashLeader => {
                free.retain(|host| self.machines[*host].leads());
                1
            }
            Kind::CrashMajority => all / 2 + 1,
            Kind::CrashAll => all,
            _ => 1,
        };
        free.truncate(wanted);
        (free.len() == wanted).then_some(free)
    }

    fn pick_from<'a>(&mut self, free: &'a [usize]) -> Option<&'a usize> {
        if free.is_empty() { None } else { Some(self.dice.pick(free)) }
    }

    fn suffers(&self, host: usize) -> bool {
        self.active.iter().any(|active| match &active.harm {
            Harm::Down { hosts, .. } | Harm::Up { hosts, .. } => hosts.contains(&host),
            Harm::Draining { host: draining, .. } => *draining == host,
            Harm::Disk(slow) => *slow == host,
            Harm::Clock { host: jumped, .. } => *jumped == host,
            Harm::Gateway(_) | Harm::Network(_) | Harm::Passed => false,
        })
    }

    fn describe(&self, harm: &Harm) -> String {
        match harm {
            Harm::Down { hosts, .. } | Harm::Up { hosts, .. } => format!("hosts {hosts:?}"),
            Harm::Draining { host, .. } | Harm::Disk(host) => format!("host {host}"),
            Harm::Gateway(gateway) => format!("gateway {gateway}"),
            Harm::Network(cut) => cut.to_string(),
            Harm::Clock { host, by } => format!("host {host} by {by} ms"),
            Harm::Passed => String::new(),
        }
    }
}
