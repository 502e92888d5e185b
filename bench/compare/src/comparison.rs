//! The rounds, and the rows made of them.

use std::time::Duration;

use anyhow::{Context, Result};
use conclave_bench::probe::{Budget, Round, median};
use conclave_bench::ratio::Ratios;
use conclave_bench::report::{OURS, Row};

use crate::cluster::{Cluster, work};
use crate::nats::Nats;
use crate::ours::Ours;
use crate::rabbitmq::RabbitMq;
use crate::work::{System, WORKS, Work};

const ROUNDS: usize = 5;
/// A system that needs longer for its turn has stopped.
const TURN_WITHIN: Duration = Duration::from_secs(10 * 60);

/// All that one system did, round by round; in each the works in their order.
struct Turns {
    system: System,
    turns: Vec<Vec<Round>>,
}

/// Measures the first peer, ours, and the other peers, in turn, five times.
pub async fn run(peers: &[System]) -> Result<Vec<Row>> {
    let mut order = peers.to_vec();
    order.insert(1.min(order.len()), System::Ours);
    let mut all: Vec<Turns> = order.into_iter().map(|system| Turns { system, turns: Vec::new() }).collect();
    for round in 1..=ROUNDS {
        for turns in &mut all {
            let name = turns.system.name();
            println!("round {round} of {ROUNDS}: {name}");
            let turn = tokio::time::timeout(TURN_WITHIN, turn(turns.system)).await;
            turns.turns.push(turn.with_context(|| format!("{name} does not end its turn"))?.context(name)?);
        }
    }
    let (ours, peers): (Vec<_>, Vec<_>) = all.into_iter().partition(|turns| turns.system == System::Ours);
    let mut rows = Vec::new();
    for peer in &peers {
        rows.extend(WORKS.iter().enumerate().map(|(place, work)| ratio(place, *work, &ours[0], peer)));
    }
    for (place, work) in WORKS.into_iter().enumerate() {
        rows.extend(ours.iter().chain(&peers).flat_map(|turns| figures(place, work, turns)));
    }
    Ok(rows)
}

async fn turn(system: System) -> Result<Vec<Round>> {
    match system {
        System::Ours => works(Ours::start().await?).await,
        System::Nats(fsync) => works(Nats::start(fsync).await?).await,
        System::RabbitMq => works(RabbitMq::start().await?).await,
    }
}

async fn works(cluster: impl Cluster) -> Result<Vec<Round>> {
    let mut rounds = Vec::with_capacity(WORKS.len());
    for one in WORKS {
        rounds.push(work(&cluster, one).await.with_context(|| format!("{}, {}", one.title(), one.config()))?);
    }
    Ok(rounds)
}

impl Turns {
    fn rounds(&self, place: usize) -> impl Iterator<Item = &Round> {
        self.turns.iter().map(move |turn| &turn[place])
    }

    /// The largest share of the machine that others took, in percent.
    fn disturbance(&self, place: usize) -> f64 {
        self.rounds(place).map(|round| round.used.others * 100.0).fold(0.0, f64::max)
    }
}

/// The gate's row.
fn ratio(place: usize, work: Work, ours: &Turns, peer: &Turns) -> Row {
    let (what, ratios) = if work.is_sequential() {
        ("p50", Ratios::of(ours.rounds(place).map(p50_ms), peer.rounds(place).map(p50_ms)))
    } else {
        ("rate", Ratios::of(ours.rounds(place).map(Round::rate), peer.rounds(place).map(Round::rate)))
    };
    let others = ours.disturbance(place).max(peer.disturbance(place));
    let detail = format!("{}; others took up to {others:.0}% of the machine", ratios.each());
    let title = format!("{}: {what}, ours to theirs", work.title());
    let versions = format!("{} to {}", System::Ours.version(), peer.system.version());
    let fsync = format!("{} to {}", System::Ours.fsync(), peer.system.fsync());
    let row = Row::new(&title, &work.config(), ratios.median(), "x").detail(detail);
    let row = row.of(&format!("{OURS} to {}", peer.system.name()), &versions, &fsync);
    match work.gate(peer.system) {
        Some(gate) => row.target(gate),
        None => row,
    }
}

fn p50_ms(round: &Round) -> f64 {
    round.latency_us.value_at_quantile(0.5) as f64 / 1e3
}

/// What one system reached in a work, and what it cost: the round with the middle rate, with all its figures.
fn figures(place: usize, work: Work, turns: &Turns) -> Vec<Row> {
    let (title, config) = (work.title(), work.config());
    let rates: Vec<_> = turns.rounds(place).map(|round| format!("{:.0}", round.rate())).collect();
    let round = median(turns.rounds(place).cloned().collect());
    let detail = format!(
        "{}; {} items; rounds {}; others took up to {:.0}% of the machine",
        work.remark(turns.system),
        round.used.operations,
        rates.join(" "),
        turns.disturbance(place)
    );
    let mut rows = vec![Row::new(title, &config, round.rate(), "op/s").latency(&round.latency_us).detail(detail)];
    if work.is_sequential() {
        rows.push(Row::new(&format!("{title}: p50"), &config, p50_ms(&round), "ms"));
    }
    rows.extend(round.processor_costs(title, &config, &Budget::default()));
    rows.extend(round.disk_costs(title, &config));
    if turns.system == System::Ours {
        rows.extend(round.store_costs(title, &config, &Budget::default()));
    }
    let (name, version, fsync) = (turns.system.name(), turns.system.version(), turns.system.fsync());
    rows.into_iter().map(|row| row.of(name, &version, fsync)).collect()
}
