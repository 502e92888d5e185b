//! Faults of the network between nodes.

use std::fmt;
use std::time::Duration;

use conclave_workload::dice::Dice;
use turmoil::Sim;

use super::Kind;

/// Chance that a message gets lost, by thousands; a lost one ends its connection.
const LOSS_PER_MILLE: usize = 8;
const SHORTEST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_millis(600);

/// Who is connected with whom, when nothing is wrong.
pub struct Wires {
    pub hosts: Vec<String>,
    pub gateways: Vec<String>,
    pub latency: (Duration, Duration),
}

/// What was done to the network.
pub struct Cut {
    what: What,
    /// From, to.
    pairs: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    BothWays,
    OneWay,
    Held,
    Lossy,
    Slow,
}

impl Wires {
    pub fn cut(&self, sim: &mut Sim<'_>, kind: Kind, dice: &mut Dice) -> Cut {
        let hosts = &self.hosts;
        let one = dice.roll(hosts.len());
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        dice.shuffle(&mut order);
        let pairs = |wanted: &dyn Fn(usize, usize) -> bool| -> Vec<(String, String)> {
            let all = (0..hosts.len()).flat_map(|from| (0..from).map(move |to| (from, to)));
            all.filter(|(from, to)| wanted(*from, *to))
                .map(|(from, to)| (hosts[from].clone(), hosts[to].clone()))
                .collect()
        };
        let to_one = |from: usize, to: usize| from == one || to == one;
        let cut = match kind {
            Kind::Isolate => Cut { what: What::BothWays, pairs: pairs(&to_one) },
            Kind::OneWay => {
                let (outwards, others) = (dice.roll(2) == 0, hosts.iter().enumerate().filter(|(host, _)| *host != one));
                let pairs = others.map(|(_, other)| match outwards {
                    true => (hosts[one].clone(), other.clone()),
                    false => (other.clone(), hosts[one].clone()),
                });
                Cut { what: What::OneWay, pairs: pairs.collect() }
            }
            Kind::Ring => {
                let place = |host: usize| order.iter().position(|placed| *placed == host).unwrap_or_default();
                let far = |from: usize, to: usize| {
                    let apart = place(from).abs_diff(place(to));
                    // Of three hosts in a ring all are neighbours: then it is a line.
                    apart > 1 && (hosts.len() == 3 || apart < hosts.len() - 1)
                };
                Cut { what: What::BothWays, pairs: pairs(&far) }
            }
            Kind::Split => {
                let half = 1 + dice.roll(hosts.len() - 1);
                let is_left = |host: usize| order[..half].contains(&host);
                Cut { what: What::BothWays, pairs: pairs(&|from, to| is_left(from) != is_left(to)) }
            }
            Kind::Loss => Cut { what: What::Lossy, pairs: pairs(&|_, _| true) },
            Kind::Delay => {
                let all = dice.roll(2) == 0;
                Cut { what: What::Slow, pairs: pairs(&|from, to| all || to_one(from, to)) }
            }
            Kind::GatewayCut => {
                let gateway = dice.pick(&self.gateways).clone();
                Cut { what: What::BothWays, pairs: vec![(gateway, hosts[one].clone())] }
            }
            _ => {
                let mut pairs = pairs(&to_one);
                pairs.extend(self.gateways.iter().map(|gateway| (gateway.clone(), hosts[one].clone())));
                Cut { what: What::Held, pairs }
            }
        };
        let delay = SHORTEST_DELAY + dice.time(LONGEST_DELAY - SHORTEST_DELAY);
        let loss = (1 + dice.roll(LOSS_PER_MILLE)) as f64 / 1_000.0;
        for (from, to) in &cut.pairs {
            let (from, to) = (from.as_str(), to.as_str());
            match cut.what {
                What::BothWays => sim.partition(from, to),
                What::OneWay => sim.partition_oneway(from, to),
                What::Held => sim.hold(from, to),
                What::Lossy => sim.set_link_fail_rate(from, to, loss),
                What::Slow => sim.set_link_latency(from, to, delay),
            }
        }
        cut
    }

    pub fn heal(&self, sim: &mut Sim<'_>, cut: &Cut) {
        for (from, to) in &cut.pairs {
            let (from, to) = (from.as_str(), to.as_str());
            match cut.what {
                What::BothWays => sim.repair(from, to),
                What::OneWay => sim.repair_oneway(from, to),
                What::Held => sim.release(from, to),
                What::Lossy => sim.set_link_fail_rate(from, to, 0.0),
                What::Slow => {
                    sim.set_link_latency(from, to, self.latency.0);
                    sim.set_link_max_message_latency(from, to, self.latency.1);
                }
            }
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.pairs.iter().map(|(from, to)| format!("{from} {to}")).collect();
        write!(f, "{:?}: {}", self.what, pairs.join(", "))
    }
}
