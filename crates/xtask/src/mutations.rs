//! Whether the suites deserve to be believed: seven bugs are planted, one at a time, and each must be caught.
//!
//! A bug is caught when the suite that is meant for it fails and names a violation: a line that begins with
//! [`VIOLATION`]. A suite that fails for another reason, or hangs, has caught nothing. The same suites must pass on the
//! same binary while no bug is planted, or a failure would say nothing either.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bounded::{self, End};
use crate::cargo::{Build, Cargo, TestExecutable, parse_artifacts};
use crate::long_run::{REPORTS, commit, printed};
use crate::test_run::{Binaries, test_command};

/// What a suite writes in front of a broken promise, as `conclave_tests::violation` does.
const VIOLATION: &str = "violation: ";
/// Builds are cached; a cold one is the test command's.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);
/// One suite at its normal size.
const SUITE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A planted bug and the test that is meant to catch it.
struct Mutation {
    bug: &'static str,
    test: &'static str,
}

const SUITE: &str = "mutation_targets";

const MUTATIONS: [Mutation; 7] = [
    Mutation { bug: "skip-sync", test: "acknowledged_items_survive_a_power_cut_of_all_hosts" },
    Mutation { bug: "acknowledge-before-quorum", test: "a_leader_alone_acknowledges_nothing" },
    Mutation { bug: "ignore-fence", test: "an_attempt_whose_lease_ended_settles_nothing" },
    Mutation { bug: "read-without-barrier", test: "a_replica_without_a_majority_answers_no_read" },
    Mutation { bug: "restore-leadership", test: "a_restarted_leader_never_leads_its_old_term" },
    Mutation { bug: "drop-last-entry", test: "the_last_entry_survives_a_power_cut_of_all_hosts" },
    Mutation { bug: "skip-snapshot-checksum", test: "a_snapshot_that_changed_on_its_way_is_refused" },
];

/// What one run of a suite came to.
struct Run {
    end: End,
    took: Duration,
    output: Vec<String>,
}

impl Run {
    fn violation(&self) -> Option<&str> {
        let violation = self.output.iter().find_map(|line| line.split_once(VIOLATION));
        violation.map(|(_, what)| what).filter(|_| matches!(self.end, End::Exited(status) if !status.success()))
    }
}

/// Plants all seven, says what became of each, and writes it down.
pub fn run(cargo: &Cargo) -> Result<ExitCode> {
    let faults = build_faults(cargo)?;
    // What the suites start is the faults build throughout: only the bug may differ.
    let binaries = Binaries { product: Some(&faults), faults: Some(&faults) };
    let suite = cargo.build_test(SUITE)?;

    let sound = run_suite(&suite, binaries, None)?;
    if !sound.end.is_success() {
        sound.output.iter().for_each(|line| println!("{line}"));
        bail!("without a bug {SUITE} fails already");
    }
    let mut report = format!("Without a bug `{SUITE}` passes in {:.1} s.\n\n", sound.took.as_secs_f64());
    report.push_str("| planted bug | caught by | after | as |\n|---|---|---|---|\n");
    let mut caught = 0;
    for Mutation { bug, test } in &MUTATIONS {
        let run = run_suite(&suite, binaries, Some((bug, test)))?;
        let seconds = run.took.as_secs_f64();
        match run.violation() {
            Some(violation) => {
                caught += 1;
                println!("{bug}: caught by {test}, after {seconds:.1} s: {violation}");
                writeln!(report, "| {bug} | `{test}` | {seconds:.1} s | {violation} |")?;
            }
            None => {
                run.output.iter().for_each(|line| println!("{line}"));
                println!("{bug}: NOT caught by {test}, after {seconds:.1} s");
                writeln!(report, "| {bug} | **nothing** | {seconds:.1} s | |")?;
            }
        }
    }
    let total = MUTATIONS.len();
    println!("{caught} of {total} planted bugs caught");
    writeln!(report, "\n{caught} of {total} planted bugs caught.")?;
    write_report(cargo, &report)?;
    Ok(if caught == total { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build_faults(cargo: &Cargo) -> Result<PathBuf> {
    let mut messages = String::new();
    let end = bounded::run(cargo.build_command(Build::Faults), BUILD_LIMIT, |line| {
        messages.push_str(line);
        messages.push('\n');
    })?;
    ensure!(end.is_success(), "the build with faults failed");
    cargo.set_aside(&parse_artifacts(&messages))
}

/// Runs a suite as it is, or one of its tests with a bug planted.
fn run_suite(suite: &TestExecutable, binaries: Binaries<'_>, planted: Option<(&str, &str)>) -> Result<Run> {
    let filters = planted.map(|(_, test)| vec!["--exact".to_owned(), test.to_owned()]).unwrap_or_default();
    let direct = test_command(suite, binaries, &filters);
    // Panics are told on the error output, violations among them.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(direct.get_program()).args(direct.get_args());
    command.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.envs(planted.map(|(bug, _)| ("CONCLAVE_PLANTED_BUG", bug)));
    command.current_dir(&suite.package_root);
    let (began, mut output) = (Instant::now(), Vec::new());
    let end = bounded::run(command, SUITE_LIMIT, |line| output.push(line.to_owned()))?;
    Ok(Run { end, took: began.elapsed(), output })
}

fn write_report(cargo: &Cargo, findings: &str) -> Result<()> {
    let (date, commit) = (printed(Command::new("date").args(["-u", "+%Y-%m-%d"]))?, commit(cargo.root())?);
    let folder = cargo.root().join(REPORTS);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{date}-mutations.md"));
    let text = format!("# mutations, {date}\n\n`cargo xtask mutations`\n\n- commit: {commit}\n\n{findings}");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn run(exit_code: i32, line: &str) -> Run {
        let end = End::Exited(ExitStatus::from_raw(exit_code << 8));
        Run { end, took: Duration::ZERO, output: vec!["running 1 test".to_owned(), line.to_owned()] }
    }

    #[test]
    fn only_a_failure_that_names_a_violation_catches_a_bug() {
        assert_eq!(run(101, "    violation: item 3 is lost").violation(), Some("item 3 is lost"));
        assert_eq!(run(101, "Error: the cluster was never born").violation(), None);
        assert_eq!(run(0, "violation: item 3 is lost").violation(), None);
        let hung = Run { end: End::OutOfTime, ..run(0, "violation: item 3 is lost") };
        assert_eq!(hung.violation(), None);
    }
}
