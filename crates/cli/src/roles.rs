//! The roles a process can have.

mod dev;
mod gateway;
mod host;
mod store;

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::Address;

pub use dev::run as run_dev;
pub use gateway::run as run_gateway;
pub use host::run as run_host;

/// Logs go to standard error, so that what a command prints stays apart.
fn start_logging(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).context("log filter")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init()
        .map_err(|reason| anyhow!("logging cannot be started: {reason}"))?;
    if let Some(injected) = conclave_faults::announce() {
        tracing::warn!("{injected}");
    }
    Ok(())
}

/// Completes on SIGTERM or SIGINT.
pub(crate) async fn told_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn bind(address: &Address) -> Result<TcpListener> {
    TcpListener::bind(address.to_string())
        .await
        .with_context(|| format!("cannot listen on {address}: is another process there? Choose another --listen"))
}
