//! What a system must be able to do to be compared, and what all of them do alike.

use std::time::Duration;

use anyhow::{Result, ensure};
use conclave_bench::bench::Span;
use conclave_bench::load::{Progress, Sender, Tally, closed};
use conclave_bench::probe::{Probe, Round};
use conclave_bench::receive::{ITEMS, LONGEST_ROUND};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::work::Work;

/// Names and process ids, the generator among them.
pub type Processes = Vec<(String, u32)>;

/// A running system; dropping it ends its processes.
pub trait Cluster {
    async fn send(&self, queue: &str, clients: usize, window: usize) -> Result<Round>;

    async fn receive(&self, queue: &str) -> Result<Round>;
}

/// Has a cluster do a work. Each has a queue of its own.
pub async fn work(cluster: &impl Cluster, work: Work) -> Result<Round> {
    match work {
        Work::Send { clients, window } => cluster.send(&format!("send-{clients}-{window}"), clients, window).await,
        Work::Receive => cluster.receive("receive").await,
    }
}

/// A round of clients that keep their windows full.
pub async fn send_round<S: Sender + 'static>(clients: Vec<S>, window: usize, processes: Processes) -> Result<Round> {
    let mut tally = Tally::new(Span::after_warm_up()?, Progress::default());
    let send = |mut client: S| {
        let tally = tally.clone();
        tokio::spawn(async move { closed(&mut client, window, tally).await })
    };
    let tasks: Vec<_> = clients.into_iter().map(send).collect();
    let used = Probe::over_round(&[], processes, 0, &tally).await?;
    for task in tasks {
        tally.add(&task.await??);
    }
    Ok(Round { latency_us: tally.latency_us, used })
}

/// How long a queue is filled. Who is too slow for all of it has fewer to receive.
const FILLED_WITHIN: Duration = Duration::from_secs(30);
const FILL_WINDOW: usize = 1_024;

/// Fills a queue with what a receive round wants, or what there is time for; returns how many it got.
pub async fn fill(client: &mut impl Sender) -> Result<usize> {
    let until = Instant::now() + FILLED_WITHIN;
    let (mut flying, mut sent) = (FuturesOrdered::new(), 0);
    while sent < ITEMS && Instant::now() < until {
        if flying.len() == FILL_WINDOW
            && let Some(oldest) = flying.next().await
        {
            oldest?;
        }
        flying.push_back(client.send().await?);
        sent += 1;
    }
    while let Some(left) = flying.next().await {
        left?;
    }
    Ok(sent)
}

/// A consumer's part in a receive round.
pub struct Share {
    pub tally: Tally,
    items: usize,
    over: CancellationToken,
}

impl Share {
    /// An item is acknowledged; the last one ends the round for all.
    pub fn done(&mut self, begun: Instant) {
        self.tally.done(begun, Instant::now());
        if self.tally.done_by_all() >= self.items as u64 {
            self.over.cancel();
        }
    }

    /// Cancelled once all items are acknowledged.
    pub fn over(&self) -> CancellationToken {
        self.over.clone()
    }
}

/// Has consumers empty a queue of so many items.
pub async fn receive_round<C: Future<Output = Result<Share>> + Send + 'static>(
    consumers: impl IntoIterator<Item = impl FnOnce(Share) -> C>,
    items: usize,
    processes: Processes,
) -> Result<Round> {
    let begun = Instant::now();
    let mut tally = Tally::new(Span { from: begun, until: begun + LONGEST_ROUND }, Progress::default());
    let over = CancellationToken::new();
    let share = || Share { tally: tally.clone(), items, over: over.clone() };
    let probe = Probe::begin(&[], processes, 0, &tally).await?;
    let consuming: Vec<_> = consumers.into_iter().map(|consume| tokio::spawn(consume(share()))).collect();
    let consumed = tokio::time::timeout(LONGEST_ROUND, futures::future::try_join_all(consuming)).await;
    let used = probe.end().await?;
    ensure!(consumed.is_ok(), "{} of {items} items were acknowledged in time", used.operations);
    for share in consumed?? {
        tally.add(&share?.tally);
    }
    ensure!(tally.done_by_all() == items as u64, "{} acks for {items} items", tally.done_by_all());
    Ok(Round { latency_us: tally.latency_us, used })
}
