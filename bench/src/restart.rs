//! How long a host with much state takes from its start until it serves again.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use conclave_client::Session;
use conclave_proto::v1::{NewItem, SendItemsRequest};
use conclave_tests::cluster::eventually;
use conclave_tests::status;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::bench::{Bench, HOSTS};
use crate::report::{Row, Target};

const GIB: u64 = 1 << 30;
/// Items are as large as a frame lets three of them be.
const ITEM_BYTES: usize = 250 << 10;
const ITEMS: usize = 3;
/// Over several shards, as state lies in use.
const ROOMS: usize = 16;
const RESTARTS: usize = 3;
const READY_MS: f64 = 10_000.0;

/// Fills the hosts with 1 GiB each, then kills one after the other and measures from its start to the moment at which
/// every replica on it has applied what it had applied before.
pub async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    fill(bench).await?;
    let mut longest: f64 = 0.0;
    let mut all = Vec::new();
    for restart in 0..RESTARTS {
        let host = restart % HOSTS;
        let before = applied(bench, host).await?;
        bench.cluster.kill_host(host)?;
        let begun = Instant::now();
        bench.cluster.start_host(host)?;
        eventually("a host that is back", || async {
            let now = applied(bench, host).await?;
            let lacking = before.iter().find(|(shard, reached)| now.get(shard).is_none_or(|now| now < reached));
            anyhow::ensure!(lacking.is_none(), "shard {lacking:?} is not there yet");
            Ok(())
        })
        .await?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        all.push(format!("{ms:.0}"));
        longest = longest.max(ms);
    }
    let detail = format!("SIGKILL; {RESTARTS} restarts of {} ms", all.join(", "));
    let row = Row::new("restart, start to ready: longest", "state=1GiB", longest, "ms");
    Ok(vec![row.target(Target::AtMost(READY_MS)).detail(detail)])
}

/// What each replica on a host has applied, by shard.
async fn applied(bench: &Bench, host: usize) -> Result<BTreeMap<u32, u64>> {
    let status = status::of_host(&bench.cluster, host).await?;
    Ok(status.shards.iter().map(|shard| (shard.shard, shard.applied_index.unwrap_or_default())).collect())
}

async fn fill(bench: &Bench) -> Result<()> {
    let mut filling = FuturesUnordered::new();
    let each = GIB / (ROOMS * ITEMS * ITEM_BYTES) as u64 + 1;
    for room in 0..ROOMS {
        let name = format!("state-{room}");
        let session = bench.sessions(&name, 1).await?.pop().context("a session")?;
        filling.push(fill_room(session, name, each));
    }
    while let Some(filled) = filling.next().await {
        filled?;
    }
    Ok(())
}

async fn fill_room(session: Session, room: String, sends: u64) -> Result<()> {
    for send in 0..sends {
        let items =
            (0..ITEMS).map(|item| NewItem { body: body(send * ITEMS as u64 + item as u64), ..Default::default() });
        let request = SendItemsRequest {
            parent: format!("rooms/{room}/queues/state"),
            items: items.collect(),
            ..Default::default()
        };
        session.send_items(request).await?;
    }
    session.close().await;
    Ok(())
}

/// Bytes that do not compress: state on disk is as large as it is said to be.
fn body(seed: u64) -> Bytes {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut body = Vec::with_capacity(ITEM_BYTES);
    while body.len() < ITEM_BYTES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        body.extend_from_slice(&random.to_le_bytes());
    }
    body.into()
}
