//! Plays one seed.
//!
//! Randomness and clocks of this process are the simulation's: the C library's functions for both are replaced in this
//! executable, which is why a sweep is another one.
#![expect(clippy::print_stdout, reason = "a command line tool talks to its terminal")]

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use conclave_simulation::clock::Now;
use conclave_simulation::options::Options;
use conclave_simulation::outcome::Finding;
use conclave_simulation::{run, timeline};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Whether the async runtime takes seeds, which it does only if it is built for it.
const SEEDED: bool = cfg!(tokio_unstable);

fn main() -> ExitCode {
    let played = Options::parse(std::env::args().skip(1)).and_then(|options| one(&options));
    match played {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays one seed in this process.
fn one(options: &Options) -> Result<ExitCode> {
    if !SEEDED {
        bail!("built without its flags, so runs would not repeat: use `cargo xtask sim`");
    }
    let seed = options.seeds.start;
    let plan = options.plan(seed);
    let now = Arc::<Now>::default();
    timeline::start(options.timeline.as_deref(), &options.log, now.clone())?;
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    // On a thread of its own, whose random state begins with the run: what was set up before, as a log, makes no
    // difference to it.
    let outcome = std::thread::scope(|scope| scope.spawn(|| run::run(&plan, now)).join());
    let Ok(outcome) = outcome else { bail!("the run panicked") };
    if let (Some(path), Some(history)) = (&options.history, &outcome.history) {
        history.save(path)?;
    }
    println!("{}", serde_json::to_string(&outcome)?);
    // Without tearing anything down: what was left waiting would only be told so.
    std::process::exit(match outcome.finding {
        Finding::Nothing => 0,
        Finding::Violations(_) => 1,
        Finding::NotEnoughEvidence(_) => 2,
        Finding::Harness(_) => 3,
    })
}
