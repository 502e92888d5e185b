//! Wall clocks that jump by two hours: no lease ends early or late by more than two seconds, and nobody else is hit.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use conclave_client::Client;
use conclave_proto::v1::{NewItem, ReceiveItemsRequest, SendItemsRequest};
use conclave_tests::site::{Clocks, Disks, Layout, Wires};

use super::scene::{HOSTS, MEND_WITHIN, SHARDS, Scene, play};

const LAYOUT: Layout =
    Layout { hosts: HOSTS, shards: SHARDS, disks: Disks::Shared, wires: Wires::Loopback, clocks: Clocks::OfTheirOwn };

const TWO_HOURS: i64 = 7_200;
/// Long enough to tell a lease that ends early from one that ends in time.
const LEASE: Duration = Duration::from_secs(5);
/// How far off a lease may be.
const OFF: Duration = Duration::from_secs(2);
/// When the jump comes after the lease began.
const JUMP_AFTER: Duration = Duration::from_millis(500);
const DAY: i64 = 86_400;
const WAIT: Duration = Duration::from_secs(20);

#[test]
fn a_clock_that_jumps_moves_no_lease() {
    play("clocks::a_clock_that_jumps_moves_no_lease", LAYOUT, async |scene| {
        let client = scene.site.cluster().client_with_room("consumer", "timed").await?;
        scene.evidence.require("a host lived in another time", 2);
        for seconds in [TWO_HOURS, -TWO_HOURS] {
            let host = scene.site.cluster().leader_of("timed").await?;
            let off = lease_over_a_jump(scene, &client, host, seconds).await?;
            scene.evidence.fact(format!("a lease over a jump to {seconds} s"), format!("{off:?} off"));
            scene.flows().await?;
            // What it logs as it ends shows by which clock it lived. It starts by that clock too.
            scene.site.cluster_mut().stop_host(host).await?;
            lived_at(&scene.site.cluster().host_log(host), seconds)?;
            scene.evidence.saw("a host lived in another time");
            scene.site.start_host(host)?;
            scene.site.become_whole(MEND_WITHIN).await?;
            let off = lease_over_a_jump(scene, &client, host, 0).await?;
            scene.evidence.fact(format!("a lease over a jump back from {seconds} s"), format!("{off:?} off"));
            scene.flows().await?;
        }
        Ok(())
    });
}

/// Fails unless the last line of a log was written about so many seconds from now.
fn lived_at(log: &str, seconds: i64) -> Result<()> {
    let line = log.lines().last().context("an empty log")?;
    let time =
        line.split_once('T').and_then(|(_, rest)| rest.get(..8)).with_context(|| format!("no time in {line}"))?;
    let mut of_day = 0;
    for part in time.split(':') {
        of_day = of_day * 60 + part.parse::<i64>().with_context(|| format!("no time in {line}"))?;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() as i64;
    let off = (of_day - now - seconds).rem_euclid(DAY);
    ensure!(off.min(DAY - off) <= 60, "not enough evidence: a jump of {seconds} s does not show in {line}");
    Ok(())
}

/// How far from its time a lease ended.
async fn lease_over_a_jump(scene: &mut Scene, client: &Client, host: usize, to: i64) -> Result<Duration> {
    let queue = "rooms/timed/queues/jobs";
    let items = vec![NewItem { body: to.to_string().into(), ..Default::default() }];
    client.send_items(SendItemsRequest { parent: queue.into(), items, ..Default::default() }).await?;
    let receive = |wait: Duration, lease: Duration| async move {
        let request = ReceiveItemsRequest {
            parent: queue.into(),
            max_items: 1,
            wait: Some(wait.try_into()?),
            lease: Some(lease.try_into()?),
            ..Default::default()
        };
        client.receive_items(request).await?.deliveries.into_iter().next().context("no delivery in time")
    };
    let first = receive(WAIT, LEASE).await?;
    let began = Instant::now();
    // The jump comes in the middle of the lease.
    tokio::time::sleep(JUMP_AFTER).await;
    scene.site.jump_clock(host, to)?;
    // The second one is kept: later items are behind it.
    let second = receive(WAIT, Duration::from_secs(3_600)).await?;
    let took = began.elapsed();
    ensure!(first.body == second.body, "another item came: {second:?}");
    ensure!(first.id.map(|id| id.item) == second.id.map(|id| id.item), "{second:?}");
    let off = took.abs_diff(LEASE);
    ensure!(off <= OFF, "a lease of {LEASE:?} ended after {took:?}, while the clock of host {host} jumped to {to} s");
    Ok(off)
}
