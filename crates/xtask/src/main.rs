//! Project tasks: what a person or the CI types to set up, run, test, check and measure Conclave.
//!
//! Must not depend on any crate of the workspace: it has to build in seconds on a machine that cannot build RocksDB yet.
//! Start with [`setup`] (what every task does first), then [`test_run`] and [`checks`].
#![expect(clippy::print_stdout, reason = "a command line tool talks to its terminal")]

mod bounded;
mod cargo;
mod checkout;
mod checks;
mod comparison;
mod layering;
mod links;
mod long_run;
mod mutations;
mod reports;
mod setup;
mod simulation;
mod sizes;
mod tally;
mod test_run;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cargo::Cargo;
use crate::setup::Purpose;

const USAGE: &str = "\
cargo xtask <task>

  dev [args]            build, then start a three-host cluster with a gateway on loopback; arguments go to `conclave dev`
  test [filter]         run every test; the last line is `N passed, N failed`, and `, N skipped` if any was
  power [--cuts N]      cut the power of loaded hosts N times and write a report
  damage [--damages N]  damage the files of hosts N times and write a report
  mutations             plant seven bugs, one at a time, and see that the suites catch each
  torture [--minutes N] [--seed S]
                        let everything fail at random for N minutes and write a report
  sim [--seeds FROM..TO] [--minutes M] [--seed N] [--mutations] [--expiries N]
                        play seeds in the simulation and add a line to its ledger; one seed with its timeline; plant bugs
                        and count the seeds until each is caught; or let leases end under kills of leaders
  ci                    check format, lints, documentation, layering, descriptor, sample and links; writes nothing
  fix                   rewrite what `ci` checks and a tool can mend
  bench [what]          build, then run the load generator; arguments go to it
  bench nats, bench rabbitmq
                        build or install that system, then measure ours beside it
  setup                 install what building and breaking need; every other task does its part of this first

CARGO_TARGET_DIR says where to build; without it, ${XDG_CACHE_HOME:-~/.cache}/conclave/target.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match task.as_str() {
        "dev" => dev(&prepared(Purpose::Build)?, &rest),
        "test" => {
            let tally = test_run::run(&prepared(Purpose::Faults)?, &rest)?;
            println!("{tally}");
            Ok(if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        "power" => reports::power(&prepared(Purpose::Faults)?, &rest),
        "damage" => reports::damage(&prepared(Purpose::Faults)?, &rest),
        "mutations" => mutations::run(&prepared(Purpose::Faults)?),
        "torture" => reports::torture(&prepared(Purpose::Faults)?, &rest),
        "sim" => simulation::run(&prepared(Purpose::Build)?, &rest),
        "ci" => checks::check(&prepared(Purpose::Build)?),
        "fix" => checks::fix(&prepared(Purpose::Build)?),
        "bench" => match comparison::Peer::named(&rest) {
            Some(peer) => comparison::run(&prepared(peer.purpose())?, peer),
            None => bench(&prepared(Purpose::Build)?, &rest),
        },
        "setup" => {
            prepared(Purpose::Faults)?;
            println!("everything the build needs is here");
            Ok(ExitCode::SUCCESS)
        }
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        unknown => bail!("there is no task `{unknown}`\n\n{USAGE}"),
    }
}

/// Cargo, on a machine that has what this needs.
fn prepared(purpose: Purpose) -> Result<Cargo> {
    setup::run(purpose)?;
    Cargo::find()
}

fn dev(cargo: &Cargo, arguments: &[String]) -> Result<ExitCode> {
    let binary = cargo.build_product()?;
    let mut command = Command::new(&binary);
    command.arg("dev").args(arguments);
    let chose_data = |argument: &String| argument == "--ephemeral" || argument.starts_with("--data");
    if !arguments.iter().any(chose_data) {
        command.arg("--data").arg(cargo.root().join("data"));
    }
    replace_process(command)
}

fn bench(cargo: &Cargo, arguments: &[String]) -> Result<ExitCode> {
    let product = cargo.build_product()?;
    let generator = cargo.build_binary("conclave-bench")?;
    let mut command = Command::new(generator);
    command.args(arguments).env("CONCLAVE_BIN", product).envs([ONE_WORKER]).current_dir(cargo.root());
    replace_process(command)
}

/// What three hosts, a gateway and a generator on one small machine are given: a worker thread each. The runtime's own
/// default is one for each core.
pub const ONE_WORKER: (&str, &str) = ("TOKIO_WORKER_THREADS", "1");

/// Becomes `command`, so that signals reach it and nobody else.
pub fn replace_process(mut command: Command) -> Result<ExitCode> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}
