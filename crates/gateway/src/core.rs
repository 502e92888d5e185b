//! What all calls of one gateway share.

use std::sync::Arc;
use std::time::Duration;

use conclave_types::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::retry::budget::TpsBudget;

use crate::GatewayOptions;
use crate::jitter::Jitter;
use crate::pool::Pool;
use crate::retained::RetainedBudget;
use crate::routing::Router;

/// Retries of the gateway as a whole: a floor for quiet times and a share of the traffic of the last seconds, so that
/// retries never become the load that keeps a cluster down.
const RETRY_WINDOW: Duration = Duration::from_secs(10);
const RETRIES_PER_SECOND: u32 = 10;
const RETRIED_SHARE: f32 = 0.2;

pub struct Core {
    pub options: GatewayOptions,
    pub clock: Arc<dyn Clock>,
    pub router: Router,
    pub pool: Pool,
    pub retries: TpsBudget,
    pub retained: Arc<RetainedBudget>,
    pub jitter: Jitter,
    /// Sessions and streams end when it is cancelled.
    pub closing: CancellationToken,
    /// Owns the task of each session.
    pub sessions: TaskTracker,
    /// Owns the task of each server stream.
    pub streams: TaskTracker,
}

impl Core {
    pub fn new(options: GatewayOptions, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Core {
            router: Router::new(clock.clone()),
            pool: Pool::new(options.network.clone()),
            retries: TpsBudget::new(RETRY_WINDOW, RETRIES_PER_SECOND, RETRIED_SHARE),
            retained: RetainedBudget::new(options.retained_bytes),
            jitter: Jitter::new(options.seed),
            closing: CancellationToken::new(),
            sessions: TaskTracker::new(),
            streams: TaskTracker::new(),
            options,
            clock,
        })
    }
}
