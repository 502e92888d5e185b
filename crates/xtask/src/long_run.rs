//! Runs one suite at a size that is worth a report, and writes that report.
//!
//! The suite is the one of the test command, with its size from the environment. It writes what it counted to the file
//! that `CONCLAVE_REPORT` names; when, of which commit, how and with what verdict is added here, so that a suite that
//! hangs or dies cannot leave a report that looks like success.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bounded::{self, End};
use crate::cargo::Cargo;

/// Where reports are kept, from the workspace's root.
pub const REPORTS: &str = "tests/reports";
/// What the suite finds its file by.
const REPORT: &str = "CONCLAVE_REPORT";

/// One long run.
#[derive(Debug)]
pub struct LongRun<'a> {
    /// Names the report.
    pub title: &'a str,
    /// The test executable, and the one test in it.
    pub target: &'a str,
    pub test: &'a str,
    /// What makes it long.
    pub environment: Vec<(&'a str, String)>,
    /// It is killed after this time.
    pub limit: Duration,
    /// What was typed, for the report.
    pub command: String,
}

/// Builds what the run needs, runs it, and writes `tests/reports/<date>-<title>.md`.
pub fn run(cargo: &Cargo, run: &LongRun<'_>) -> Result<ExitCode> {
    let commit = commit(cargo.root())?;
    let product = cargo.build_product()?;
    let test = cargo.build_test(run.target)?;
    let counted = std::env::temp_dir().join(format!("conclave-{}-{}.md", run.title, std::process::id()));
    let mut command = Command::new(&test.path);
    command.args(["--exact", run.test, "--nocapture"]).current_dir(&test.package_root);
    command.env("CARGO_MANIFEST_DIR", &test.package_root).env("CONCLAVE_BIN", product).env("RUST_BACKTRACE", "1");
    command.env(REPORT, &counted).envs(run.environment.iter().map(|(name, value)| (name, value)));
    let began = Instant::now();
    let (mut ran, mut skipped) = (false, false);
    let end = bounded::run(command, run.limit, |line| {
        println!("{line}");
        ran |= line.contains("; 0 failed;") && line.contains(" 1 passed;");
        skipped |= line.starts_with("skipped: ");
    })?;
    let verdict = match end {
        _ if skipped => bail!("nothing ran, so there is nothing to report"),
        End::Exited(status) if status.success() && ran => "passed".to_owned(),
        End::Exited(status) if status.success() => bail!("there is no test {} in {}", run.test, run.target),
        End::Exited(status) => format!("FAILED ({status})"),
        End::OutOfTime => format!("FAILED (not done within {:?})", run.limit),
    };
    let path = write(cargo.root(), run, &counted, &[("commit", &commit), ("verdict", &verdict)], began.elapsed())?;
    println!("{verdict}: {}", path.display());
    Ok(if verdict == "passed" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(root: &Path, run: &LongRun<'_>, counted: &Path, facts: &[(&str, &str)], took: Duration) -> Result<PathBuf> {
    let date = printed(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let body = std::fs::read_to_string(counted).unwrap_or_else(|_| "It ended before it counted anything.\n".to_owned());
    // It lies in the system's folder for what may go at any time.
    let _ = std::fs::remove_file(counted);
    let mut text = format!("# {}, {date}\n\n`{}`, {} s\n\n", run.title, run.command, took.as_secs());
    for (name, value) in facts {
        text += &format!("- {name}: {value}\n");
    }
    text += &format!("\n{body}");
    let folder = root.join(REPORTS);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{date}-{}.md", run.title));
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The commit, and whether something else was built than it.
pub fn commit(root: &Path) -> Result<String> {
    let commit = printed(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root))?;
    let reports = format!(":!{REPORTS}");
    let changed =
        Command::new("git").args(["status", "--porcelain", "--", ".", &reports]).current_dir(root).output()?;
    Ok(if changed.stdout.is_empty() { commit } else { format!("{commit}, with changes that are not committed") })
}

pub fn printed(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
