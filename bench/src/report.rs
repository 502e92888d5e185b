//! Rows of results: printed as a table and written as JSON.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// What our own rows say of the system.
pub const OURS: &str = "conclave";

/// One measured figure. Rows that are compared have identical `work`, `config` and `unit`.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub work: String,
    pub system: String,
    pub version: String,
    pub config: String,
    pub detail: String,
    /// What is synced before a write is acknowledged.
    pub fsync: String,
    pub value: f64,
    pub unit: String,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub machine: String,
    pub commit: String,
    /// What the value is held against; it moves with the goals and is no part of the result.
    #[serde(skip)]
    pub target: Option<Target>,
}

/// Where a value should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtLeast(least) => value >= least,
            Target::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::AtLeast(least) => write!(f, ">= {least}"),
            Target::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

impl Row {
    pub fn new(work: &str, config: &str, value: f64, unit: &str) -> Row {
        Row {
            work: work.into(),
            system: OURS.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config: config.into(),
            detail: String::new(),
            fsync: "majority".into(),
            value,
            unit: unit.into(),
            p50_ms: None,
            p99_ms: None,
            machine: machine(),
            commit: commit(),
            target: None,
        }
    }

    /// Makes it a row of another system.
    pub fn of(mut self, system: &str, version: &str, fsync: &str) -> Row {
        (self.system, self.version, self.fsync) = (system.into(), version.into(), fsync.into());
        self
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Row {
        self.detail = detail.into();
        self
    }

    pub fn target(mut self, target: Target) -> Row {
        self.target = Some(target);
        self
    }

    pub fn latency(mut self, latency_us: &Histogram<u64>) -> Row {
        let ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
        self.p50_ms = Some(ms(0.5));
        self.p99_ms = Some(ms(0.99));
        self
    }
}

/// Prints the rows and writes them to `<folder>/<date>-<what>.json`.
pub fn publish(folder: &Path, what: &str, rows: &[Row]) -> Result<PathBuf> {
    print(rows);
    fs::create_dir_all(folder)?;
    let date = String::from_utf8(Command::new("date").arg("+%Y-%m-%d").output()?.stdout)?;
    let path = folder.join(format!("{}-{what}.json", date.trim()));
    fs::write(&path, serde_json::to_string_pretty(rows)? + "\n")?;
    Ok(path)
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print(rows: &[Row]) {
    println!(
        "{:<52} {:<18} {:<18} {:>10} {:<7} {:>14} {:>8} {:>8}  detail",
        "work", "system", "config", "value", "unit", "target", "p50 ms", "p99 ms"
    );
    for row in rows {
        let ms = |value: Option<f64>| value.map_or(String::from("-"), |value| format!("{value:.2}"));
        let target = row.target.map_or(String::new(), |target| {
            let met = if target.is_met(row.value) { "met" } else { "MISSED" };
            format!("{target} {met}")
        });
        println!(
            "{:<52} {:<18} {:<18} {:>10.2} {:<7} {:>14} {:>8} {:>8}  {}",
            row.work,
            row.system,
            row.config,
            row.value,
            row.unit,
            target,
            ms(row.p50_ms),
            ms(row.p99_ms),
            row.detail
        );
    }
}

/// Cores, processor and memory, so that figures of different machines are not compared by mistake.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} x {}, {} GiB", model.trim_start_matches(['\t', ' ', ':']), kib / (1 << 20))
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default().trim().to_owned()
}
