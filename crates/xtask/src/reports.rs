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

/// Minutes of the report that is asked for with a release.
const TORTURE_MINUTES: u64 = 20;
/// What a torture takes beside its minutes: to start, to read everything back, to judge it.
const AROUND_TORTURE: Duration = Duration::from_secs(600);

/// `cargo xtask torture --minutes N --seed S`
pub fn torture(cargo: &Cargo, arguments: &[String]) -> Result<ExitCode> {
    let (minutes, seed) = minutes_and_seed(arguments)?;
    let lasts = Duration::from_secs(minutes * 60);
    let mut environment = vec![("CONCLAVE_TORTURE_SECONDS", lasts.as_secs().to_string())];
    environment.extend(seed.map(|seed| ("CONCLAVE_SEED", seed.to_string())));
    let seed = seed.map_or_else(String::new, |seed| format!(" --seed {seed}"));
    let run = LongRun {
        title: "torture",
        target: "torture",
        test: "whatever_fails_nothing_acknowledged_is_lost",
        environment,
        limit: lasts + AROUND_TORTURE,
        command: format!("cargo xtask torture --minutes {minutes}{seed}"),
    };
    long_run::run(cargo, &run)
}

/// The seed is the run's own choice unless it is given.
fn minutes_and_seed(arguments: &[String]) -> Result<(u64, Option<u64>)> {
    let (mut minutes, mut seed) = (TORTURE_MINUTES, None);
    let mut rest = arguments;
    while let [flag, value, behind @ ..] = rest {
        let number: u64 = value.parse().with_context(|| format!("{flag} {value}: not a number"))?;
        match flag.as_str() {
            "--minutes" => minutes = number,
            "--seed" => seed = Some(number),
            _ => bail!("expected `--minutes N` and `--seed S`, not `{flag}`"),
        }
        rest = behind;
    }
    ensure!(rest.is_empty(), "{} lacks its number", rest.join(" "));
    ensure!(minutes > 0, "--minutes must be above zero");
    Ok((minutes, seed))
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

    #[test]
    fn a_torture_has_minutes_and_perhaps_a_seed() {
        let read = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            minutes_and_seed(&arguments)
        };
        assert_eq!(read(&[]).unwrap(), (20, None));
        assert_eq!(read(&["--seed", "7", "--minutes", "3"]).unwrap(), (3, Some(7)));
        for wrong in [&["--minutes"][..], &["--minutes", "0"], &["--minutes", "x"], &["--hours", "1"], &["3"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
