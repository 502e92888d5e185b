//! `ci` checks and writes nothing; `fix` rewrites what a tool can mend.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cargo::{Cargo, SELECTION};
use crate::{layering, links, sizes};

/// Makes golden tests write what they would compare.
const REWRITE: &str = "CONCLAVE_REWRITE";

/// One check that is a cargo command.
struct Check {
    name: &'static str,
    subcommand: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const CHECKS: [Check; 4] = [
    Check { name: "format", subcommand: "fmt", arguments: &["--all", "--check"], environment: &[] },
    Check {
        name: "lints",
        subcommand: "clippy",
        arguments: &["--release", "--workspace", "--locked", "--all-targets", "--", "-D", "warnings"],
        environment: &[],
    },
    Check {
        name: "documentation",
        subcommand: "doc",
        arguments: &["--release", "--workspace", "--locked", "--no-deps", "--document-private-items"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
    Check { name: "golden files", subcommand: "test", arguments: &GOLDEN, environment: &[] },
];

/// The tests that compare the public API's descriptor and the sample configuration with the committed files. The
/// selection is that of all builds because another one would build other variants of what it depends on.
const GOLDEN: [&str; 10] = [
    SELECTION[0],
    SELECTION[1],
    SELECTION[2],
    SELECTION[3],
    SELECTION[4],
    SELECTION[5],
    "--locked",
    "--",
    "descriptor",
    "sample_configuration",
];

pub fn check(cargo: &Cargo) -> Result<ExitCode> {
    let mut failed = Vec::new();
    for (name, found) in [("layering", layering::check(cargo)?), ("links", links::broken(cargo.root())?)] {
        println!("== {name}");
        found.iter().for_each(|line| println!("{line}"));
        if !found.is_empty() {
            failed.push(name);
        }
    }
    for check in &CHECKS {
        println!("== {}", check.name);
        let mut command = cargo.command(check.subcommand);
        command.args(check.arguments).envs(check.environment.iter().copied()).env_remove(REWRITE);
        if !command.status().with_context(|| format!("cannot run cargo {}", check.subcommand))?.success() {
            failed.push(check.name);
        }
    }
    for (file, lines) in sizes::long_files(cargo.root())? {
        println!("hint: {} has {lines} lines; look for the seam", file.display());
    }
    if failed.is_empty() {
        println!("all checks passed");
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

pub fn fix(cargo: &Cargo) -> Result<ExitCode> {
    let clippy = ["--fix", "--allow-dirty", "--allow-staged", "--release", "--workspace", "--all-targets"];
    let steps: [(&str, &[&str]); 3] = [("clippy", &clippy), ("fmt", &["--all"]), ("test", &GOLDEN)];
    let mut success = true;
    for (subcommand, arguments) in steps {
        let mut command = cargo.command(subcommand);
        command.args(arguments).env(REWRITE, "1");
        success &= command.status().with_context(|| format!("cannot run cargo {subcommand}"))?.success();
    }
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
