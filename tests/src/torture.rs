//! Everything that can fail fails at random, several things at once, while the load runs; then all is healed, read back
//! and judged.
//!
//! A seed decides what fails, whom it hits and for how long; what the processes make of it is theirs, so a seed repeats a
//! run in kind and not in every detail. Majorities and all hosts fail too, because what was acknowledged must survive
//! that. Only damage keeps to its limits: a store is not damaged while another is being rebuilt, since whoever loses a
//! majority of copies has lost them.
//!
//! [`schedule`] says what fails next, [`stage`] makes it so, [`outage`] reads from the history how long whom it hurt,
//! [`report`] writes it down.

pub mod kind;
pub mod outage;
pub mod report;
pub mod schedule;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_client::Client;
use tokio::time::Instant;

use crate::site::{Layout, Site};
use conclave_workload::checks::{Demand, judge};
use conclave_workload::load::{Load, Workload};
use conclave_workload::patience::eventually;
use kind::Kind;
use report::Summary;
use schedule::Schedule;
use stage::Stage;

/// Rooms of the load: with four shards most of them have one.
const ROOMS: usize = 4;
const PARTICIPANTS: usize = 4;
/// The load alone, before the first fault and after the last.
const CALM: Duration = Duration::from_secs(4);
/// How often the stage is looked at: what has ended, what is to be healed, what fails next.
const LOOK: Duration = Duration::from_millis(100);
/// Seconds for which one fault may be expected, whatever is drawn: a run with fewer proves too little.
const SECONDS_PER_FAULT: u64 = 8;
/// Operations of each kind that a second of the load must bring at least, in spite of the faults.
const OPERATIONS_PER_SECOND: u64 = 2;

#[derive(Debug, Clone)]
pub struct Options {
    pub lasts: Duration,
    pub seed: u64,
    pub layout: Layout,
    /// Where the summary goes, if anywhere.
    pub report: Option<PathBuf>,
    /// Where a history goes that was not accepted.
    pub histories: PathBuf,
}

/// One run. An error says which invariant is broken, or that too little happened, or that the cluster did not come back.
pub async fn run(options: Options) -> Result<()> {
    let site = Site::start(options.layout)?;
    let clients = clients(&site).await?;
    let workload = Workload::start(clients, Load::new(ROOMS, options.seed)).await?;
    let kinds = Kind::possible(&options.layout);
    let mut stage = Stage::new(site, workload.faults(), workload.recorder().rooms(), options.seed);
    let schedule = Schedule::new(options.seed, kinds, options.layout.hosts);
    let acted = act(&mut stage, schedule, options.lasts).await;
    stage.explain(acted)?;
    let history = stage.explain(workload.finish().await)?;
    let seconds = options.lasts.as_secs();
    let demand = Demand::new(seconds * OPERATIONS_PER_SECOND).faults_in_all(seconds / SECONDS_PER_FAULT);
    let verdict = judge(&history, &demand);
    let summary = Summary::of(&history, &verdict, &options, stage.endings());
    eprintln!("{summary}");
    if let Some(path) = &options.report {
        std::fs::write(path, summary.to_string()).with_context(|| format!("report {}", path.display()))?;
    }
    stage.explain(verdict.settle("torture", &history, &options.histories))?;
    let unexplained = stage.unexplained();
    ensure!(unexplained.is_empty(), "hosts ended for no reason: {unexplained:?}\n{}", stage.last_lines());
    Ok(())
}

/// Lets things fail until the time is over, then heals all of them.
async fn act(stage: &mut Stage, mut schedule: Schedule, lasts: Duration) -> Result<()> {
    let end = Instant::now() + lasts;
    let mut next = Instant::now() + CALM;
    let mut looks = tokio::time::interval(LOOK);
    while Instant::now() + CALM < end {
        looks.tick().await;
        stage.look().await?;
        if Instant::now() < next {
            continue;
        }
        let leaders = stage.leaders().await;
        let is_whole = schedule.wants_it_whole() && stage.is_calm() && stage.is_whole().await;
        if let Some(choice) = schedule.choose(&stage.situation(&leaders, is_whole)) {
            stage.inflict(choice, &leaders).await?;
        }
        next = Instant::now() + schedule.pause();
    }
    stage.heal_all().await?;
    while Instant::now() < end {
        looks.tick().await;
        stage.look().await?;
    }
    Ok(())
}

async fn clients(site: &Site) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for index in 0..PARTICIPANTS {
        let token = site.cluster().token(&format!("participant-{index}")).await?;
        let connected = eventually("a connection", || async {
            Client::connect(&site.cluster().address(), &token).await.map_err(anyhow::Error::from)
        });
        clients.push(connected.await?);
    }
    Ok(clients)
}
