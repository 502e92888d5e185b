//! Receive and confirmed ack: consumers empty a queue that was filled before.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use conclave_client::{Reply, Session};
use conclave_proto::v1::ack_deliveries_response::Result as Acked;
use conclave_proto::v1::{
    AckDeliveriesRequest, AckDeliveriesResponse, ReceiveItemsRequest, SendItemsRequest, SendItemsResponse,
};
use tokio::time::Instant;

use crate::bench::{Bench, ROUNDS, Span};
use crate::load::{Progress, Tally, request};
use crate::probe::{Budget, Round, median};
use crate::report::Row;

const WORK: &str = "receive and ack 128B";
const ROOM: &str = "receive";
const CONSUMERS: usize = 4;
/// Most that a receive returns.
const BATCH: usize = 128;
/// A round ends when these are acknowledged.
const ITEMS: usize = 400 * BATCH;
/// Acks of one consumer that may be under way while it receives on.
const ACKS_IN_FLIGHT: usize = 1;
const LONGEST_ROUND: Duration = Duration::from_secs(60);

const BUDGET: Budget = Budget { cpu_us: &[], all_cpu_us: None, fsyncs: None, operations: Some(8.0) };

pub async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for index in 0..ROUNDS {
        rounds.push(round(bench, &format!("items-{index}")).await?);
    }
    let round = median(rounds);
    let config = format!("batch={BATCH},128B");
    let detail = format!("consumers={CONSUMERS}; ack confirmed; latency of the ack; {}", round.conditions());
    let mut rows = vec![Row::new(WORK, &config, round.rate(), "op/s").latency(&round.latency_us).detail(detail)];
    rows.extend(round.costs(WORK, &config, &BUDGET));
    Ok(rows)
}

async fn round(bench: &Bench, queue: &str) -> Result<Round> {
    let mut sessions = bench.sessions(ROOM, CONSUMERS + 1).await?;
    if let Some(sender) = sessions.pop() {
        fill(sender, request(ROOM, queue, BATCH)).await?;
    }
    let leader = bench.cluster.leader_of(ROOM).await?;
    let begun = Instant::now();
    let span = Span { from: begun, until: begun + LONGEST_ROUND };
    let mut tally = Tally::new(span, Progress::default());
    let probe = bench.probe(&tally, leader).await?;
    let parent = format!("rooms/{ROOM}/queues/{queue}");
    let consumers = sessions.into_iter().map(|session| consume(session, parent.clone(), tally.clone()));
    let tallies = futures::future::try_join_all(consumers).await?;
    let used = probe.end().await?;
    for other in &tallies {
        tally.add(other);
    }
    ensure!(used.operations == ITEMS as u64, "{} of {ITEMS} items were acknowledged", used.operations);
    Ok(Round { latency_us: tally.latency_us, used })
}

async fn fill(sender: Session, request: SendItemsRequest) -> Result<()> {
    /// Batches under way; a session's window holds no more bytes.
    const IN_FLIGHT: usize = 32;
    let mut flying: VecDeque<Reply<SendItemsResponse>> = VecDeque::with_capacity(IN_FLIGHT);
    for _ in 0..ITEMS / BATCH {
        if flying.len() == IN_FLIGHT
            && let Some(oldest) = flying.pop_front()
        {
            oldest.await?;
        }
        flying.push_back(sender.send_items(request.clone()));
    }
    for reply in flying {
        reply.await?;
    }
    sender.close().await;
    Ok(())
}

/// Receives and acknowledges until the consumers together have everything, or the round has lasted too long.
async fn consume(session: Session, parent: String, mut tally: Tally) -> Result<Tally> {
    let receive = ReceiveItemsRequest {
        parent: parent.clone(),
        max_items: BATCH as u32,
        wait: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        ..Default::default()
    };
    let mut flying = VecDeque::new();
    while tally.done_by_all() < ITEMS as u64 && Instant::now() < tally.span.until {
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
