//! Waits for what another process does; there is no other way to tell than to ask.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(50);
/// How long a cluster may take that should long be ready.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// Tries until it succeeds or the cluster should long be ready.
pub async fn eventually<T, F: Future<Output = Result<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> Result<T> {
    let until = Instant::now() + READY_WITHIN;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > until => {
                return Err(error.context(format!("{what}, within {READY_WITHIN:?}")));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}
