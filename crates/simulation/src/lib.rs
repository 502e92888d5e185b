//! The whole cluster in one process under simulated time: real hosts, gateways and clients, with every fault drawn from
//! one seed, so that whatever a seed finds it finds again.
//!
//! A run ([`run`]) takes a plan ([`plan`]), builds machines ([`machine`]) with disks ([`disk`]), clocks ([`clock`]) and
//! wires ([`wire`]), loads them ([`client`]), lets the nemesis ([`nemesis`]) act, and judges what came of it. A sweep
//! ([`sweep`]) runs many seeds, each in a process of its own, because libraries keep random state by process.
//!
//! Must not link the C++ store: its threads know nothing of simulated time. Built by `cargo xtask sim` with flags of its
//! own, which seed the async runtime and send every call for randomness through the interposed one.
#![expect(clippy::print_stdout, reason = "the commands of this package talk to their terminal")]

mod client;
pub mod clock;
mod disk;
mod edge;
mod invariants;
mod machine;
mod nemesis;
pub mod options;
pub mod outcome;
pub mod plan;
pub mod run;
pub mod sweep;
pub mod timeline;
mod trace;
mod wire;
