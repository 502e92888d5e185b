//! Prints what the operations on documents cost here.
//!
//! `cargo run --release -p conclave-document --example cost`. With a folder of editing traces in `CONCLAVE_TRACES` it
//! replays one as well.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conclave_document::{Edit, Replica, admit, compact, diff, to_json, validate};
use conclave_types::{Clocks, YjsClient};

fn main() -> Result<(), Box<dyn Error>> {
    let typing = typed(10_000)?;
    let update = &typing[5_000];
    println!("a typing update has {} bytes", update.len());
    each("validate", 1_000_000, || drop(validate(update)));
    each("admit", 100_000, || drop(admit(update)));
    let pasted = Replica::new(YjsClient(9)).insert("text", 0, &"some words ".repeat(10_000))?;
    each("validate 110 KB of pasted text", 1_000, || drop(validate(&pasted)));
    each("admit 110 KB of pasted text", 1_000, || drop(admit(&pasted)));
    for tail in [100, 1_000, 4_096, 10_000] {
        compaction(&typing[..tail])?;
    }
    scattered(10_000)?;
    if let Some(folder) = std::env::var_os("CONCLAVE_TRACES") {
        let path = PathBuf::from(folder).join("automerge-paper.json.gz");
        replay(&serde_json::from_reader(flate2::read::GzDecoder::new(std::fs::File::open(path)?))?)?;
    }
    Ok(())
}

fn typed(updates: u32) -> Result<Vec<Bytes>, Box<dyn Error>> {
    let mut replica = Replica::new(YjsClient(1_234_567_890));
    let typed = (0..updates).map(|at| replica.insert("text", at, "x"));
    Ok(typed.collect::<Result<Vec<Bytes>, _>>()?)
}

fn compaction(tail: &[Bytes]) -> Result<(), Box<dyn Error>> {
    let clocks = Clocks::from([(YjsClient(1_234_567_890), tail.len() as u64)]);
    let (base, took) = timed(|| compact(None, tail, &clocks));
    println!("compact {} typed characters: {took:?}, {} bytes", tail.len(), base?.len());
    Ok(())
}

/// Edits all over a text, which leave many blocks.
fn scattered(edits: u32) -> Result<(), Box<dyn Error>> {
    let mut replica = Replica::new(YjsClient(77));
    let mut tail = Vec::new();
    let (_, took) = timed(|| {
        for edit in 0..edits {
            tail.push(replica.insert("text", (edit * 7_919) % (edit + 1), "y").unwrap_or_default());
        }
    });
    println!("make {edits} scattered edits: {took:?}");
    let (base, took) = timed(|| compact(None, &tail, &replica.clocks()));
    let base = base?;
    println!("compact {edits} scattered edits: {took:?}, {} bytes", base.len());
    let (_, took) = timed(|| to_json(Some(&base), &[]).map(drop));
    println!("view it: {took:?}");
    let half = Clocks::from([(YjsClient(77), u64::from(edits / 2))]);
    let (lacking, took) = timed(|| diff(&base, &half));
    println!("what half of it lacks: {took:?}, {} bytes", lacking?.len());
    Ok(())
}

fn replay(trace: &serde_json::Value) -> Result<(), Box<dyn Error>> {
    let mut replica = Replica::new(YjsClient(4_242));
    let mut updates = Vec::new();
    let mut failed = None;
    let (_, took) = timed(|| {
        for transaction in trace["txns"].as_array().into_iter().flatten() {
            let edits: Vec<Edit> = transaction["patches"].as_array().into_iter().flatten().map(patch).collect();
            match replica.edit("text", &edits) {
                Ok(update) => updates.push(update),
                Err(error) => failed = Some(error),
            }
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    let per_second = updates.len() as f64 / took.as_secs_f64();
    let bytes: usize = updates.iter().map(Bytes::len).sum();
    println!("replay {} transactions: {took:?}, {per_second:.0}/s, {bytes} bytes of updates", updates.len());
    println!("the text is the trace's: {}", Some(replica.text("text").as_str()) == trace["endContent"].as_str());
    let (_, took) = timed(|| updates.iter().map(|update| admit(update)).filter(Result::is_ok).count());
    println!("admit them all: {took:?}, {:?} each", took / updates.len() as u32);
    let (base, took) = timed(|| compact(None, &updates, &replica.clocks()));
    println!("compact them all: {took:?}, {} bytes", base?.len());
    Ok(())
}

fn patch(patch: &serde_json::Value) -> Edit {
    let number = |at: usize| patch[at].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    Edit { at: number(0), delete: number(1), insert: patch[2].as_str().unwrap_or_default().to_owned() }
}

fn each(name: &str, times: u32, mut work: impl FnMut()) {
    let ((), took) = timed(|| (0..times).for_each(|_| work()));
    println!("{name}: {:?}", took / times);
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
