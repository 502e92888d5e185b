//! Runs a process for at most a given time and shows what it prints as it prints it.
//!
//! Invariant: when `run` returns, the process has ended or was killed. A process that is out of time is killed together with all it
//! started, so that no server of a hung test outlives the run.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long output is still read after its process has ended; only a stray grandchild can hold it open.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exited(ExitStatus),
    /// Killed, because its time was over.
    OutOfTime,
}

impl End {
    pub fn is_success(self) -> bool {
        matches!(self, End::Exited(status) if status.success())
    }
}

enum Event {
    Line(String),
    OutputClosed,
    Exited(std::io::Result<ExitStatus>),
}

/// Runs `command` for at most `limit`, handing each line of its standard output to `on_line`.
#[expect(clippy::disallowed_methods, reason = "a task program of its own, with nobody above it to give it threads")]
pub fn run(mut command: Command, limit: Duration, mut on_line: impl FnMut(&str)) -> Result<End> {
    let name = command.get_program().display().to_string();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
    let id = child.id();
    let output = child.stdout.take().context("the process has no standard output")?;

    let (events, received) = channel();
    let lines = events.clone();
    thread::spawn(move || forward_lines(BufReader::new(output), &lines));
    thread::spawn(move || events.send(Event::Exited(child.wait())));

    let mut deadline = Instant::now() + limit;
    let (mut end, mut output_open) = (None, true);
    while end.is_none() || output_open {
        match received.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok() {
            Some(Event::Line(line)) => on_line(&line),
            Some(Event::OutputClosed) => output_open = false,
            Some(Event::Exited(status)) => {
                end.get_or_insert(End::Exited(status?));
                deadline = Instant::now() + DRAIN_LIMIT;
            }
            None if end.is_some() => break,
            None => {
                end = Some(End::OutOfTime);
                kill_tree(id);
                deadline = Instant::now() + DRAIN_LIMIT;
            }
        }
    }
    Ok(end.unwrap_or(End::OutOfTime))
}

fn forward_lines(mut output: impl BufRead, events: &Sender<Event>) {
    let mut line = Vec::new();
    while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        if events.send(Event::Line(text)).is_err() {
            return;
        }
        line.clear();
    }
    // The receiver leaves early when it stopped waiting for output; nobody needs to hear of the end then.
    drop(events.send(Event::OutputClosed));
}

/// Kills a process and everything it started that still names it as an ancestor.
fn kill_tree(root: u32) {
    let mut tree = vec![root];
    let parents = parents_of_all();
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(id, _)| *id));
        next += 1;
    }
    let ids = tree.iter().map(u32::to_string);
    if let Err(error) = Command::new("kill").arg("-KILL").args(ids).status() {
        eprintln!("cannot kill process {root}: {error}");
    }
}

/// Each process with its parent. Empty where there is no `/proc`: then only the process itself is killed.
fn parents_of_all() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some((id, parent_from_stat(&stat)?))
    })
    .collect()
}

/// The parent in a line of `/proc/<id>/stat`; the command's name before it may hold blanks and parentheses.
fn parent_from_stat(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn ample() -> Duration {
        Duration::from_secs(60)
    }

    #[test]
    fn lines_arrive_in_order_and_the_status_is_kept() {
        let mut lines = Vec::new();
        let end = run(shell("echo one; echo two; exit 3"), ample(), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
        assert!(matches!(end, End::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_process_out_of_time_dies_with_what_it_started() {
        let mut child = None;
        let script = "sleep 600 & echo $!; wait";
        let end = run(shell(script), Duration::from_millis(300), |line| child = line.parse::<u32>().ok()).unwrap();
        assert_eq!(end, End::OutOfTime);
        let stat = format!("/proc/{}/stat", child.unwrap());
        let is_alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let patience = Instant::now() + DRAIN_LIMIT;
        while is_alive() {
            assert!(Instant::now() < patience, "what it started outlives it");
            thread::yield_now();
        }
    }

    #[test]
    fn the_parent_is_found_behind_an_odd_name() {
        assert_eq!(parent_from_stat("12 (a b) c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_from_stat("nonsense"), None);
    }
}
