//! What happened in a run, counted, so that a run in which nothing went wrong because nothing was tried does not pass;
//! and how long writes stood still, judged over the whole run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Names the file that a long run's counts are written to.
const REPORT: &str = "CONCLAVE_REPORT";
/// After the loss of a host, half of the failovers take less than this.
const MEDIAN_FAILOVER: Duration = Duration::from_secs(2);
const ENOUGH_FOR_A_MEDIAN: usize = 5;
/// And 99 of 100 less than this; the others had a split vote, and with it a second election.
const P99_FAILOVER: Duration = Duration::from_secs(3);
/// No failover takes longer: what a suite waits for before it gives up. Three elections in a row.
pub const FAILOVER_WITHIN: Duration = Duration::from_secs(6);

#[derive(Debug, Default)]
pub struct Evidence {
    required: BTreeMap<String, u64>,
    seen: BTreeMap<String, u64>,
    /// Whatever else belongs into a report.
    facts: Vec<(String, String)>,
    failovers: Vec<Duration>,
}

impl Evidence {
    /// The run does not count unless this happened so often.
    pub fn require(&mut self, what: impl Into<String>, times: u64) {
        self.required.insert(what.into(), times);
    }

    pub fn saw(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    pub fn count(&self, what: &str) -> u64 {
        self.seen.get(what).copied().unwrap_or_default()
    }

    /// Replaces what was said under this name.
    pub fn fact(&mut self, name: impl Into<String>, value: impl ToString) {
        let name = name.into();
        self.facts.retain(|(known, _)| *known != name);
        self.facts.push((name, value.to_string()));
    }

    /// Writes flowed again so long after a host was lost.
    pub fn failover(&mut self, took: Duration) {
        let before = self.failovers.partition_point(|known| *known < took);
        self.failovers.insert(before, took);
    }

    /// Fails if something required has not happened often enough.
    pub fn check(&self) -> Result<()> {
        let lacking = |(what, times): (&String, &u64)| {
            let seen = self.count(what);
            (seen < *times).then(|| format!("{what}: {seen} of {times}"))
        };
        let lacking: Vec<String> = self.required.iter().filter_map(lacking).collect();
        ensure!(lacking.is_empty(), "not enough evidence: {}", lacking.join(", "));
        self.check_failovers()
    }

    fn check_failovers(&self) -> Result<()> {
        let failovers = self.failovers.len();
        let slow = failovers - self.failovers.partition_point(|took| *took < P99_FAILOVER);
        ensure!(slow <= (failovers / 100).max(1), "{slow} of {failovers} failovers took {P99_FAILOVER:?} or more");
        if failovers >= ENOUGH_FOR_A_MEDIAN {
            let median = self.failovers[failovers / 2];
            ensure!(median < MEDIAN_FAILOVER, "half of {failovers} failovers took {median:?} or more");
        }
        Ok(())
    }

    /// As Markdown.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(text, "- {name}: {value}");
        }
        if let Some(longest) = self.failovers.last() {
            let median = self.failovers[self.failovers.len() / 2];
            let p99 = self.failovers[(self.failovers.len() * 99).div_ceil(100) - 1];
            let _ = writeln!(
                text,
                "- writes flowed again after the loss of a host: {} times, median {median:.2?}, p99 {p99:.2?}, longest \
                 {longest:.2?}",
                self.failovers.len()
            );
        }
        text += "\n| what happened | times |\n|---|---|\n";
        for (what, times) in &self.seen {
            let _ = writeln!(text, "| {what} | {times} |");
        }
        text
    }

    /// Writes the report where a long run wants it. Called as the run goes on, so that one
    /// that dies leaves what it had.
    pub fn save(&self) -> Result<()> {
        let Some(path) = std::env::var_os(REPORT).map(PathBuf::from) else { return Ok(()) };
        std::fs::write(&path, self.report()).with_context(|| format!("write {}", path.display()))
    }
}

/// The size of a suite: its own, unless the environment has a longer run in mind.
pub fn size(variable: &str, own: u64) -> u64 {
    std::env::var(variable).ok().and_then(|size| size.parse().ok()).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_no_evidence() {
        let mut evidence = Evidence::default();
        evidence.require("kill", 2);
        evidence.saw("kill");
        assert!(evidence.check().unwrap_err().to_string().contains("kill: 1 of 2"));
        evidence.saw("kill");
        assert!(evidence.check().is_ok());
    }

    #[test]
    fn one_slow_failover_is_a_split_vote_and_two_are_slow() {
        let mut evidence = Evidence::default();
        for took in [1_700, 3_300, 1_500, 1_600] {
            evidence.failover(Duration::from_millis(took));
        }
        assert!(evidence.check().is_ok());
        assert!(evidence.report().contains("4 times, median 1.70s, p99 3.30s, longest 3.30s"), "{}", evidence.report());
        evidence.failover(Duration::from_millis(3_000));
        assert!(evidence.check().unwrap_err().to_string().contains("2 of 5 failovers"));
        let mut slow = Evidence::default();
        for _ in 0..ENOUGH_FOR_A_MEDIAN {
            slow.failover(Duration::from_millis(2_100));
        }
        assert!(slow.check().unwrap_err().to_string().contains("half of 5"));
    }

    #[test]
    fn a_report_holds_facts_and_counts() {
        let mut evidence = Evidence::default();
        evidence.fact("seed", 1);
        evidence.fact("seed", 7);
        evidence.saw("power cut of all hosts");
        let report = evidence.report();
        assert!(report.contains("- seed: 7\n") && !report.contains("seed: 1\n"));
        assert!(report.contains("| power cut of all hosts | 1 |"));
    }
}
