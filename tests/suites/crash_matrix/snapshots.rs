//! Snapshots: a follower missed more than the log holds, and is stopped while it gets the whole state.

use anyhow::{Result, ensure};
use bytes::Bytes;
use conclave_tests::faults::with_faults;
use conclave_tests::promise;
use conclave_tests::receipts::Receipts;
use conclave_tests::site::{Site, damage};
use conclave_tests::status::{have_purged_past, log_end};

use super::{OTHERS, ROOM, SHORT_LOG, VICTIM, on_images};

/// Items that the victim misses, at least: more than two compactions leave in the log.
const MISSED: usize = 220;
/// Of this many bytes: all of them are more than is installed as one batch, so that table files are staged.
const BODY_BYTES: usize = 16 << 10;
/// Parts of 256 KiB after which there are such files.
const SOME_PARTS: usize = 8;

/// Receipts of items, while the victim is stopped at a point of its snapshot.
async fn stopped_at(site: &mut Site, point: &str) -> Result<Receipts> {
    let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
    let end = log_end(site.cluster()).await?;
    site.kill_host(VICTIM)?;
    // An append that is on its way to the victim keeps the log behind it until it has failed.
    while receipts.acknowledged() < MISSED || !have_purged_past(site.cluster(), &OTHERS, end).await? {
        let mut body = format!("item {}", receipts.acknowledged()).into_bytes();
        body.resize(BODY_BYTES, b'.');
        receipts.send_body(Bytes::from(body)).await?;
    }
    site.arm(VICTIM, point);
    site.start_host(VICTIM)?;
    site.stopped(VICTIM).await?;
    Ok(receipts)
}

/// The victim comes back, catches up, leads, and serves what was acknowledged.
async fn comes_back(site: &mut Site, mut receipts: Receipts) -> Result<()> {
    receipts.send(10).await?;
    site.start_disarmed(VICTIM)?;
    site.make_leader(VICTIM, ROOM).await?;
    receipts.settle(&[]).await?;
    let left = staged(site)?;
    promise!(left == 0, "{left} files of a snapshot that was given up are still there");
    Ok(())
}

fn staged(site: &Site) -> Result<usize> {
    let folder = damage::store(site.data(VICTIM))?.join("staging");
    Ok(if folder.exists() { std::fs::read_dir(folder)?.count() } else { 0 })
}

#[test]
fn a_snapshot_that_was_not_received_whole_leaves_nothing() {
    let name = "snapshots::a_snapshot_that_was_not_received_whole_leaves_nothing";
    with_faults(name, on_images(), &SHORT_LOG, async |site| {
        let receipts = stopped_at(site, &format!("snapshot-receiving:{SOME_PARTS}")).await?;
        // Killed only: what it had staged lies on the disk.
        site.kill_host(VICTIM)?;
        ensure!(staged(site)? > 0, "nothing was staged, so nothing is left to delete");
        comes_back(site, receipts).await
    });
}

#[test]
fn a_snapshot_replaces_the_state_wholly_or_not_at_all() {
    let name = "snapshots::a_snapshot_replaces_the_state_wholly_or_not_at_all";
    with_faults(name, on_images(), &SHORT_LOG, async |site| {
        let receipts = stopped_at(site, "snapshot-installing").await?;
        site.cut_power(&[VICTIM])?;
        comes_back(site, receipts).await
    });
}

#[test]
fn a_snapshot_counts_once_it_replaced_the_state() {
    let name = "snapshots::a_snapshot_counts_once_it_replaced_the_state";
    with_faults(name, on_images(), &SHORT_LOG, async |site| {
        let receipts = stopped_at(site, "snapshot-installed").await?;
        site.cut_power(&[VICTIM])?;
        comes_back(site, receipts).await
    });
}
