//! The binary `conclave`: what can be typed, what a role runs with, and how components become roles.
//!
//! Here, and only here, the components are composed into the roles `dev`, `host` and `gateway`, and get their engine,
//! clock, threads and runtime. This library knows nothing that another crate could need; it is apart from the binary so
//! that its tests need no process.
//!
//! Start with [`flags`] (what can be typed) and [`config`] (what a role runs with), then [`roles`] and [`verbs`].

pub mod config;
pub mod flags;
pub mod roles;
pub mod verbs;

mod system_clock;
mod threads;
