//! The command lines of this package.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub const USAGE: &str = "\
conclave-simulation --seed N [--seconds 60] [--hosts N] [--history FILE] [--timeline FILE] [--log FILTER]
conclave-sweep [--mutations] [--seeds FROM..TO] [--minutes N] [--seconds 60] [--hosts N] [--jobs N] [--twice]
               [--ledger FILE]

The first plays one seed and prints what came of it as one line of JSON; the second plays many, each in a process of its
own, and sums up.
";

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    pub seeds: std::ops::Range<u64>,
    pub seconds: u64,
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
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{flag} needs a value\n\n{USAGE}"));
            match flag.as_str() {
                "--seed" => {
                    let seed = value()?.parse()?;
                    options.seeds = seed..seed + 1;
                }
                "--seeds" => options.seeds = seeds(&value()?)?,
                "--seconds" => options.seconds = value()?.parse()?,
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
        anyhow::ensure!(options.seconds >= 30, "--seconds: a run shorter than 30 s proves nothing");
        anyhow::ensure!(options.hosts.is_none_or(|hosts| (3..=7).contains(&hosts)), "--hosts: 3 to 7");
        Ok(options)
    }
}

/// `FROM..TO`, without TO; or a count, from zero on.
fn seeds(text: &str) -> Result<std::ops::Range<u64>> {
    let (from, to) = text.split_once("..").unwrap_or(("0", text));
    let seeds = from.parse::<u64>()?..to.parse::<u64>()?;
    anyhow::ensure!(!seeds.is_empty(), "--seeds {text}: nothing lies between");
    Ok(seeds)
}
