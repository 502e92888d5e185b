//! How long a host with a full store takes from its start until it holds every shard and is level with the others.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use conclave_client::Session;
use conclave_proto::v1::{NewItem, SendItemsRequest};
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use crate::bench::{Bench, SHARDS};
use crate::load::noise;
use crate::report::{Row, Target};

const STATE_BYTES: u64 = 1 << 30;
const ITEM_BYTES: usize = 128 << 10;
/// Rooms that the state is spread over.
const ROOMS: usize = 16;
/// Sends of a room in flight: 1 MiB, what a session takes.
const WINDOW: usize = 6;
const ROUNDS: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(120);
const READY_SECONDS: f64 = 10.0;

pub async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut filling = Vec::new();
    for room in 0..ROOMS {
        let session = bench.sessions(&format!("full-{room}"), 1).await?.pop().context("a session")?;
        filling.push(tokio::spawn(fill(session, room as u64)));
    }
    for room in filling {
        room.await??;
    }
    bench.all_caught_up().await?;
    let config = format!("state=1GiB,shards={SHARDS}");
    let mut rows = Vec::new();
    for (how, kill) in [("stopped", false), ("killed", true)] {
        let mut seconds = Vec::new();
        for _ in 0..ROUNDS {
            seconds.push(restart(bench, kill).await?.as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let state = bench.hosts_read().await?[0].families["state"].table_bytes;
        let detail = format!(
            "longest {:.2} s; {} MiB of items; state tables {} MiB",
            seconds[ROUNDS - 1],
            STATE_BYTES >> 20,
            state >> 20
        );
        rows.push(
            Row::new(&format!("restart to level, {how} host: median"), &config, seconds[ROUNDS / 2], "s")
                .detail(detail)
                .target(Target::AtMost(READY_SECONDS)),
        );
    }
    Ok(rows)
}

/// Sends this room's share; the bytes do not compress.
async fn fill(session: Session, room: u64) -> Result<()> {
    let mut flying = FuturesOrdered::new();
    let items = STATE_BYTES / ROOMS as u64 / ITEM_BYTES as u64;
    for item in 0..items {
        let body = noise(room << 32 | item, ITEM_BYTES);
        flying.push_back(session.send_items(SendItemsRequest {
            parent: format!("rooms/full-{room}/queues/items"),
            items: vec![NewItem { body, ..Default::default() }],
            ..Default::default()
        }));
        if flying.len() == WINDOW {
            flying.next().await.context("a reply")??;
        }
    }
    while let Some(reply) = flying.next().await {
        reply?;
    }
    session.close().await;
    Ok(())
}

async fn restart(bench: &mut Bench, kill: bool) -> Result<Duration> {
    let victim = 0;
    if kill {
        bench.cluster.kill_host(victim)?;
    } else {
        bench.cluster.stop_host(victim).await?;
    }
    let begun = Instant::now();
    bench.cluster.start_host(victim)?;
    tokio::time::timeout(READY_WITHIN, bench.all_caught_up())
        .await
        .context("the host does not come back in time")??;
    Ok(begun.elapsed())
}
