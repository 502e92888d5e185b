//! Wall clocks that jump by two hours: no lease ends early or late by more than two seconds, and nobody else is hit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conclave_client::Client;
use conclave_proto::v1::{NewItem, ReceiveItemsRequest, SendItemsRequest};
use conclave_tests::site::{Clocks, Disks, Layout, Wires};

use super::scene::{HOSTS, SHARDS, Scene, play};

const LAYOUT: Layout =
    Layout { hosts: HOSTS, shards: SHARDS, disks: Disks::Shared, wires: Wires::Loopback, clocks: Clocks::OfTheirOwn };

const TWO_HOURS: i64 = 7_200;
/// Long enough to tell a lease that ends early from one that ends in time.
const LEASE: Duration = Duration::from_secs(5);
/// How far off a lease may be.
const OFF: Duration = Duration::from_secs(2);
/// When the jump comes after the lease began.
const JUMP_AFTER: Duration = Duration::from_millis(500);
const WAIT: Duration = Duration::from_secs(20);

#[test]
fn a_clock_that_jumps_moves_no_lease() {
    play("clocks::a_clock_that_jumps_moves_no_lease", LAYOUT, async |scene| {
        let client = scene.site.cluster().client_with_room("consumer", "timed").await?;
        scene.evidence.require("host noticed that its clock is wrong", 2);
        for seconds in [TWO_HOURS, -TWO_HOURS] {
            let leader = scene.site.cluster().leader_of("timed").await?;
            // There and back again, each time with a lease that runs.
            for (to, what) in [(seconds, "jump"), (0, "jump back")] {
                let off = lease_over_a_jump(scene, &client, leader, to).await?;
                scene.evidence.saw(what);
                scene.evidence.fact(format!("lease over a jump to {to} s from {seconds}"), format!("{off:?} off"));
                scene.flows().await?;
            }
            let log = scene.site.cluster().host_log(leader);
            ensure!(log.contains("wall clock is far from"), "host {leader} never saw another time");
            scene.evidence.saw("host noticed that its clock is wrong");
        }
        Ok(())
    });
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
