//! A million items waiting: what a receive takes beside them, and what is left on disk when nine of ten are acked.
//!
//! The queue keeps its length while receives are timed: for each item that is received and acked, one is sent. Queues of
//! both lengths are in one cluster and are timed in turn, so that neither has the quieter machine; the short one is
//! timed once more before the long one is there, because a store that is slow for all would not show in the ratio.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_client::Session;
use conclave_proto::v1::{AckDeliveriesRequest, ReceiveItemsRequest};
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{Bench, HOSTS, Span};
use crate::host_status::Counters;
use crate::load::{Bodies, ITEM_BYTES, LONGEST_US, Payload, Progress, Tally, request_of};
use crate::ratio::{Ratios, median};
use crate::receive::{BATCH, CONSUMERS, consume, fill};
use crate::report::{Row, Target};
use crate::usage::{MachineUsage, Usage};

const RECEIVE: &str = "receive one item";
const STATE: &str = "nine of ten acked, state on disk";
const QUEUE: &str = "items";
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// Of these, and with the long queue.
const ROUNDS: usize = 5;

/// Filling and draining a million; a cluster that needs longer has stopped.
const LONGEST_WORK: Duration = Duration::from_secs(15 * 60);
/// How long the store may go on compacting, and how long nothing may change until it counts as done.
const SETTLED_WITHIN: Duration = Duration::from_secs(4 * 60);
const SETTLED_AFTER: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_secs(2);
/// How long acknowledgements are remembered so that a repeated one is told that it was the second, and what the
/// forgetting may take beyond that.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(60);

const P99_RATIO: f64 = 1.2;
const STATE_RATIO: f64 = 1.3;
const KEPT_LOG_MIB: f64 = 64.0;

pub async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (few, many) = (format!("waiting={FEW}"), format!("waiting={MANY}"));
    filled(bench, "few", FEW).await?;
    let alone = vec![timed(bench, "few").await?, timed(bench, "few").await?, timed(bench, "few").await?];

    let before = bench.hosts_read().await?;
    let filling = timeout(LONGEST_WORK, filled(bench, "many", MANY)).await.context("the queue does not fill")?;
    filling?;
    let given = grown(&bench.hosts_read().await?, &before);
    settled(bench).await?;

    let (mut short, mut long) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        short.push(timed(bench, "few").await?);
        long.push(timed(bench, "many").await?);
    }
    let mut rows = vec![
        latency(&format!("{RECEIVE}, no long queue in the cluster"), &few, &alone),
        latency(RECEIVE, &few, &short),
        latency(RECEIVE, &many, &long),
    ];
    let ratios = Ratios::of(p99s(&long), p99s(&short));
    let work = format!("{RECEIVE}: p99, ratio of {MANY} to {FEW} waiting");
    rows.push(Row::new(&work, &many, ratios.median(), "x").detail(ratios.each()).target(Target::AtMost(P99_RATIO)));

    let before = bench.hosts_read().await?;
    let left = MANY - drained(bench, MANY / 10 * 9).await?;
    let (acked, entries) = (Instant::now(), grown(&bench.hosts_read().await?, &before));
    let live: Vec<f64> = given.iter().map(|host| state_bytes_given(host) * left as f64 / MANY as f64).collect();
    let settled_in = settled(bench).await?;
    rows.extend(on_disk(bench, &live, left, &format!("acks remembered; settled in {settled_in}")).await?);
    rows.push(kept_log(bench, &entries).await?);
    tokio::time::sleep_until(acked + REMEMBERED + FORGOTTEN_WITHIN).await;
    let settled_in = settled(bench).await?;
    rows.extend(on_disk(bench, &live, left, &format!("acks forgotten; settled in {settled_in}")).await?);
    Ok(rows)
}

/// Fills the queue of a room.
async fn filled(bench: &Bench, room: &str, items: usize) -> Result<()> {
    let sender = bench.sessions(room, 1).await?.pop().context("a session")?;
    fill(sender, room, QUEUE, items, Payload::Noise).await
}

/// How long receives took in a round, and how disturbed it was.
struct Timed {
    latency_us: Histogram<u64>,
    others: f64,
}

/// One receive at a time; what it takes is acked and replaced before the next.
async fn timed(bench: &Bench, room: &str) -> Result<Timed> {
    let session = bench.sessions(room, 1).await?.pop().context("a session")?;
    let mut tally = Tally::new(Span::after_warm_up()?, Progress::default());
    let processes = bench.processes(None)?;
    let mut readings = None;
    let mut bodies = Bodies::of(Payload::Noise);
    while Instant::now() < tally.span.until {
        if readings.is_none() && tally.span.holds(Instant::now()) {
            readings = Some((Usage::read(&processes)?, MachineUsage::read()?));
        }
        receive_one(&session, room, &mut bodies, &mut tally).await?;
    }
    session.close().await;
    let (usage, machine) = readings.context("the round passed within one receive")?;
    let own = usage.since()?.iter().map(|(_, seconds)| seconds).sum();
    Ok(Timed { latency_us: tally.latency_us, others: machine.share_of_others(own)? })
}

async fn receive_one(session: &Session, room: &str, bodies: &mut Bodies, tally: &mut Tally) -> Result<()> {
    let parent = format!("rooms/{room}/queues/{QUEUE}");
    let begun = Instant::now();
    let received =
        session.receive_items(ReceiveItemsRequest { parent: parent.clone(), max_items: 1, ..Default::default() });
    let received = received.await?;
    tally.done(begun, Instant::now());
    ensure!(received.deliveries.len() == 1, "{} items came where one was asked for", received.deliveries.len());
    let sent = session.send_items(request_of(room, QUEUE, 1, bodies));
    let deliveries = received.deliveries.into_iter().filter_map(|delivery| delivery.id).collect();
    session.ack_deliveries(AckDeliveriesRequest { parent, deliveries, ..Default::default() }).await?;
    sent.await?;
    Ok(())
}

/// The rounds together, with the middle p99.
fn latency(work: &str, config: &str, rounds: &[Timed]) -> Row {
    let mut all = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
    for round in rounds {
        all.add(&round.latency_us).expect("the bounds are the same");
    }
    let others = rounds.iter().map(|round| round.others).fold(0.0, f64::max);
    let each: Vec<_> = p99s(rounds).map(|p99| format!("{p99:.2}")).collect();
    let detail = format!("p99 of rounds {}; others took up to {:.0}% of the machine", each.join(" "), others * 100.0);
    Row::new(&format!("{work}: p99"), config, median(p99s(rounds)), "ms").latency(&all).detail(detail)
}

fn p99s(rounds: &[Timed]) -> impl Iterator<Item = f64> {
    rounds.iter().map(|round| round.latency_us.value_at_quantile(0.99) as f64 / 1e3)
}

/// Receives and acks at least so many of the long queue; returns how many.
async fn drained(bench: &Bench, items: usize) -> Result<usize> {
    let sessions = bench.sessions("many", CONSUMERS).await?;
    let span = Span { from: Instant::now(), until: Instant::now() + LONGEST_WORK };
    let tally = Tally::new(span, Progress::default());
    let parent = format!("rooms/many/queues/{QUEUE}");
    // What is under way when the others are done is acked too.
    let enough = items - CONSUMERS * BATCH;
    let consumers = sessions.into_iter().map(|session| consume(session, parent.clone(), enough, tally.clone()));
    futures::future::try_join_all(consumers).await?;
    let acked = tally.done_by_all() as usize;
    ensure!(acked >= enough, "{acked} of {items} items were acknowledged");
    Ok(acked)
}

fn grown(now: &[Counters], before: &[Counters]) -> Vec<Counters> {
    now.iter().zip(before).map(|(now, before)| now.since(before)).collect()
}

/// Keys and values given to the state family. Of items that are only sent, nearly all of it lives on.
fn state_bytes_given(host: &Counters) -> f64 {
    host.families.get("state").map_or(0.0, |family| family.written_bytes as f64)
}

fn state_bytes_on_disk(host: &Counters) -> u64 {
    host.families.get("state").map_or(0, |family| family.table_bytes)
}

/// Waits until the tables have stopped changing, or have had long enough to; returns which, in words.
async fn settled(bench: &Bench) -> Result<String> {
    bench.all_caught_up().await?;
    let begun = Instant::now();
    let (mut last, mut since) = (Vec::new(), begun);
    while begun.elapsed() < SETTLED_WITHIN {
        let now: Vec<u64> = bench.hosts_read().await?.iter().map(state_bytes_on_disk).collect();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() >= SETTLED_AFTER {
            return Ok(format!("{} s", (since - begun).as_secs()));
        }
        sleep(POLL).await;
    }
    Ok(format!("no less than {} s", SETTLED_WITHIN.as_secs()))
}

/// What the host with the worst ratio keeps of its state, and the largest data folder.
async fn on_disk(bench: &Bench, live: &[f64], left: usize, when: &str) -> Result<Vec<Row>> {
    let hosts = bench.hosts_read().await?;
    let ratio = |(host, live): (&Counters, &f64)| state_bytes_on_disk(host) as f64 / live;
    let ratios: Vec<f64> = hosts.iter().zip(live).map(ratio).collect();
    let mib = |bytes: f64| bytes / (1 << 20) as f64;
    let tables: Vec<_> = hosts.iter().map(|host| format!("{:.1}", mib(state_bytes_on_disk(host) as f64))).collect();
    let live_mib = mib(median(live.iter().copied()));
    let payload_mib = mib((left * ITEM_BYTES) as f64);
    let detail = format!(
        "{when}; tables {} MiB, live {live_mib:.1} MiB: {left} items with {payload_mib:.1} MiB of payload",
        tables.join(" ")
    );
    let folders = (0..HOSTS).map(|host| folder_bytes(&bench.cluster.data_folder(host)));
    let folders = folders.collect::<Result<Vec<u64>>>()?;
    let largest = mib(folders.into_iter().max().unwrap_or(0) as f64);
    let config = format!("sent={MANY}");
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let state = Row::new(&format!("{STATE}: ratio to live data"), &config, worst, "x").detail(detail);
    let folder = Row::new(&format!("{STATE}: largest data folder"), &config, largest, "MiB");
    let folder = folder.detail(format!("{when}; with the kept log, the WAL and a room of {FEW} items"));
    Ok(vec![state.target(Target::AtMost(STATE_RATIO)), folder])
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        // A compaction may delete a file between listing and looking.
        let Ok(found) = entry.metadata() else { continue };
        bytes += if found.is_dir() { folder_bytes(&entry.path())? } else { found.blocks() * BLOCK_BYTES };
    }
    Ok(bytes)
}

/// The longest log that any host keeps of a shard: entries that are there, each as long as those of the drain, which
/// were the last, are on average.
async fn kept_log(bench: &Bench, drain: &[Counters]) -> Result<Row> {
    let hosts = bench.hosts_read().await?;
    let kept = |host: &Counters| host.logs.values().map(|log| log.kept).max().unwrap_or(0);
    let bytes: Vec<f64> = hosts.iter().zip(drain).map(|(now, drain)| kept(now) as f64 * entry_bytes(drain)).collect();
    let entries: Vec<_> = hosts.iter().map(|host| kept(host).to_string()).collect();
    let detail = format!("estimated: {} entries kept, {:.0} B each", entries.join(" "), entry_bytes(&drain[0]));
    let largest = bytes.into_iter().fold(0.0, f64::max) / (1 << 20) as f64;
    let row = Row::new("nine of ten acked, kept log of the shard", &format!("sent={MANY}"), largest, "MiB");
    Ok(row.detail(detail).target(Target::AtMost(KEPT_LOG_MIB)))
}

/// Mean length of the entries of all shards together.
fn entry_bytes(grown: &Counters) -> f64 {
    let entries: u64 = grown.logs.values().map(|log| log.appended).sum();
    let bytes = grown.families.get("log").map_or(0, |family| family.written_bytes);
    bytes as f64 / entries.max(1) as f64
}
