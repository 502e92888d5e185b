//! What the binary `conclave` is told: its flags and its configuration.
//!
//! Here, and only here, the components are composed into the roles `dev`, `host` and `gateway`. This library knows
//! nothing that another crate could need; it is apart from the binary so that its tests need no process.
//!
//! Start with [`flags`] (what can be typed) and [`config`] (what a role runs with).

pub mod config;
pub mod flags;
