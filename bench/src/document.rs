//! Documents: a recorded paper typed edit by edit, and how soon another client has an update.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use conclave_client::{Reply, Session, Subscription, UpdateKind};
use conclave_document::Replica;
use conclave_proto::v1::{PushUpdateRequest, PushUpdateResponse, Subscribe};
use conclave_tests::editor::edit;
use conclave_tests::trace;
use conclave_types::YjsClient;
use conclave_workload::news::{Assembly, News, news};
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bench::{Bench, ROUNDS, Span};
use crate::load::{Progress, Tally};
use crate::open_loop::wait_until;
use crate::probe::{Budget, Round, median};
use crate::report::{Row, Target};

const TRACE: &str = "automerge-paper";
const STAND_IN_EDITS: usize = 260_000;
/// Updates that may be under way.
const IN_FLIGHT: usize = 1_000;
const LONGEST_ROUND: Duration = Duration::from_secs(120);

const PAPER: &str = "document update, recorded paper";
const PAPER_PER_SECOND: f64 = 30_000.0;

const ECHO: &str = "document update to another client";
const ECHO_PER_SECOND: u32 = 200;
const ECHO_P50_MS: f64 = 5.0;

/// The paper's updates, as its author's editor would have pushed them.
fn updates() -> Result<Arc<Vec<Bytes>>> {
    let trace = trace::load(TRACE, STAND_IN_EDITS)?;
    let mut replica = Replica::new(YjsClient(1));
    let updates = trace.transactions.iter().map(|transaction| edit(&mut replica, &transaction.patches));
    Ok(Arc::new(updates.collect::<Result<_>>()?))
}

/// The whole paper, edit by edit, 1,000 in flight: alone, and with a reader for whose last update the clock waits.
pub async fn paper(bench: &Bench) -> Result<Vec<Row>> {
    let updates = updates()?;
    let mut rows = Vec::new();
    for readers in [0, 1] {
        let mut rounds = Vec::with_capacity(ROUNDS);
        for index in 0..ROUNDS {
            rounds.push(paper_round(bench, &format!("paper-{readers}-{index}"), readers, updates.clone()).await?);
        }
        let round = median(rounds);
        let config = format!("in flight={IN_FLIGHT},readers={readers}");
        let detail = format!("{} edits; {}", updates.len(), round.conditions());
        let row = Row::new(PAPER, &config, round.rate(), "updates/s").latency(&round.latency_us).detail(detail);
        rows.push(if readers == 0 { row.target(Target::AtLeast(PAPER_PER_SECOND)) } else { row });
        rows.extend(round.costs(PAPER, &config, &Budget::default()));
    }
    Ok(rows)
}

async fn paper_round(bench: &Bench, room: &str, readers: usize, updates: Arc<Vec<Bytes>>) -> Result<Round> {
    let mut sessions = bench.sessions(room, readers + 1).await?;
    let author = sessions.pop().context("a session")?;
    let document = format!("rooms/{room}/documents/paper");
    let leader = bench.cluster.leader_of(room).await?;
    let mut reading = Vec::new();
    for session in &sessions {
        let subscription = session.subscribe(Subscribe { resource: document.clone(), ..Default::default() }).await?;
        reading.push(tokio::spawn(count(subscription, updates.len())));
    }
    let begun = Instant::now();
    let span = Span { from: begun, until: begun + LONGEST_ROUND };
    let mut tally = Tally::new(span, Progress::default());
    let probe = bench.probe(&tally, leader).await?;
    let typed = type_in(&author, &document, &updates, tally.clone()).await?;
    for reader in reading {
        reader.await??;
    }
    let used = probe.end().await?;
    tally.add(&typed);
    author.close().await;
    Ok(Round { latency_us: tally.latency_us, used })
}

type Pushing = (Instant, Reply<PushUpdateResponse>);

async fn type_in(author: &Session, document: &str, updates: &[Bytes], mut tally: Tally) -> Result<Tally> {
    let mut flying: VecDeque<Pushing> = VecDeque::with_capacity(IN_FLIGHT);
    for update in updates {
        if flying.len() == IN_FLIGHT {
            settle(&mut flying, &mut tally).await?;
        }
        let request = PushUpdateRequest { name: document.to_owned(), update: update.clone(), ..Default::default() };
        flying.push_back((Instant::now(), author.push_update(request)));
    }
    while !flying.is_empty() {
        settle(&mut flying, &mut tally).await?;
    }
    Ok(tally)
}

/// Waits for the oldest reply and takes those that came with it.
async fn settle(flying: &mut VecDeque<Pushing>, tally: &mut Tally) -> Result<()> {
    let Some((begun, oldest)) = flying.pop_front() else { return Ok(()) };
    oldest.await?;
    let now = Instant::now();
    tally.done(begun, now);
    while let Some(reply) = flying.front_mut().and_then(|(_, reply)| reply.now_or_never()) {
        reply?;
        if let Some((begun, _)) = flying.pop_front() {
            tally.done(begun, now);
        }
    }
    Ok(())
}

/// Reads until it has so many updates.
async fn count(mut subscription: Subscription, wanted: usize) -> Result<()> {
    let (mut seen, mut assembly) = (0, Assembly::default());
    while seen < wanted {
        let told = subscription.next().await.context("the document ended")??;
        if let News::Updates(updates) = news(told, &mut assembly)? {
            seen += updates.len();
        }
    }
    Ok(())
}

/// One client pushes at a fixed rate, another has the document open; latency counts from the intended time of the push
/// to the arrival at the other.
pub async fn echo(bench: &Bench) -> Result<Vec<Row>> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for index in 0..ROUNDS {
        rounds.push(echo_round(bench, &format!("echo-{index}")).await?);
    }
    rounds.sort_by_key(|round| round.latency_us.value_at_quantile(0.5));
    let round = rounds.swap_remove(ROUNDS / 2);
    let config = format!("rate={ECHO_PER_SECOND}/s");
    let p50_ms = round.latency_us.value_at_quantile(0.5) as f64 / 1e3;
    let mut rows = vec![
        Row::new(ECHO, &config, round.rate(), "updates/s").latency(&round.latency_us).detail(format!(
            "p90 {:.2} ms, longest {:.2} ms; {}",
            round.latency_us.value_at_quantile(0.9) as f64 / 1e3,
            round.latency_us.max() as f64 / 1e3,
            round.conditions()
        )),
        Row::new(&format!("{ECHO}: p50"), &config, p50_ms, "ms").target(Target::AtMost(ECHO_P50_MS)),
    ];
    rows.extend(round.costs(ECHO, &config, &Budget::default()));
    Ok(rows)
}

async fn echo_round(bench: &Bench, room: &str) -> Result<Round> {
    let mut sessions = bench.sessions(room, 2).await?;
    let (author, reader) = (sessions.pop().context("a session")?, sessions.pop().context("a session")?);
    let document = format!("rooms/{room}/documents/notes");
    let leader = bench.cluster.leader_of(room).await?;
    let subscription = reader.subscribe(Subscribe { resource: document.clone(), ..Default::default() }).await?;
    let mut tally = Tally::new(Span::after_warm_up()?, Progress::default());
    let (due, dues) = mpsc::channel(4_096);
    let hearing = tokio::spawn(hear(subscription, dues, tally.clone()));
    let until = tally.span.until;
    let pacer = thread::Builder::new().name("pacer".into());
    #[expect(clippy::disallowed_methods, reason = "a runtime that is busy would send late, and hide it")]
    let pacer = pacer.spawn(move || pace(author, &document, &due, until))?;
    let used = bench.watch(&tally, leader).await?;
    tally.add(&hearing.await??);
    let author = pacer.join().map_err(|_| anyhow::anyhow!("the pacing thread panicked"))??;
    drop((author, reader));
    Ok(Round { latency_us: tally.latency_us, used })
}

/// Pushes when it is time to; gives the session back, because dropping it would drop what is under way.
fn pace(author: Session, document: &str, due: &mpsc::Sender<Instant>, until: Instant) -> Result<Session> {
    let mut replica = Replica::new(YjsClient(7));
    let begun = Instant::now();
    let mut sent = 0;
    loop {
        let at = begun + Duration::from_secs(1) * sent / ECHO_PER_SECOND;
        if at >= until {
            return Ok(author);
        }
        wait_until(at);
        let update = edit(&mut replica, &[trace::Patch(sent as usize, 0, "x".into())])?;
        let request = PushUpdateRequest { name: document.to_owned(), update, ..Default::default() };
        // What comes of it, the other client sees.
        drop(author.push_update(request));
        due.try_send(at).map_err(|_| anyhow::anyhow!("the cluster does not keep up"))?;
        sent += 1;
    }
}

async fn hear(mut subscription: Subscription, mut dues: mpsc::Receiver<Instant>, mut tally: Tally) -> Result<Tally> {
    let mut assembly = Assembly::default();
    let mut seen = 0;
    while let Some(due) = dues.recv().await {
        while seen == 0 {
            let told = subscription.next().await.context("the document ended")??;
            ensure!(!matches!(told.kind, UpdateKind::Gap(_)), "the reader was too slow");
            if let News::Updates(updates) = news(told, &mut assembly)? {
                seen += updates.len();
            }
        }
        seen -= 1;
        tally.done(due, Instant::now());
    }
    Ok(tally)
}
