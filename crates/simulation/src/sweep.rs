//! Many seeds, each in a process of its own, and what they came to together.

mod child;
mod ledger;
mod mutations;
mod summary;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

use crate::options::Options;
use crate::outcome::{Finding, Outcome};
pub use mutations::run as mutations;
use summary::Summary;

/// Seeds that are told of in full; after so many bad ones a sweep stops.
const MOST_FAILURES: usize = 20;

/// Plays the seeds of the command line, as many as its time allows, and sums up.
pub fn run(options: &Options) -> Result<ExitCode> {
    let began = Instant::now();
    let outcomes = sweep(options);
    let summary = Summary::of(&outcomes, began.elapsed(), options);
    for outcome in outcomes.iter().filter(|outcome| outcome.finding != Finding::Nothing) {
        explain(options, outcome)?;
    }
    if let [Outcome { seed, finding: Finding::Nothing, .. }] = outcomes.as_slice() {
        println!("timeline: {}", child::timeline(options, *seed)?.display());
    }
    println!("{summary}");
    if let Some(ledger) = &options.ledger {
        ledger::add(ledger, options, &summary)?;
    }
    // What tests are counted by.
    let (passed, failed) = (summary.passed(), summary.failed());
    println!("test result: {}. {passed} passed; {failed} failed; 0 ignored", if failed == 0 { "ok" } else { "FAILED" });
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In the order of the seeds.
fn sweep(options: &Options) -> Vec<Outcome> {
    let deadline = options.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let (next, stop) = (AtomicU64::new(options.seeds.start), AtomicBool::new(false));
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        while !stop.load(Ordering::Relaxed) && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= options.seeds.end {
                return;
            }
            let outcome =
                if options.twice { child::play_twice(options, seed) } else { child::play(options, seed, &[]) };
            println!("{}", line(&outcome));
            let mut outcomes = outcomes.lock();
            outcomes.push(outcome);
            let bad = outcomes.iter().filter(|outcome: &&Outcome| outcome.finding != Finding::Nothing).count();
            stop.fetch_or(bad >= MOST_FAILURES, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner();
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}

/// One seed in one line.
fn line(outcome: &Outcome) -> String {
    let what = match &outcome.finding {
        Finding::Nothing => "ok".to_owned(),
        Finding::Violations(found) => format!("VIOLATIONS ({})", found.len()),
        Finding::NotEnoughEvidence(_) => "NOT ENOUGH EVIDENCE".to_owned(),
        Finding::Harness(_) => "HARNESS FAILED".to_owned(),
    };
    let faults: u64 = outcome.faults.values().sum();
    let operations: u64 = outcome.operations.values().map(|counts| counts.iter().sum::<u64>()).sum();
    let expired = outcome.expired.map(|expired| format!(", {expired}")).unwrap_or_default();
    format!(
        "seed {:<6} {} hosts, {:5.1} s in {:4.1} s, {faults:3} faults, {operations:5} operations{expired}: {what}",
        outcome.seed,
        outcome.hosts,
        outcome.simulated.as_secs_f64(),
        outcome.took_us as f64 / 1e6,
    )
}

/// What a bad seed found, how to play it again, and its timeline.
fn explain(options: &Options, outcome: &Outcome) -> Result<()> {
    let (kind, found) = match &outcome.finding {
        Finding::Nothing => return Ok(()),
        Finding::Violations(found) => ("violation", found.clone()),
        Finding::NotEnoughEvidence(missing) => ("not enough evidence", missing.clone()),
        Finding::Harness(what) => ("harness", vec![what.clone()]),
    };
    println!("\nseed {}:", outcome.seed);
    for what in found.iter().take(10) {
        println!("  {kind}: {what}");
    }
    let hosts = options.hosts.map(|hosts| format!(" --hosts {hosts}")).unwrap_or_default();
    let expiries = options.expiries.map(|expiries| format!(" --expiries {expiries}")).unwrap_or_default();
    println!("  replay: cargo xtask sim --seed {} --seconds {}{expiries}{hosts}", outcome.seed, options.seconds);
    let timeline = child::timeline(options, outcome.seed)?;
    println!("  timeline: {}", timeline.display());
    Ok(())
}
