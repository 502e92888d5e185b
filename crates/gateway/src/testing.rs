//! What tests of this crate share.

use std::time::Duration;

use conclave_types::{Clock, Timestamp};
use parking_lot::Mutex;

/// A clock that moves when told to.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Duration>);

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        Timestamp(u64::try_from(self.monotonic().as_millis()).expect("tests are short"))
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }
}
