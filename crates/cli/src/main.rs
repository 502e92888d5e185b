//! The binary `conclave`.

use std::process::ExitCode;

use clap::Parser;
use conclave_cli::config::{self, ConfigError};
use conclave_cli::flags::{Cli, Command, TokenCommand};

fn main() -> ExitCode {
    match check(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses a configuration that a role cannot run with.
fn check(command: &Command) -> Result<(), ConfigError> {
    match command {
        Command::Dev(flags) => config::load_dev(flags).map(drop),
        Command::Host(flags) => config::load_host(flags, &config::process_environment()).map(drop),
        Command::Gateway(flags) => config::load_gateway(flags, &config::process_environment()).map(drop),
        Command::Token { command: TokenCommand::Create(create) } => {
            create.operator.hosts().and_then(|_| create.operator.token()).map(drop)
        }
        Command::Leader(leader) => leader.operator.hosts().and_then(|_| leader.operator.token()).map(drop),
        Command::Rooms { .. } | Command::Room { .. } | Command::Version => Ok(()),
    }
}
