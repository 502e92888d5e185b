//! What happened in a run, counted, so that a run in which nothing went wrong because nothing was tried does not pass.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// Names the file that a long run's counts are written to.
const REPORT: &str = "CONCLAVE_REPORT";

#[derive(Debug, Default)]
pub struct Evidence {
    required: BTreeMap<String, u64>,
    seen: BTreeMap<String, u64>,
    /// Whatever else belongs into a report.
    facts: Vec<(String, String)>,
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

    /// Fails if something required has not happened often enough.
    pub fn check(&self) -> Result<()> {
        let lacking = |(what, times): (&String, &u64)| {
            let seen = self.count(what);
            (seen < *times).then(|| format!("{what}: {seen} of {times}"))
        };
        let lacking: Vec<String> = self.required.iter().filter_map(lacking).collect();
        ensure!(lacking.is_empty(), "not enough evidence: {}", lacking.join(", "));
        Ok(())
    }

    /// As Markdown.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(text, "- {name}: {value}");
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
