//! Calls into yrs that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// yrs panicked; the message is its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("yrs panicked: {0}")]
pub struct Panicked(pub String);

/// Runs `work`, which may leave what it borrows in disorder when it panics: the caller throws that away.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Panicked(message.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
    })
}
