//! A run in words and numbers, as Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Options;
use super::kind::Kind;
use super::outage::{self, Distribution};
use conclave_workload::checks::{INVARIANTS, Tally, Verdict};
use conclave_workload::history::History;

/// Ends of the histogram's columns, in milliseconds.
const COLUMNS_MS: [u64; 7] = [250, 500, 1_000, 1_500, 2_000, 3_000, 5_000];

pub struct Summary {
    seconds: u64,
    seed: u64,
    endings: usize,
    tally: Tally,
    outages: BTreeMap<String, Distribution>,
    failovers: Distribution,
    /// What is wrong, or lacking.
    wrong: Vec<String>,
    violations: usize,
}

impl Summary {
    pub fn of(history: &History, verdict: &Verdict, options: &Options, endings: usize) -> Summary {
        let (violations, wrong) = match verdict {
            Verdict::Ok(_) => (0, Vec::new()),
            Verdict::Violations(_, found) => (found.len(), found.iter().map(ToString::to_string).collect()),
            Verdict::NotEnoughEvidence(_, missing) => (0, missing.clone()),
        };
        Summary {
            seconds: options.lasts.as_secs(),
            seed: options.seed,
            endings,
            tally: verdict.tally().clone(),
            outages: outage::by_kind(history),
            failovers: outage::failovers(history, &Kind::KillLeader.to_string()),
            wrong,
            violations,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { seconds, seed, endings, tally, violations, .. } = self;
        writeln!(f, "- time: {seconds} s, seed {seed}")?;
        writeln!(f, "- operations: {}, faults: {}", tally.all(), tally.all_faults())?;
        writeln!(f, "- hosts that ended by themselves and were started again: {endings}")?;
        writeln!(f, "- violations of {} invariants: {violations}", INVARIANTS.len())?;
        for what in &self.wrong {
            writeln!(f, "  - {what}")?;
        }
        writeln!(f, "\n{tally}")?;
        writeln!(
            f,
            "Longest time without an acknowledged write in a room whose leader was hit, by fault; where faults"
        )?;
        writeln!(f, "overlap, each is charged with all of it:\n")?;
        writeln!(f, "| fault | rooms hit | median | p99 | longest |\n| --- | ---: | ---: | ---: | ---: |")?;
        for (kind, distribution) in &self.outages {
            writeln!(f, "| {kind} {}", cells(distribution))?;
        }
        writeln!(
            f,
            "\nTime from the kill of a leader, with nothing else wrong, to the next acknowledged write in its rooms:\n"
        )?;
        writeln!(f, "| | rooms | median | p99 | longest |\n| --- | ---: | ---: | ---: | ---: |")?;
        writeln!(f, "| failover {}\n", cells(&self.failovers))?;
        histogram(f, &self.failovers)
    }
}

fn cells(distribution: &Distribution) -> String {
    let [median, p99, longest] =
        [distribution.percentile(50), distribution.percentile(99), distribution.longest()].map(seconds);
    format!("| {} | {median} | {p99} | {longest} |", distribution.count())
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn histogram(f: &mut fmt::Formatter<'_>, distribution: &Distribution) -> fmt::Result {
    let heads = COLUMNS_MS.iter().map(|end| format!(" < {end} ms |")).chain([" more |".to_owned()]);
    let counts = distribution.histogram(&COLUMNS_MS.map(Duration::from_millis));
    let counts = counts.iter().map(|count| format!(" {count} |"));
    writeln!(f, "|{}", heads.collect::<String>())?;
    writeln!(f, "|{}", " ---: |".repeat(COLUMNS_MS.len() + 1))?;
    writeln!(f, "|{}", counts.collect::<String>())
}
