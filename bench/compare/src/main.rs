//! The comparison: three hosts of ours with a gateway and three servers of another system, measured in turn on this
//! machine.
//!
//! A turn starts one system, has it do every work, and ends it, so that no system's idle servers take from another's
//! turn; five rounds of turns give five ratios for each work. Whatever ends this program ends the servers too.
//!
//! Start with [`comparison`]; [`work`] says what is compared and what we want of it, [`cluster`] what a system must be
//! able to do.
#![expect(clippy::print_stdout, reason = "a command line tool talks to its terminal")]

mod cluster;
mod comparison;
mod nats;
mod ours;
mod rabbitmq;
mod servers;
mod work;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use conclave_bench::{RESULTS, report};
use tokio::signal::unix::{SignalKind, signal};

use crate::nats::Fsync;
use crate::work::System;

const USAGE: &str = "\
cargo xtask bench nats       ours beside NATS JetStream, as it comes and with every write synced
cargo xtask bench rabbitmq   ours beside a quorum queue of RabbitMQ
";

/// One thread, as for our own figures; the peers' clients may have threads of their own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let what = std::env::args().nth(1).unwrap_or_default();
    // What does not come to its end is dropped, and its processes with it.
    let ended = tokio::select! {
        ended = run(&what) => ended,
        stopped = stopped() => stopped,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(what: &str) -> Result<()> {
    let peers = match what {
        "nats" => vec![System::Nats(Fsync::AsItComes), System::Nats(Fsync::Always)],
        "rabbitmq" => vec![System::RabbitMq],
        _ => bail!("there is no comparison `{what}`\n\n{USAGE}"),
    };
    let rows = comparison::run(&peers).await?;
    let path = report::publish(Path::new(RESULTS), what, &rows)?;
    println!("\n{}\n{}", report::machine(), path.display());
    Ok(())
}

async fn stopped() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    bail!("stopped before the last round")
}
