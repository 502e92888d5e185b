//! All faults at random against a loaded cluster of real processes; nothing that was acknowledged may be lost, doubled,
//! reordered or made up.
//!
//! `cargo xtask torture --minutes N` runs the first of these for as long as it is told to.

use std::path::PathBuf;
use std::time::Duration;

use conclave_tests::site::{Layout, enclosed};
use conclave_tests::torture::{self, Options};
use conclave_workload::dice::seed_of_run;

/// How long, in seconds; without it, what the test command can afford.
const SECONDS: &str = "CONCLAVE_TORTURE_SECONDS";
const DEFAULT_SECONDS: u64 = 60;
/// Where the summary goes.
const REPORT: &str = "CONCLAVE_REPORT";
/// The run on a machine that allows nothing but processes.
const PROCESSES_ALONE: Duration = Duration::from_secs(20);
/// To start, to read everything back, and to judge it.
const AROUND_IT: Duration = Duration::from_secs(300);
const HOSTS: usize = 3;
const SHARDS: u16 = 4;

fn options(lasts: Duration, layout: Layout) -> Options {
    let report = std::env::var_os(REPORT).map(PathBuf::from);
    Options { lasts, seed: seed_of_run("torture"), layout, report, histories: std::env::temp_dir() }
}

#[test]
fn whatever_fails_nothing_acknowledged_is_lost() {
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(DEFAULT_SECONDS);
    let lasts = Duration::from_secs(seconds);
    let layout = Layout::full(HOSTS, SHARDS);
    enclosed("whatever_fails_nothing_acknowledged_is_lost", &layout.needs(), lasts + AROUND_IT, || {
        torture::run(options(lasts, layout))
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_processes_fail_nothing_acknowledged_is_lost() {
    let run = torture::run(Options { report: None, ..options(PROCESSES_ALONE, Layout::plain(HOSTS, SHARDS)) });
    let ended = tokio::time::timeout(PROCESSES_ALONE + AROUND_IT, run).await.expect("the run took too long");
    ended.expect("nothing is lost");
}
