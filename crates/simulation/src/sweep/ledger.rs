//! The ledger: one line for every sweep that was worth keeping, newest last.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::summary::Summary;
use crate::options::Options;

/// When and of what; given by whoever built this.
const LABEL: &str = "CONCLAVE_SIMULATION_LABEL";

const HEAD: &str = "\
# Simulation: ledger

Each line is one sweep of `cargo xtask sim`; what was found and mended stands in [simulation.md](simulation.md).

| date, commit | seeds | seconds each | verdict | simulated hours | real minutes | faults | acknowledged operations | simulated seconds a second, by hosts |
|---|---|---|---|---|---|---|---|---|
";

pub fn add(path: &Path, options: &Options, summary: &Summary) -> Result<()> {
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.with_context(|| format!("ledger {}", path.display()))?;
    if is_new {
        file.write_all(HEAD.as_bytes())?;
    }
    let label = std::env::var(LABEL).unwrap_or_else(|_| "unknown".to_owned());
    let speeds = summary.speeds.iter().map(|(hosts, (_, simulated, real))| format!("{hosts}: {:.0}", simulated / real));
    let operations: u64 = summary.operations.values().map(|[ok, ..]| ok).sum();
    writeln!(
        file,
        "| {label} | {} to {} ({}){} | {} | {} | {:.2} | {:.1} | {} | {operations} | {} |",
        summary.first,
        summary.last,
        summary.seeds,
        if options.twice { ", twice" } else { "" },
        summary.seconds,
        summary.verdict(),
        summary.hours(),
        summary.took.as_secs_f64() / 60.0,
        summary.faults.values().sum::<u64>(),
        speeds.collect::<Vec<_>>().join(", "),
    )?;
    Ok(())
}
