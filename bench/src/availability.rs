//! How long writes stand still when a leader is lost, and when it hands over.
//!
//! Each room has a writer with one durable send outstanding; a round's figure is, for each room, the longest time
//! between two acknowledgements around the event. What a room waits is what its users see: election, the gateway's
//! finding of the new leader and the resend are all in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use conclave_client::Session;
use conclave_tests::alone::reach;
use conclave_tests::progress::Progress;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::bench::{Bench, HOSTS, SHARDS};
use crate::load::{LONGEST_US, request};
use crate::report::{Row, Target};

/// Rooms that are written to; their shards differ for nearly all names.
const ROOMS: usize = 8;
const KILLS: usize = 30;
const TRANSFERS: usize = 12;
/// Acknowledgements of every room before the event and after it.
const BEFORE: u64 = 50;
const AFTER: u64 = 50;
const QUEUE: &str = "items";
/// A round that takes longer than this has lost a room.
const ROUND_WITHIN: Duration = Duration::from_secs(60);

const KILL_MEDIAN_MS: f64 = 2_000.0;
const KILL_P99_MS: f64 = 3_000.0;
const TRANSFER_MS: f64 = 100.0;

/// SIGKILL of the host that leads the first room, many times.
pub async fn failover(bench: &mut Bench) -> Result<Vec<Row>> {
    let pauses = rounds(bench, KILLS, Event::Kill).await?;
    let ms = |quantile| pauses.value_at_quantile(quantile) as f64 / 1e3;
    let config = format!("shards={SHARDS},rooms led there");
    let detail = format!("{} rooms in {KILLS} kills; longest {:.0} ms", pauses.len(), ms(1.0));
    Ok(vec![
        Row::new("leader killed, pause of writes: median", &config, ms(0.5), "ms")
            .latency(&pauses)
            .detail(detail)
            .target(Target::AtMost(KILL_MEDIAN_MS)),
        Row::new("leader killed, pause of writes: p99", &config, ms(0.99), "ms").target(Target::AtMost(KILL_P99_MS)),
    ])
}

/// SIGTERM to the host that leads the first room: it hands its leaderships over before it ends.
pub async fn transfer(bench: &mut Bench) -> Result<Vec<Row>> {
    let pauses = rounds(bench, TRANSFERS, Event::Stop).await?;
    let ms = |quantile| pauses.value_at_quantile(quantile) as f64 / 1e3;
    let config = format!("shards={SHARDS},rooms led there");
    let detail = format!("{} rooms in {TRANSFERS} stops; longest {:.1} ms", pauses.len(), ms(1.0));
    Ok(vec![
        Row::new("planned transfer, pause of writes: median", &config, ms(0.5), "ms").latency(&pauses).detail(detail),
        Row::new("planned transfer, pause of writes: p99", &config, ms(0.99), "ms").target(Target::AtMost(TRANSFER_MS)),
    ])
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Kill,
    Stop,
}

async fn rounds(bench: &mut Bench, count: usize, event: Event) -> Result<Histogram<u64>> {
    let mut pauses = Histogram::new_with_bounds(1, LONGEST_US, 3)?;
    for number in 0..count {
        let round = tokio::time::timeout(ROUND_WITHIN, round(bench, number, event)).await;
        for pause in round.with_context(|| format!("round {number}: a room stands still"))?? {
            pauses.saturating_record(pause.as_micros() as u64);
        }
    }
    Ok(pauses)
}

/// The longest pause of each room that the host led.
async fn round(bench: &mut Bench, number: usize, event: Event) -> Result<Vec<Duration>> {
    let mut writers = Vec::new();
    for room in 0..ROOMS {
        writers.push(Writer::start(bench, &format!("available-{room}")).await?);
    }
    for writer in &writers {
        reach(&writer.progress(), BEFORE).await;
    }
    let victim = bench.cluster.leader_of(&writers[number % ROOMS].room).await?;
    let mut struck = Vec::new();
    for writer in &writers {
        if bench.cluster.leader_of(&writer.room).await? == victim {
            struck.push(writer);
        }
    }
    struck.iter().for_each(|writer| writer.begin_anew());
    match event {
        Event::Kill => bench.cluster.kill_host(victim)?,
        Event::Stop => bench.cluster.stop_host(victim).await?,
    }
    let mut pauses = Vec::new();
    for writer in &struck {
        let progress = writer.progress();
        reach(&progress, progress.events() + AFTER).await;
        pauses.push(progress.longest_gap().0);
    }
    for writer in writers {
        writer.end().await?;
    }
    bench.cluster.start_host(victim)?;
    bench.all_caught_up().await?;
    Ok(pauses)
}

/// One session with one send outstanding.
struct Writer {
    room: String,
    progress: Arc<Mutex<Arc<Progress>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Writer {
    async fn start(bench: &Bench, room: &str) -> Result<Writer> {
        let session = bench.sessions(room, 1).await?.pop().context("a session")?;
        let progress = Arc::new(Mutex::new(Arc::new(Progress::begin())));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(session, room.to_owned(), progress.clone(), stop.clone()));
        Ok(Writer { room: room.to_owned(), progress, stop, task })
    }

    fn progress(&self) -> Arc<Progress> {
        self.progress.lock().clone()
    }

    /// Counts from now on; the time to the next acknowledgement is the first that counts.
    fn begin_anew(&self) {
        *self.progress.lock() = Arc::new(Progress::begin());
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn write(
    session: Session,
    room: String,
    progress: Arc<Mutex<Arc<Progress>>>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let request = request(&room, QUEUE, 1);
    while !stop.load(Ordering::Relaxed) {
        session.send_items(request.clone()).await?;
        progress.lock().note(1);
    }
    session.close().await;
    Ok(())
}

/// All hosts hold every shard, one leads each, and nobody is behind.
pub fn is_level(positions: &[std::collections::BTreeMap<u32, Option<u64>>], led: usize) -> bool {
    let whole = positions.iter().all(|shards| shards.len() == usize::from(SHARDS));
    positions.len() == HOSTS && whole && led == usize::from(SHARDS) && positions.windows(2).all(|two| two[0] == two[1])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn hosts_are_level_when_all_applied_the_same() {
        let host = |applied| (0..u32::from(SHARDS)).map(|shard| (shard, Some(applied))).collect::<BTreeMap<_, _>>();
        let shards = usize::from(SHARDS);
        assert!(is_level(&[host(4), host(4), host(4)], shards));
        assert!(!is_level(&[host(4), host(3), host(4)], shards));
        assert!(!is_level(&[host(4), host(4)], shards));
        assert!(!is_level(&[host(4), host(4), host(4)], shards - 1));
    }
}
