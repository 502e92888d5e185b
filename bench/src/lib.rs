//! What the load generators share: the cluster that is measured, loads, readings around them, and rows of results.
//!
//! Two programs stand on it: `conclave-bench` measures a cluster of ours, and `bench/compare` ours beside another
//! system. Start with [`send`]; [`probe`] says what is read around each run, [`report`] what a row is, [`ratio`] how two
//! systems are held against each other.

pub mod availability;
pub mod bench;
pub mod document;
pub mod fan_out;
pub mod host_status;
pub mod idle;
pub mod load;
pub mod open_loop;
pub mod probe;
pub mod ratio;
pub mod receive;
pub mod report;
pub mod restart;
pub mod send;
pub mod usage;
pub mod waiting;

/// Rows go here, from the root of the workspace.
pub const RESULTS: &str = "bench/results";
