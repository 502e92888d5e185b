//! Durable sends of 128 bytes in a closed loop.

use anyhow::Result;

use crate::bench::{Bench, ROUNDS, Span};
use crate::load::{Items, Payload, Progress, Tally, closed};
use crate::probe::{Budget, Round, median};
use crate::report::{Row, Target};

pub const WORK: &str = "durable send 128B";
const QUEUE: &str = "items";

/// What a send may cost at 70,000 a second on two cores.
const BUDGET: Budget = Budget {
    cpu_us: &[("generator", 4.0), ("gateway", 4.0), ("leader", 10.0), ("follower", 4.0)],
    all_cpu_us: Some(28.0),
    fsyncs: Some(0.05),
    operations: Some(3.0),
};

/// The first build's floor, for everything on two cores.
const FLOOR_PER_SECOND: f64 = 15_000.0;
const ONE_P50_MS: f64 = 3.0;

/// Windows of one session of 256, and of four.
pub async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (sessions, config, floor) in [(1, "window=256,128B", None), (4, "window=1024,128B", Some(FLOOR_PER_SECOND))] {
        let round = rounds(bench, &format!("send-{sessions}"), sessions, 256).await?;
        let detail = format!("sessions={sessions}; {}", round.conditions());
        let row = Row::new(WORK, config, round.rate(), "op/s").latency(&round.latency_us).detail(detail);
        rows.push(match floor {
            Some(floor) => row.target(Target::AtLeast(floor)),
            None => row,
        });
        rows.extend(round.costs(WORK, config, &BUDGET));
    }
    Ok(rows)
}

/// One send outstanding.
pub async fn one(bench: &Bench) -> Result<Vec<Row>> {
    let config = "window=1,128B";
    let round = rounds(bench, "one", 1, 1).await?;
    let p50_ms = round.latency_us.value_at_quantile(0.5) as f64 / 1e3;
    let detail = format!("sessions=1; {}", round.conditions());
    Ok(vec![
        Row::new(WORK, config, round.rate(), "op/s").latency(&round.latency_us).detail(detail),
        Row::new(&format!("{WORK}: p50"), config, p50_ms, "ms").target(Target::AtMost(ONE_P50_MS)),
    ])
}

async fn rounds(bench: &Bench, room: &str, sessions: usize, window: usize) -> Result<Round> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rounds.push(round(bench, room, sessions, window, Payload::Same).await?);
    }
    Ok(median(rounds))
}

/// One round of sessions that keep their windows full.
pub async fn round(bench: &Bench, room: &str, sessions: usize, window: usize, payload: Payload) -> Result<Round> {
    let sessions = bench.sessions(room, sessions).await?;
    let leader = bench.cluster.leader_of(room).await?;
    let mut tally = Tally::new(Span::after_warm_up()?, Progress::default());
    let send = |session| tokio::spawn(send(Items::new(session, room, QUEUE, payload), window, tally.clone()));
    let tasks: Vec<_> = sessions.into_iter().map(send).collect();
    let used = bench.watch(&tally, leader).await?;
    for task in tasks {
        tally.add(&task.await??);
    }
    Ok(Round { latency_us: tally.latency_us, used })
}

async fn send(mut items: Items, window: usize, tally: Tally) -> Result<Tally> {
    let tally = closed(&mut items, window, tally).await?;
    items.session.close().await;
    Ok(tally)
}
