//! The clock port. Code that needs time takes it from here, so that simulation can give it another.

use std::time::Duration;

use crate::Timestamp;

pub trait Clock: Send + Sync + 'static {
    /// The machine's wall clock. May jump.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed moment of this process. Never goes back, never jumps.
    fn monotonic(&self) -> Duration;
}
