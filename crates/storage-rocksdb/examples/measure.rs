//! Measures what a host waits for: staging and installing a large state, opening a store that holds it, and reading all
//! of it once. Give it a folder on the disk in question; it leaves nothing there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conclave_storage::{Damage, Engine, EngineError, Family, KeyRange, Scrub, WriteBatch};
use conclave_storage_rocksdb::{RocksEngine, RocksOptions};

const VALUE_BYTES: usize = 1_000;
const MIB: u64 = 1 << 20;

/// What a host appends to the log between two flushes, to be replayed at the next start.
const LOG_MIB: u64 = 64;

fn main() -> Result<(), EngineError> {
    let folder = std::env::args().nth(1).map(Into::into).unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(folder).map_err(|error| EngineError::Open(error.to_string()))?;
    let engine = open(folder.path())?;
    for (group, size_mib) in [(1, 256), (1, 256), (2, 1_024)] {
        let begun = Instant::now();
        let staged = stage(&engine, group, size_mib)?;
        report(&format!("staged {size_mib} MiB"), begun.elapsed(), size_mib);
        let begun = Instant::now();
        staged.install()?;
        report(&format!("installed {size_mib} MiB"), begun.elapsed(), size_mib);
    }
    append(&engine, LOG_MIB)?;
    drop(engine);
    let begun = Instant::now();
    let engine = open(folder.path())?;
    report("opened 1,280 MiB of state and a log to replay", begun.elapsed(), LOG_MIB);
    let begun = Instant::now();
    let mut scrub = Scrub::new();
    while scrub.step(&*engine, MIB as usize)? {}
    report("scrubbed", begun.elapsed(), scrub.bytes() / MIB);
    Ok(())
}

fn open(folder: &Path) -> Result<Arc<RocksEngine>, EngineError> {
    RocksEngine::open(folder, RocksOptions::default(), Damage::unattended()).map(Arc::new)
}

fn stage(
    engine: &Arc<RocksEngine>,
    group: u8,
    size_mib: u64,
) -> Result<Box<dyn conclave_storage::Staging>, EngineError> {
    let range = KeyRange { from: vec![0, group], to: vec![0, group, 0xff] };
    let mut staging = engine.clone().stage(Family::State, range)?;
    for number in 0..size_mib * MIB / VALUE_BYTES as u64 {
        staging.put(&[&[0, group, 2][..], &number.to_be_bytes()].concat(), &value(number))?;
    }
    Ok(staging)
}

fn append(engine: &RocksEngine, size_mib: u64) -> Result<(), EngineError> {
    for number in 0..size_mib * MIB / VALUE_BYTES as u64 {
        let mut batch = WriteBatch::new();
        batch.put(Family::Log, number.to_be_bytes(), value(number));
        engine.write(batch)?;
    }
    engine.sync()
}

/// Half of it compresses, as text does.
fn value(number: u64) -> Vec<u8> {
    let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = vec![b'x'; VALUE_BYTES];
    for piece in value[..VALUE_BYTES / 2].chunks_mut(8) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        piece.copy_from_slice(&seed.to_le_bytes()[..piece.len()]);
    }
    value
}

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn report(what: &str, took: Duration, size_mib: u64) {
    let speed = size_mib as f64 / took.as_secs_f64();
    println!("{what}: {:.0} ms, {speed:.0} MiB/s", took.as_secs_f64() * 1_000.0);
}
