//! The long runs that are reported: which suite, which of its sizes, and how long it may take.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::Cargo;
use crate::long_run::{self, LongRun};

/// A suite whose size is a number that is typed.
struct Suite {
    /// The task, and the title of the report.
    title: &'static str,
    flag: &'static str,
    /// What the suite reads its size from.
    variable: &'static str,
    /// The size of the report that is asked for with a release.
    default: u64,
    target: &'static str,
    test: &'static str,
    /// The time that one of what is counted may take, beside other work on two cores.
    each: Duration,
}

const POWER: Suite = Suite {
    title: "power",
    flag: "--cuts",
    variable: "CONCLAVE_POWER_CUTS",
    default: 100,
    target: "power",
    test: "no_power_cut_loses_what_was_acknowledged",
    each: Duration::from_secs(30),
};

const DAMAGE: Suite = Suite {
    title: "damage",
    flag: "--damages",
    variable: "CONCLAVE_DAMAGES",
    default: 500,
    target: "damage",
    test: "damage_is_never_served_and_always_mended",
    each: Duration::from_secs(20),
};

/// `cargo xtask power --cuts N`
pub fn power(cargo: &Cargo, arguments: &[String]) -> Result<ExitCode> {
    run(cargo, &POWER, arguments)
}

/// `cargo xtask damage --damages N`
pub fn damage(cargo: &Cargo, arguments: &[String]) -> Result<ExitCode> {
    run(cargo, &DAMAGE, arguments)
}

fn run(cargo: &Cargo, suite: &Suite, arguments: &[String]) -> Result<ExitCode> {
    let size = number(suite.flag, suite.default, arguments)?;
    let run = LongRun {
        title: suite.title,
        target: suite.target,
        test: suite.test,
        environment: vec![(suite.variable, size.to_string())],
        limit: suite.each.saturating_mul(u32::try_from(size)?),
        command: format!("cargo xtask {} {} {size}", suite.title, suite.flag),
    };
    long_run::run(cargo, &run)
}

/// The number behind a flag, the only one that may be given.
pub fn number(flag: &str, default: u64, arguments: &[String]) -> Result<u64> {
    let number = match arguments {
        [] => default,
        [given, value] if given == flag => value.parse().with_context(|| format!("{flag} {value}: not a number"))?,
        _ => bail!("expected `{flag} N`, not `{}`", arguments.join(" ")),
    };
    ensure!(number > 0, "{flag} must be above zero");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_may_be_given() {
        let number = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            number("--cuts", 100, &arguments)
        };
        assert_eq!(number(&[]).unwrap(), 100);
        assert_eq!(number(&["--cuts", "3"]).unwrap(), 3);
        for wrong in [&["--cut", "3"][..], &["--cuts", "many"], &["--cuts", "0"], &["--cuts"], &["3"]] {
            assert!(number(wrong).is_err(), "{wrong:?}");
        }
    }
}
