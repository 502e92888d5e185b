//! The mutation check: how many seeds it takes until a planted bug is caught.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use conclave_faults::{Bug, PLANTED_BUG};

use super::child;
use crate::options::Options;
use crate::outcome::Finding;

/// The bug that needs a real wire: a byte that changes on its way does not happen on a simulated one. It is for the suites
/// of real processes.
const NOT_HERE: Bug = Bug::SkipSnapshotChecksum;
/// Searches for each bug, each from another seed on; their mean is what counts.
const SEARCHES: u64 = 4;
const APART: u64 = 1_000;
/// Seeds after which a search is given up, and the mean that is still good enough.
const MOST_SEEDS: u64 = 100;
const GOOD_MEAN: f64 = 50.0;

/// Plants each bug and searches for it.
pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(cfg!(feature = "inject"), "built without planted bugs: build it with `cargo xtask sim`");
    println!("| bug | seeds until caught | mean | found as |\n|---|---|---|---|");
    let mut caught = 0;
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| *bug != NOT_HERE).collect();
    for bug in bugs.iter().copied() {
        let searches: Vec<(u64, String)> = search(options, bug);
        let mean = searches.iter().map(|(seeds, _)| *seeds as f64).sum::<f64>() / SEARCHES as f64;
        let counts: Vec<String> = searches.iter().map(|(seeds, _)| seeds.to_string()).collect();
        let what = searches.iter().map(|(_, what)| what.as_str()).find(|what| !what.is_empty()).unwrap_or("nothing");
        println!("| {} | {} | {mean:.1} | {} |", bug.name(), counts.join(", "), what.replace(['|', '\n'], " "));
        caught += usize::from(mean <= GOOD_MEAN);
    }
    println!("{caught} of {} caught within {GOOD_MEAN} seeds on average", bugs.len());
    Ok(if caught == bugs.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For each search how many seeds it took, and what gave the bug away.
fn search(options: &Options, bug: Bug) -> Vec<(u64, String)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let search = next.fetch_add(1, Ordering::Relaxed);
            if search >= SEARCHES {
                return done;
            }
            done.push((search, one_search(options, bug, options.seeds.start + search * APART)));
        }
    };
    let mut searches: Vec<(u64, (u64, String))> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    searches.sort_unstable();
    searches.into_iter().map(|(_, found)| found).collect()
}

fn one_search(options: &Options, bug: Bug, first: u64) -> (u64, String) {
    for seed in first..first + MOST_SEEDS {
        let outcome = child::play(options, seed, &[(PLANTED_BUG, bug.name())]);
        if let Finding::Violations(found) = outcome.finding {
            let what = found.first().map(|what| what.chars().take(160).collect()).unwrap_or_default();
            return (seed - first + 1, what);
        }
    }
    (MOST_SEEDS, String::new())
}
