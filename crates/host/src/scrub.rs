//! Reads this host's store through, slowly and again and again, so that damage to what nobody asks for is found while the
//! peers are still well.
//!
//! Whoever finds damage reports it to the store, which ends the process; here is nothing to decide.

use std::sync::Arc;
use std::time::Duration;

use conclave_storage::{Engine, Scrub};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::workers::Blocking;

/// What one step reads, and the pause after it: at most 4 MiB a second, which hardly anybody notices.
const STEP_BYTES: usize = 1 << 20;
const PAUSE: Duration = Duration::from_millis(250);
/// Between two readings of the whole store.
const REST: Duration = Duration::from_secs(6 * 60 * 60);

/// Runs until the host stops. A step that is under way then ends by itself.
pub async fn run(engine: Arc<dyn Engine>, blocking: Blocking, keep: CancellationToken) {
    keep.run_until_cancelled(async {
        loop {
            read_through(&engine, blocking).await;
            sleep(REST).await;
        }
    })
    .await;
}

async fn read_through(engine: &Arc<dyn Engine>, blocking: Blocking) {
    let mut scrub = Scrub::new();
    loop {
        let engine = engine.clone();
        let step = blocking.run(move || {
            let left = scrub.step(&*engine, STEP_BYTES);
            (scrub, left)
        });
        let Ok((stepped, left)) = step.await else { return };
        scrub = stepped;
        match left {
            Ok(true) => sleep(PAUSE).await,
            Ok(false) => {
                info!(bytes = scrub.bytes(), "the store was read through");
                return;
            }
            Err(reason) => {
                warn!(%reason, "the store cannot be read through");
                return;
            }
        }
    }
}
