//! Receive and confirmed ack: consumers empty a queue that was filled before.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use conclave_client::{Reply, Session};
use conclave_proto::v1::ack_deliveries_response::Result as Acked;
use conclave_proto::v1::{AckDeliveriesRequest, AckDeliveriesResponse, ReceiveItemsRequest, SendItemsResponse};
use tokio::time::Instant;

use crate::bench::{Bench, ROUNDS, Span};
use crate::load::{Bodies, Payload, Progress, Tally, request_of};
use crate::probe::{Budget, Round, median};
use crate::report::Row;

pub const WORK: &str = "receive and ack 128B";
const ROOM: &str = "receive";
pub const CONSUMERS: usize = 4;
/// Most that a receive returns.
pub const BATCH: usize = 128;
/// A round ends when these are acknowledged.
pub const ITEMS: usize = 400 * BATCH;
/// Acks of one consumer that may be under way while it receives on.
const ACKS_IN_FLIGHT: usize = 1;
pub const LONGEST_ROUND: Duration = Duration::from_secs(60);

const BUDGET: Budget = Budget { cpu_us: &[], all_cpu_us: None, fsyncs: None, operations: Some(8.0) };

pub async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for index in 0..ROUNDS {
        rounds.push(round(bench, &format!("items-{index}"), Payload::Same).await?);
    }
    let round = median(rounds);
    let config = config();
    let detail = format!("consumers={CONSUMERS}; ack confirmed; latency of the ack; {}", round.conditions());
    let mut rows = vec![Row::new(WORK, &config, round.rate(), "op/s").latency(&round.latency_us).detail(detail)];
    rows.extend(round.costs(WORK, &config, &BUDGET));
    Ok(rows)
}

pub fn config() -> String {
    format!("batch={BATCH},128B")
}

/// Fills a queue, and has the consumers empty it.
pub async fn round(bench: &Bench, queue: &str, payload: Payload) -> Result<Round> {
    let mut sessions = bench.sessions(ROOM, CONSUMERS + 1).await?;
    if let Some(sender) = sessions.pop() {
        fill(sender, ROOM, queue, ITEMS, payload).await?;
    }
    let leader = bench.cluster.leader_of(ROOM).await?;
    let begun = Instant::now();
    let span = Span { from: begun, until: begun + LONGEST_ROUND };
    let mut tally = Tally::new(span, Progress::default());
    let probe = bench.probe(&tally, leader).await?;
    let parent = format!("rooms/{ROOM}/queues/{queue}");
    let consumers = sessions.into_iter().map(|session| consume(session, parent.clone(), ITEMS, tally.clone()));
    let tallies = futures::future::try_join_all(consumers).await?;
    let used = probe.end().await?;
    for other in &tallies {
        tally.add(other);
    }
    ensure!(used.operations == ITEMS as u64, "{} of {ITEMS} items were acknowledged", used.operations);
    Ok(Round { latency_us: tally.latency_us, used })
}

/// Sends so many items, a batch at a time.
pub async fn fill(sender: Session, room: &str, queue: &str, items: usize, payload: Payload) -> Result<()> {
    /// Batches under way; a session's window holds no more bytes.
    const IN_FLIGHT: usize = 32;
    let mut flying: VecDeque<Reply<SendItemsResponse>> = VecDeque::with_capacity(IN_FLIGHT);
    let mut bodies = Bodies::of(payload);
    for sent in (0..items).step_by(BATCH) {
        if flying.len() == IN_FLIGHT
            && let Some(oldest) = flying.pop_front()
        {
            oldest.await?;
        }
        flying.push_back(sender.send_items(request_of(room, queue, BATCH.min(items - sent), &mut bodies)));
    }
    for reply in flying {
        reply.await?;
    }
    sender.close().await;
    Ok(())
}

/// Receives and acknowledges until the consumers together have so many, or the round has lasted too long. They may go
/// beyond by what they have under way.
pub async fn consume(session: Session, parent: String, items: usize, mut tally: Tally) -> Result<Tally> {
    let receive = ReceiveItemsRequest {
        parent: parent.clone(),
        max_items: BATCH as u32,
        wait: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        ..Default::default()
    };
    let mut flying = VecDeque::new();
    while tally.done_by_all() < items as u64 && Instant::now() < tally.span.until {
        let received = session.receive_items(receive.clone()).await?;
        let spared = if received.deliveries.is_empty() { 0 } else { ACKS_IN_FLIGHT };
        if !received.deliveries.is_empty() {
            let deliveries = received.deliveries.into_iter().filter_map(|delivery| delivery.id).collect();
            let ack = AckDeliveriesRequest { parent: parent.clone(), deliveries, ..Default::default() };
            flying.push_back((Instant::now(), session.ack_deliveries(ack)));
        }
        while flying.len() > spared {
            confirm(&mut flying, &mut tally).await?;
        }
    }
    while !flying.is_empty() {
        confirm(&mut flying, &mut tally).await?;
    }
    session.close().await;
    Ok(tally)
}

async fn confirm(flying: &mut VecDeque<(Instant, Reply<AckDeliveriesResponse>)>, tally: &mut Tally) -> Result<()> {
    let Some((begun, reply)) = flying.pop_front() else { return Ok(()) };
    let reply = reply.await?;
    let now = Instant::now();
    for result in reply.results {
        ensure!(result == Acked::Acked as i32, "a delivery was {:?}, not acked", Acked::try_from(result));
        tally.done(begun, now);
    }
    Ok(())
}
