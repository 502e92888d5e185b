//! What tests of several crates share: suites that every implementation of a port runs.
//!
//! This crate must not know any implementation: a suite is given the means to open one. Nothing that ships depends on
//! it. Start with [`engine_suite`](mod@engine_suite).

pub mod engine_suite;
