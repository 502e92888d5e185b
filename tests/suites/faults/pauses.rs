//! A leader that stands still for longer than its peers wait for it, and then goes on as if nothing had been.

use std::time::{Duration, Instant};

use anyhow::ensure;
use conclave_tests::site::Layout;
use futures::future::join_all;

use super::direct::Direct;
use super::scene::{HOSTS, SHARDS, play};

/// More than five times the longest election timeout.
const PAUSE: Duration = Duration::from_secs(5);
/// Reads that wait in the paused host's sockets when it wakes.
const READS: usize = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_leader_that_was_paused_serves_nothing_stale() {
    play("pauses::a_leader_that_was_paused_serves_nothing_stale", Layout::plain(HOSTS, SHARDS), async |scene| {
        scene.evidence.require("read answered or refused by the deposed leader", READS as u64);
        let (room, leader) = scene.victim().await?;
        let direct = Direct::connect(scene.site.cluster(), leader).await?;
        ensure!(direct.revision(&room).await? > 0, "the leader does not answer");
        scene.site.cluster().pause_host(leader)?;
        let paused = Instant::now();
        scene.flows().await?;
        ensure!(scene.site.cluster().leader_of(&room).await? != leader, "host {leader} cannot lead");
        // What stands still for this long is the fault, not a condition to wait for.
        tokio::time::sleep(PAUSE.saturating_sub(paused.elapsed())).await;
        let known = scene.ledger.highest_revision(&room)?;
        let questions = (0..READS).map(|_| tokio::time::timeout(ANSWER_WITHIN, direct.revision(&room)));
        let wake = async {
            // The questions leave first.
            tokio::task::yield_now().await;
            scene.site.cluster().resume_host(leader)
        };
        let (answers, woken) = tokio::join!(join_all(questions), wake);
        woken?;
        for answer in answers {
            match answer? {
                Ok(revision) => ensure!(revision >= known, "told revision {revision} after {known} was acknowledged"),
                Err(status) => eprintln!("refused: {status}"),
            }
            scene.evidence.saw("read answered or refused by the deposed leader");
        }
        Ok(())
    });
}
