//! `cargo xtask sim`: builds the simulation and plays seeds.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cargo::Cargo;
use crate::long_run::{REPORTS, commit, printed};

/// Where the ledger is kept, among the reports.
const LEDGER: &str = "simulation-ledger.md";
/// What the ledger's line begins with.
const LABEL: &str = "CONCLAVE_SIMULATION_LABEL";

/// Plays one seed (`--seed`), plants bugs (`--mutations`), lets leases end (`--expiries`), or plays many seeds for the
/// ledger. Arguments go to the simulation, which explains them.
pub fn run(cargo: &Cargo, arguments: &[String]) -> Result<ExitCode> {
    let built = cargo.simulation("build").status().context("cannot run cargo")?;
    if !built.success() {
        bail!("the simulation does not build");
    }
    let asks = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let date = printed(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let mut command = Command::new(cargo.simulation_binary("conclave-sweep"));
    command.args(arguments).env(LABEL, format!("{date}, {}", commit(cargo.root())?));
    if !["--mutations", "--seed", "--expiries"].into_iter().any(asks) {
        command.arg("--ledger").arg(cargo.root().join(REPORTS).join(LEDGER));
    }
    let status = command.status().context("cannot start the sweep")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
