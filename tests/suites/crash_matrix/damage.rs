//! A log that does not read as it was written.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use conclave_tests::faults::with_faults;
use conclave_tests::receipts::Receipts;
use conclave_tests::site::{Site, damage};
use conclave_workload::patience::eventually;

use super::{ROOM, VICTIM, plain};

/// A power cut in the middle of a write leaves the beginning of a record; everything before it counts.
#[test]
fn a_torn_end_of_the_log_is_what_a_crash_leaves() {
    with_faults("damage::a_torn_end_of_the_log_is_what_a_crash_leaves", plain(), &[], async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        receipts.send(20).await?;
        site.kill_host(VICTIM)?;
        let log = newest_log(site)?;
        std::fs::OpenOptions::new().append(true).open(&log)?.write_all(&[0x5a; 11])?;
        receipts.send(5).await?;
        site.start_host(VICTIM)?;
        site.make_leader(VICTIM, ROOM).await?;
        ensure!(damage::store(site.data(VICTIM))?.ends_with("store"), "a torn end was taken for damage");
        receipts.settle(&[]).await
    });
}

/// It never serves what is left; an empty store takes its place and is filled by its peers.
#[test]
fn a_host_whose_log_is_corrupt_is_rebuilt() {
    with_faults("damage::a_host_whose_log_is_corrupt_is_rebuilt", plain(), &[], async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        receipts.send(50).await?;
        site.kill_host(VICTIM)?;
        corrupt(site)?;
        receipts.send(5).await?;
        site.start_host(VICTIM)?;
        replaced(site).await?;
        site.make_leader(VICTIM, ROOM).await?;
        receipts.settle(&[]).await
    });
}

/// Between the verdict and the new store lies a crash: the verdict stands.
#[test]
fn a_condemned_store_stays_condemned() {
    with_faults("damage::a_condemned_store_stays_condemned", plain(), &[], async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        receipts.send(50).await?;
        site.kill_host(VICTIM)?;
        corrupt(site)?;
        site.arm(VICTIM, "store-condemned");
        site.start_host(VICTIM)?;
        site.stopped(VICTIM).await?;
        site.kill_host(VICTIM)?;
        receipts.send(5).await?;
        site.start_disarmed(VICTIM)?;
        replaced(site).await?;
        site.make_leader(VICTIM, ROOM).await?;
        receipts.settle(&[]).await
    });
}

fn newest_log(site: &Site) -> Result<PathBuf> {
    let store = damage::store(site.data(VICTIM))?;
    let files = std::fs::read_dir(store)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let logs = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().context("the store has no log")
}

/// Flips a bit in the first half of the log, well before its end.
fn corrupt(site: &Site) -> Result<()> {
    let log = newest_log(site)?;
    let mut bytes = std::fs::read(&log)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(std::fs::write(&log, bytes)?)
}

/// Waits until the host lives on another store, starting it again as often as it ends.
async fn replaced(site: &mut Site) -> Result<()> {
    let site = tokio::sync::Mutex::new(site);
    let look = || async {
        let mut site = site.lock().await;
        site.supervise()?;
        let store = damage::store(site.data(VICTIM))?;
        ensure!(store.ends_with("store-2"), "it lives on {}", store.display());
        Ok(())
    };
    eventually("another store", look).await
}
