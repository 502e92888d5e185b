//! What tests of whole processes ask of what they see: that it came in time, and that a message says what it should.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::timeout;

/// Far above what any such test takes.
const TEST_WITHIN: Duration = Duration::from_secs(120);

/// Runs a test that must not hang.
pub async fn within<T>(test: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(TEST_WITHIN, test).await.context("the test took too long")?
}

/// All of these parts are in the message.
pub fn says(message: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(message.contains(part), "{part:?} is missing in: {message}");
    }
    Ok(())
}
