//! Networks that drop packets: in both directions or in one, between all or between hosts alone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use conclave_tests::site::{Clocks, Disks, Layout, Wires};

use super::direct::Direct;
use super::scene::{HOSTS, SHARDS, Scene, play};

const LAYOUT: Layout =
    Layout { hosts: HOSTS, shards: SHARDS, disks: Disks::Shared, wires: Wires::Namespaces, clocks: Clocks::Shared };

/// More than five times the longest election timeout.
const CUT: Duration = Duration::from_secs(5);
/// Between two questions to a deposed leader.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A question that is not answered by then says nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const DROPPED: &str = "packets dropped";

#[test]
fn without_the_leaders_host_the_others_go_on() {
    play("partitions::without_the_leaders_host_the_others_go_on", LAYOUT, async |scene| {
        let (room, leader) = scene.victim().await?;
        let began = Instant::now();
        scene.site.network()?.isolate(leader)?;
        scene.flows().await?;
        ensure!(scene.site.cluster().leader_of(&room).await? != leader, "host {leader} cannot lead");
        hold(scene, began, leader).await
    });
}

#[test]
fn a_leader_that_clients_still_reach_serves_nothing_stale() {
    play("partitions::a_leader_that_clients_still_reach_serves_nothing_stale", LAYOUT, async |scene| {
        scene.evidence.require("question to the deposed leader", 10);
        let (room, leader) = scene.victim().await?;
        let direct = Direct::connect(scene.site.cluster(), leader).await?;
        ensure!(direct.revision(&room).await? > 0, "the leader does not answer");
        let began = Instant::now();
        scene.site.network()?.isolate_from_peers(leader)?;
        scene.flows().await?;
        let mut turns = tokio::time::interval(ASK_EVERY);
        while began.elapsed() < CUT {
            turns.tick().await;
            let known = scene.ledger.highest_revision(&room)?;
            if let Ok(Ok(revision)) = tokio::time::timeout(ANSWER_WITHIN, direct.revision(&room)).await {
                ensure!(revision >= known, "told revision {revision} after {known} was acknowledged");
            }
            scene.evidence.saw("question to the deposed leader");
        }
        hold(scene, began, leader).await
    });
}

#[test]
fn a_leader_that_hears_nothing_or_is_not_heard_is_replaced() {
    play("partitions::a_leader_that_hears_nothing_or_is_not_heard_is_replaced", LAYOUT, async |scene| {
        for is_heard in [false, true] {
            let (_, leader) = scene.victim().await?;
            let began = Instant::now();
            for peer in (0..HOSTS).filter(|peer| *peer != leader) {
                let (from, to) = if is_heard { (peer, leader) } else { (leader, peer) };
                scene.site.network()?.cut_one_way(from, to)?;
            }
            scene.flows().await?;
            hold(scene, began, leader).await?;
            scene.site.become_whole(super::scene::MEND_WITHIN).await?;
        }
        Ok(())
    });
}

/// Lets the cut last, shows that it was one, and ends it.
async fn hold(scene: &mut Scene, began: Instant, leader: usize) -> Result<()> {
    // How long the cut lasts is the fault, not a condition to wait for.
    tokio::time::sleep(CUT.saturating_sub(began.elapsed())).await;
    scene.flows().await?;
    let network = scene.site.network()?;
    let mut dropped = 0;
    for host in 0..HOSTS {
        dropped += network.dropped(host)?;
    }
    ensure!(dropped > 0, "not enough evidence: no packet of host {leader} was dropped");
    scene.evidence.saw(DROPPED);
    network.heal()
}
