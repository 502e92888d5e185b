//! The binary `conclave`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use conclave_cli::flags::{Cli, Command, TokenCommand};
use conclave_cli::{config, roles, verbs};

/// What is left to end by itself once the command is done.
const REST: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let done = tokio::runtime::Runtime::new().context("no runtime").and_then(|runtime| {
        let done = runtime.block_on(run(command));
        runtime.shutdown_timeout(REST);
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", verbs::explain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Dev(flags) => roles::run_dev(config::load_dev(&flags)?).await,
        Command::Host(flags) => roles::run_host(config::load_host(&flags, &config::process_environment())?).await,
        Command::Gateway(flags) => {
            roles::run_gateway(config::load_gateway(&flags, &config::process_environment())?).await
        }
        Command::Rooms { client, command } => verbs::run_rooms(&client, command).await,
        Command::Room { client, command } => verbs::run_room(&client, command).await,
        Command::Token { command: TokenCommand::Create(create) } => verbs::operator::create_token(create).await,
        Command::Leader(leader) => verbs::operator::print_leader(leader).await,
        Command::Status(status) => verbs::status::print_status(status).await,
        Command::Version => {
            print_version();
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the version is what this command is for")]
fn print_version() {
    println!("conclave {}", env!("CARGO_PKG_VERSION"));
    println!("commit {}", env!("CONCLAVE_COMMIT"));
    println!("data format {}", conclave_cluster::identity::DATA_FORMAT);
}
