//! Runs every test of the workspace, the quick ones first, and counts them.
//!
//! The pure crates come first because they answer in seconds while RocksDB takes many minutes to build. Everything else
//! is built once, in one selection, and each executable is then run by itself, so that one that hangs is stopped and
//! named and the others still have their say.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bounded::{self, End};
use crate::cargo::{Artifacts, Build, Cargo, SELECTION, TestExecutable, parse_artifacts};
use crate::layering;
use crate::tally::Tally;

/// The whole run. CI gives up after 90 minutes; stopping before it does leaves a readable result.
const RUN_LIMIT: Duration = Duration::from_secs(80 * 60);
/// A cold build of everything on two cores takes about half of this.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);
/// The pure crates, with their few dependencies.
const PURE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// One executable of a crate's own tests.
const EXECUTABLE_LIMIT: Duration = Duration::from_secs(5 * 60);
/// One executable that starts, kills and restarts real processes.
const PROCESS_SUITE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The simulation is built apart, all that it uses with it: about 10 minutes cold.
const SIMULATION_BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
const SIMULATION_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Simulated minutes of one seed each; other numbers than those of the long runs would find no more.
const SEEDS: &str = "0..50";
/// Whether a seed does the same every time.
const SEEDS_TWICE: &str = "50..70";
/// Leases that are made to end while leaders are killed.
const EXPIRIES: &str = "2000";
/// All examples in the documentation.
const DOC_LIMIT: Duration = Duration::from_secs(10 * 60);

/// The package whose tests start real processes.
const PROCESS_SUITES: &str = "conclave-tests";

struct Run<'a> {
    cargo: &'a Cargo,
    /// Given to each test executable: usually nothing, or part of a test's name.
    filters: &'a [String],
    deadline: Instant,
    tally: Tally,
    failures: Vec<String>,
}

/// Runs all tests whose names contain a filter; all of them when there is none.
pub fn run(cargo: &Cargo, filters: &[String]) -> Result<Tally> {
    let deadline = Instant::now() + RUN_LIMIT;
    let mut run = Run { cargo, filters, deadline, tally: Tally::default(), failures: Vec::new() };
    run.layering()?;
    run.pure_crates()?;
    run.simulation()?;
    // In this order: both put the binary at the same path, and what stays there is the product.
    if let Some(faults) = run.build(Build::Faults)?
        && let Some(product) = run.build(Build::Product)?
    {
        run.executables(&product, &faults)?;
        run.documentation()?;
    }
    for failure in &run.failures {
        println!("failed: {failure}");
    }
    Ok(run.tally)
}

impl Run<'_> {
    /// Counted as one test: cheap, and a wrong edge is easiest to undo at once.
    fn layering(&mut self) -> Result<()> {
        let violations = layering::check(self.cargo)?;
        for violation in &violations {
            println!("layering: {violation}");
        }
        let kept = violations.is_empty();
        self.record("layering", if kept { Tally::ONE_PASSED } else { Tally::ONE_FAILED }, kept);
        Ok(())
    }

    fn pure_crates(&mut self) -> Result<()> {
        let mut command = self.cargo.command("test");
        command.args(["--release", "--locked"]);
        for name in layering::PURE {
            command.args(["-p", name]);
        }
        command.arg("--").args(self.filters);
        self.counted("the pure crates", command, PURE_LIMIT)
    }

    /// Its own tests, then [`SEEDS`] seeds, some of them twice, and leases that end. Before all that needs RocksDB, which it never builds.
    fn simulation(&mut self) -> Result<()> {
        let mut command = self.cargo.simulation("test");
        command.arg("--").args(self.filters);
        self.counted("the simulation's own tests", command, SIMULATION_BUILD_LIMIT)?;
        if !self.filters.is_empty() {
            return Ok(());
        }
        if !bounded::run(self.cargo.simulation("build"), self.limit(SIMULATION_BUILD_LIMIT), |_| {})?.is_success() {
            self.record("the simulation does not build", Tally::ONE_FAILED, false);
            return Ok(());
        }
        for (name, arguments) in [
            ("seeds", &["--seeds", SEEDS][..]),
            ("seeds, each twice", &["--twice", "--seeds", SEEDS_TWICE]),
            ("leases that end", &["--expiries", EXPIRIES]),
        ] {
            let mut command = Command::new(self.cargo.simulation_binary("conclave-sweep"));
            command.args(arguments);
            self.counted(&format!("simulation: {name}"), command, SIMULATION_LIMIT)?;
        }
        Ok(())
    }

    /// Builds in one go; none when something does not build. A faults build is set aside.
    fn build(&mut self, build: Build) -> Result<Option<Artifacts>> {
        println!("== building {}", if build == Build::Faults { "for faults" } else { "the product and all tests" });
        let mut messages = String::new();
        let end = bounded::run(self.cargo.build_command(build), self.limit(BUILD_LIMIT), |line| {
            messages.push_str(line);
            messages.push('\n');
        })?;
        if !end.is_success() {
            self.record(&format!("the build {}", reason(end)), Tally::ONE_FAILED, false);
            return Ok(None);
        }
        let mut artifacts = parse_artifacts(&messages);
        if build == Build::Faults {
            artifacts.binaries = vec![("conclave".to_owned(), self.cargo.set_aside(&artifacts)?)];
        }
        Ok(Some(artifacts))
    }

    fn executables(&mut self, product: &Artifacts, faults: &Artifacts) -> Result<()> {
        let binaries = Binaries { product: product.binary("conclave"), faults: faults.binary("conclave") };
        let mut tests: Vec<&TestExecutable> =
            product.tests.iter().filter(|test| !layering::PURE.contains(&test.package.as_str())).collect();
        tests.sort_by_key(|test| (test.package == PROCESS_SUITES, test.package.clone(), test.target.clone()));
        for test in tests {
            let limit = if test.package == PROCESS_SUITES { PROCESS_SUITE_LIMIT } else { EXECUTABLE_LIMIT };
            let name = format!("{} {}", test.package, test.target);
            self.counted(&name, test_command(test, binaries, self.filters), limit)?;
        }
        Ok(())
    }

    fn documentation(&mut self) -> Result<()> {
        let mut command = self.cargo.command("test");
        command.args(SELECTION).args(["--locked", "--doc", "--"]).args(self.filters);
        self.counted("examples in the documentation", command, DOC_LIMIT)
    }

    /// Runs `command`, shows what it prints and adds up the results in it.
    fn counted(&mut self, name: &str, command: Command, limit: Duration) -> Result<()> {
        println!("== {name}");
        let (mut tally, mut skipped) = (Tally::default(), 0);
        let end = bounded::run(command, self.limit(limit), |line| {
            println!("{line}");
            if let Some(result) = Tally::from_result_line(line) {
                tally += result;
            }
            skipped += u64::from(Tally::is_skipped_line(line));
        })?;
        tally.skip(skipped);
        // A crash, or the end of its time, leaves no result line; it must not look like success.
        if !end.is_success() && tally.failed == 0 {
            tally += Tally::ONE_FAILED;
        }
        let title = if end.is_success() { name.to_owned() } else { format!("{name} {}", reason(end)) };
        self.record(&title, tally, end.is_success());
        Ok(())
    }

    fn record(&mut self, title: &str, tally: Tally, succeeded: bool) {
        self.tally += tally;
        if !succeeded {
            self.failures.push(title.to_owned());
        }
    }

    fn limit(&self, own: Duration) -> Duration {
        own.min(self.deadline.saturating_duration_since(Instant::now()))
    }
}

/// What suites start.
#[derive(Debug, Clone, Copy)]
pub struct Binaries<'a> {
    pub product: Option<&'a Path>,
    /// The one with crash points and planted bugs.
    pub faults: Option<&'a Path>,
}

/// Runs a test executable, or those of its tests whose names contain a filter.
pub fn test_command(test: &TestExecutable, binaries: Binaries<'_>, filters: &[String]) -> Command {
    let mut command = Command::new(&test.path);
    command.args(filters).current_dir(&test.package_root).stdin(Stdio::null());
    command.env("CARGO_MANIFEST_DIR", &test.package_root).env("RUST_BACKTRACE", "1");
    for (variable, binary) in [("CONCLAVE_BIN", binaries.product), ("CONCLAVE_FAULTS_BIN", binaries.faults)] {
        command.envs(binary.map(|binary| (variable, binary)));
    }
    command
}

fn reason(end: End) -> String {
    match end {
        End::Exited(status) => format!("({status})"),
        End::OutOfTime => "(out of time)".to_owned(),
    }
}
