//! Steady writers, one a room, and when each write was acknowledged: by that a pause is seen.
//!
//! A writer has one send under way and begins the next after a moment, so what stands between two acknowledgements is
//! the time that its client waited, and that moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use conclave_client::Session;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::bench::Bench;
use crate::load::request;

/// Between the beginnings of two sends of one writer.
pub const EVERY: Duration = Duration::from_millis(5);
/// Answers that were on their way when something was done arrive within this time.
const ON_ITS_WAY: Duration = Duration::from_millis(50);
const QUEUE: &str = "items";

pub struct Steady {
    pub rooms: Vec<String>,
    acknowledged: Vec<Arc<Mutex<Vec<Instant>>>>,
    stop: watch::Sender<bool>,
    writers: Vec<JoinHandle<Result<()>>>,
}

impl Steady {
    /// Begins to write in so many rooms.
    pub async fn start(bench: &Bench, rooms: usize) -> Result<Steady> {
        let (stop, stopped) = watch::channel(false);
        let rooms: Vec<String> = (0..rooms).map(|room| format!("steady-{room}")).collect();
        let (mut acknowledged, mut writers) = (Vec::new(), Vec::new());
        for room in &rooms {
            let session = bench.sessions(room, 1).await?.pop().context("a session")?;
            let times = Arc::new(Mutex::new(Vec::new()));
            acknowledged.push(times.clone());
            writers.push(tokio::spawn(write(session, room.clone(), times, stopped.clone())));
        }
        Ok(Steady { rooms, acknowledged, stop, writers })
    }

    /// Waits until the writer of a room has had an answer to a send that it began after this moment.
    pub async fn goes_on(&self, room: usize, after: Instant) {
        let mut looks = tokio::time::interval(EVERY);
        let after = after + ON_ITS_WAY;
        while self.acknowledged[room].lock().await.last().is_none_or(|last| *last <= after) {
            looks.tick().await;
        }
    }

    /// From `at` to the end of the longest pause that began around it.
    pub async fn resumed(&self, room: usize, at: Instant) -> Option<Duration> {
        let times = self.acknowledged[room].lock().await;
        let pauses = times.windows(2).filter(|pair| pair[1] > at && pair[0] <= at + ON_ITS_WAY);
        let longest = pauses.max_by_key(|pair| pair[1] - pair[0].max(at))?;
        Some(longest[1] - at)
    }

    /// The longest time without an acknowledgement between two moments.
    pub async fn longest_pause(&self, room: usize, from: Instant, until: Instant) -> Option<Duration> {
        let times = self.acknowledged[room].lock().await;
        let pauses = times.windows(2).filter(|pair| pair[1] > from && pair[0] < until);
        pauses.map(|pair| pair[1] - pair[0]).max()
    }

    pub async fn end(self) -> Result<()> {
        self.stop.send_replace(true);
        for writer in self.writers {
            writer.await??;
        }
        Ok(())
    }
}

async fn write(
    session: Session,
    room: String,
    times: Arc<Mutex<Vec<Instant>>>,
    stopped: watch::Receiver<bool>,
) -> Result<()> {
    let request = request(&room, QUEUE, 1);
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        turns.tick().await;
        session.send_items(request.clone()).await?;
        times.lock().await.push(Instant::now());
    }
    session.close().await;
    Ok(())
}
