//! What the process-level suites share: clusters of real processes and recorded input.

pub mod cluster;
pub mod trace;
