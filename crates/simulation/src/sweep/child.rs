//! Plays one seed in a process of its own, and reads what it says.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::options::Options;
use crate::outcome::{Finding, Outcome};

/// A run that takes longer stands still: nothing waits in simulated time.
const LONGEST: Duration = Duration::from_secs(600);
/// What of a process's last words is kept.
const LAST_WORDS: usize = 2_000;

/// Plays a seed.
pub fn play(options: &Options, seed: u64, environment: &[(&str, &str)]) -> Outcome {
    let began = Instant::now();
    let mut outcome = played(options, seed, environment).unwrap_or_else(|error| {
        let finding = Finding::Harness(format!("{error:#}"));
        Outcome { finding, ..Outcome::new(&options.plan(seed)) }
    });
    outcome.took_us = began.elapsed().as_micros() as u64;
    outcome
}

/// Plays a seed twice: both must send the same bytes at the same times.
pub fn play_twice(options: &Options, seed: u64) -> Outcome {
    let first = play(options, seed, &[]);
    let second = play(options, seed, &[]);
    if first.finding == Finding::Nothing && (first.digest, &first.operations) != (second.digest, &second.operations) {
        let differ = format!("two runs differ: {:x} and {:x}", first.digest, second.digest);
        return Outcome { finding: Finding::Harness(differ), ..first };
    }
    first
}

/// Plays a seed once more and keeps its timeline and history; returns where.
pub fn timeline(options: &Options, seed: u64) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("conclave-simulation");
    std::fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
    let (timeline, history) = (folder.join(format!("{seed}.timeline")), folder.join(format!("{seed}.json")));
    let mut command = command(options, seed)?;
    command.arg("--timeline").arg(&timeline).arg("--history").arg(&history);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok(timeline)
}

fn command(options: &Options, seed: u64) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("conclave-simulation"));
    command.args(["--seed", &seed.to_string(), "--seconds", &options.seconds.to_string()]);
    if let Some(expiries) = options.expiries {
        command.args(["--expiries", &expiries.to_string()]);
    }
    if let Some(hosts) = options.hosts {
        command.args(["--hosts", &hosts.to_string()]);
    }
    Ok(command)
}

fn played(options: &Options, seed: u64, environment: &[(&str, &str)]) -> Result<Outcome> {
    let mut command = command(options, seed)?;
    command.envs(environment.iter().copied());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdout, mut stderr) = (child.stdout.take().context("piped")?, child.stderr.take().context("piped")?);
    // Both at once: a process that talks much into one would wait for ever for somebody to read it.
    let (said, complained, ended) = std::thread::scope(|scope| {
        let complaints = scope.spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let words = scope.spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let began = Instant::now();
        let ended: Result<Option<ExitStatus>> = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(Some(status)),
                Ok(None) if began.elapsed() > LONGEST => {
                    break child.kill().and_then(|()| child.wait()).map(|_| None).map_err(Into::into);
                }
                Ok(None) => std::thread::park_timeout(Duration::from_millis(20)),
                Err(error) => break Err(error.into()),
            }
        };
        (words.join(), complaints.join(), ended)
    });
    let said = said.map_err(|_| anyhow::anyhow!("a reader panicked"))??;
    let complained = complained.map_err(|_| anyhow::anyhow!("a reader panicked"))??;
    let last_words: String = complained.chars().rev().take(LAST_WORDS).collect::<Vec<_>>().into_iter().rev().collect();
    let Some(status) = ended? else {
        let finding = Finding::Violations(vec![format!("it stood still for {LONGEST:?}: {last_words}")]);
        return Ok(Outcome { finding, ..Outcome::new(&options.plan(seed)) });
    };
    match serde_json::from_str(said.trim()) {
        Ok(outcome) => Ok(outcome),
        // It panicked: the product or the harness, and both must not.
        Err(_) => {
            let finding = Finding::Violations(vec![format!("the process ended ({status}): {last_words}")]);
            Ok(Outcome { finding, ..Outcome::new(&options.plan(seed)) })
        }
    }
}
