//! Plays many seeds, each in a process of its own.

use std::process::ExitCode;

use conclave_simulation::options::Options;
use conclave_simulation::sweep;

fn main() -> ExitCode {
    let options = Options::parse(std::env::args().skip(1));
    let swept =
        options.and_then(|options| if options.mutations { sweep::mutations(&options) } else { sweep::run(&options) });
    match swept {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
