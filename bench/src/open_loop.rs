//! Durable sends at a fixed rate, whether replies come or not; latency counts from the intended time.
//!
//! A thread of its own keeps time: the runtime's timer has a resolution of a millisecond, which would be most of what
//! is measured.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use conclave_client::{Reply, Session};
use conclave_proto::v1::{SendItemsRequest, SendItemsResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bench::{Bench, Span};
use crate::load::{Progress, Tally, request};
use crate::probe::Round;
use crate::report::Row;

const WORK: &str = "durable send 128B, open loop";
const RATES_PER_SECOND: [u32; 2] = [5_000, 10_000];
const SESSIONS: usize = 4;
/// Sends of one session that may wait for replies; a cluster that falls further behind does not take the rate.
const MAX_BEHIND: usize = 16_000;
/// Shortest wait of the pacing thread: more wake-ups would cost the machine more than the load does.
const SHORTEST_WAIT: Duration = Duration::from_micros(100);

type Due = (Instant, Reply<SendItemsResponse>);

pub async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for rate in RATES_PER_SECOND {
        let room = format!("open-{rate}");
        let round = round(bench, &room, rate).await.with_context(|| format!("{rate} sends a second"))?;
        let config = format!("rate={rate}/s,128B");
        let detail = format!("sessions={SESSIONS}; {}", round.conditions());
        rows.push(Row::new(WORK, &config, round.rate(), "op/s").latency(&round.latency_us).detail(detail));
    }
    Ok(rows)
}

async fn round(bench: &Bench, room: &str, rate: u32) -> Result<Round> {
    let sessions: Vec<_> = bench.sessions(room, SESSIONS).await?.into_iter().map(Arc::new).collect();
    let leader = bench.cluster.leader_of(room).await?;
    let mut tally = Tally::new(Span::after_warm_up()?, Progress::default());
    let (dues, replies): (Vec<_>, Vec<_>) = sessions.iter().map(|_| mpsc::channel(MAX_BEHIND)).unzip();
    let tasks: Vec<_> = replies.into_iter().map(|replies| tokio::spawn(collect(replies, tally.clone()))).collect();
    let (request, until) = (request(room, "items", 1), tally.span.until);
    let pacer = thread::Builder::new().name("pacer".into());
    // Kept here too: a session that is dropped takes its replies with it.
    let paced = sessions.clone();
    #[expect(clippy::disallowed_methods, reason = "a runtime that is busy would send late, and hide it")]
    let pacer = pacer.spawn(move || pace(&paced, &dues, &request, rate, until))?;
    let used = bench.watch(&tally, leader).await?;
    for task in tasks {
        tally.add(&task.await??);
    }
    pacer.join().map_err(|_| anyhow::anyhow!("the pacing thread panicked"))??;
    drop(sessions);
    Ok(Round { latency_us: tally.latency_us, used })
}

/// Sends when it is time to, session after session, until the round is over.
fn pace(
    sessions: &[Arc<Session>],
    dues: &[mpsc::Sender<Due>],
    request: &SendItemsRequest,
    rate: u32,
    until: Instant,
) -> Result<()> {
    let begun = Instant::now();
    let mut sent: u32 = 0;
    loop {
        let due = begun + Duration::from_secs(1) * sent / rate;
        if due >= until {
            return Ok(());
        }
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            wait_until(Instant::now() + early.max(SHORTEST_WAIT));
        }
        let session = sent as usize % sessions.len();
        let reply = sessions[session].send_items(request.clone());
        dues[session].try_send((due, reply)).map_err(|_| anyhow::anyhow!("the cluster does not keep up"))?;
        sent += 1;
    }
}

async fn collect(mut replies: mpsc::Receiver<Due>, mut tally: Tally) -> Result<Tally> {
    while let Some((due, reply)) = replies.recv().await {
        reply.await?;
        tally.done(due, Instant::now());
    }
    Ok(tally)
}

/// Waits for the clock. A thread that is parked may wake early, hence the loop.
pub fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
