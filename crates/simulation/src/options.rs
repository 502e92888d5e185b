//! The command lines of this package.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::plan::Plan;

pub const USAGE: &str = "\
conclave-simulation --seed N [--seconds 60] [--expiries N] [--hosts N] [--history FILE] [--timeline FILE]
                    [--log FILTER]
conclave-sweep [--mutations] [--seeds FROM..TO] [--minutes N] [--seconds 60] [--expiries N] [--hosts N] [--jobs N]
               [--twice] [--ledger FILE]

The first plays one seed and prints what came of it as one line of JSON; the second plays many, each in a process of its
own, and sums up. With --expiries a seed takes as long as it takes to let so many leases end under kills of leaders; one
seed, unless --seeds says more.
";

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    pub seeds: std::ops::Range<u64>,
    pub seconds: u64,
    /// Leases that each seed is to let end, instead of the load that does everything.
    pub expiries: Option<u64>,
    pub hosts: Option<usize>,
    pub minutes: Option<u64>,
    pub jobs: usize,
    /// Play each seed twice and compare.
    pub twice: bool,
    /// Plant bugs and count the seeds until each is caught.
    pub mutations: bool,
    pub history: Option<PathBuf>,
    pub timeline: Option<PathBuf>,
    pub ledger: Option<PathBuf>,
    pub log: String,
}

impl Options {
    /// Reads what follows the command.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options {
            seeds: 0..50,
            seconds: 60,
            expiries: None,
            hosts: None,
            minutes: None,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            twice: false,
            mutations: false,
            history: None,
            timeline: None,
            ledger: None,
            log: "info,openraft=error,turmoil=info".to_owned(),
        };
        let mut are_seeds_given = false;
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{flag} needs a value\n\n{USAGE}"));
            match flag.as_str() {
                "--seed" => {
                    let seed = value()?.parse()?;
                    options.seeds = seed..seed + 1;
                    are_seeds_given = true;
                }
                "--seeds" => {
                    options.seeds = seeds(&value()?)?;
                    are_seeds_given = true;
                }
                "--seconds" => options.seconds = value()?.parse()?,
                "--expiries" => options.expiries = Some(value()?.parse()?),
                "--hosts" => options.hosts = Some(value()?.parse()?),
                "--minutes" => options.minutes = Some(value()?.parse()?),
                "--jobs" => options.jobs = value()?.parse()?,
                "--twice" => options.twice = true,
                "--mutations" => options.mutations = true,
                "--history" => options.history = Some(value()?.into()),
                "--timeline" => options.timeline = Some(value()?.into()),
                "--ledger" => options.ledger = Some(value()?.into()),
                "--log" => options.log = value()?,
                _ => bail!("there is no flag {flag}\n\n{USAGE}"),
            }
        }
        if options.expiries.is_some() && !are_seeds_given {
            options.seeds = 0..1;
        }
        anyhow::ensure!(options.seconds >= 30, "--seconds: a run shorter than 30 s proves nothing");
        anyhow::ensure!(options.hosts.is_none_or(|hosts| (3..=7).contains(&hosts)), "--hosts: 3 to 7");
        Ok(options)
    }
}

impl Options {
    /// What a seed plays.
    pub fn plan(&self, seed: u64) -> Plan {
        match self.expiries {
            Some(expiries) => Plan::forcing(seed, expiries, self.hosts),
            None => Plan::new(seed, Duration::from_secs(self.seconds), self.hosts),
        }
    }
}

/// `FROM..TO`, without TO; or a count, from zero on.
fn seeds(text: &str) -> Result<std::ops::Range<u64>> {
    let (from, to) = text.split_once("..").unwrap_or(("0", text));
    let seeds = from.parse::<u64>()?..to.parse::<u64>()?;
    anyhow::ensure!(!seeds.is_empty(), "--seeds {text}: nothing lies between");
    Ok(seeds)
}
