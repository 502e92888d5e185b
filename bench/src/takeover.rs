//! How long writes stand still when the host that leads is killed, and when it is told to stop.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_tests::cluster::eventually;
use conclave_tests::status;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::bench::Bench;
use crate::report::{Row, Target};
use crate::steady::{EVERY, Steady};

/// On 64 shards: each host leads some of them.
const ROOMS: usize = 6;
const KILLS: usize = 30;
const STOPS: usize = 20;
/// Load before and after each event, so that what is measured is the event's.
const CALM: Duration = Duration::from_secs(1);
const FAILOVER_MEDIAN_MS: f64 = 2_000.0;
const FAILOVER_P99_MS: f64 = 3_000.0;
const TRANSFER_PAUSE_MS: f64 = 100.0;

/// Kills the leader of one room after the other; the figure is of all rooms that the killed hosts led.
pub async fn failover(bench: &mut Bench) -> Result<Vec<Row>> {
    let steady = Steady::start(bench, ROOMS).await?;
    let mut times = times();
    for kill in 0..KILLS {
        tokio::time::sleep(CALM).await;
        let (leader, led) = leads(bench, &steady, kill % ROOMS).await?;
        let at = Instant::now();
        bench.cluster.kill_host(leader)?;
        for room in led {
            steady.goes_on(room, at).await;
            times.saturating_record(steady.resumed(room, at).await.context("writes")?.as_millis() as u64);
        }
        bench.cluster.start_host(leader)?;
        caught_up(bench).await?;
    }
    steady.end().await?;
    let config = format!("kills={KILLS},rooms={ROOMS}");
    let [p50, p99, max] = figures(&times);
    let row = |what: &str, value| Row::new(&format!("failover, kill to first write: {what}"), &config, value, "ms");
    let detail = format!("{} rooms lost their leader; a send every {EVERY:?} in each room", times.len());
    Ok(vec![
        row("median", p50).target(Target::AtMost(FAILOVER_MEDIAN_MS)).detail(detail),
        row("p99", p99).target(Target::AtMost(FAILOVER_P99_MS)),
        row("longest", max),
    ])
}

/// Tells the leader of one room after the other to stop, which hands its leaderships over.
pub async fn transfer(bench: &mut Bench) -> Result<Vec<Row>> {
    let steady = Steady::start(bench, ROOMS).await?;
    let mut times = times();
    for stop in 0..STOPS {
        tokio::time::sleep(CALM).await;
        let (leader, led) = leads(bench, &steady, stop % ROOMS).await?;
        let from = Instant::now();
        bench.cluster.stop_host(leader).await?;
        tokio::time::sleep(CALM).await;
        let until = Instant::now();
        for room in led {
            let pause = steady.longest_pause(room, from, until).await.context("writes")?;
            times.saturating_record(pause.as_millis() as u64);
        }
        bench.cluster.start_host(leader)?;
        caught_up(bench).await?;
    }
    steady.end().await?;
    let config = format!("stops={STOPS},rooms={ROOMS}");
    let [p50, p99, max] = figures(&times);
    let row = |what: &str, value| Row::new(&format!("planned transfer, write pause: {what}"), &config, value, "ms");
    let detail = format!("{} rooms changed their leader; a send every {EVERY:?} in each room", times.len());
    Ok(vec![
        row("median", p50).detail(detail),
        row("p99", p99).target(Target::AtMost(TRANSFER_PAUSE_MS)),
        row("longest", max),
    ])
}

/// The leader of a room, and all rooms that it leads.
async fn leads(bench: &Bench, steady: &Steady, room: usize) -> Result<(usize, Vec<usize>)> {
    let leader = bench.cluster.leader_of(&steady.rooms[room]).await?;
    let mut led = Vec::new();
    for (other, name) in steady.rooms.iter().enumerate() {
        if other == room || bench.cluster.leader_of(name).await? == leader {
            led.push(other);
        }
    }
    ensure!(!led.is_empty(), "nobody leads");
    Ok((leader, led))
}

async fn caught_up(bench: &Bench) -> Result<()> {
    eventually("a host that has caught up", || status::whole(&bench.cluster)).await
}

fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000, 3).expect("the bounds are in order")
}

fn figures(times: &Histogram<u64>) -> [f64; 3] {
    [times.value_at_quantile(0.5), times.value_at_quantile(0.99), times.max()].map(|ms| ms as f64)
}
