//! A room host: serves the shards that the cluster's table places on this node.
//!
//! Everything that needs an async runtime and is about rooms lives here; what a command does is `conclave-room`'s, how it
//! is replicated is `conclave-raft`'s. This crate must not know which engine it runs on, nor spawn threads.
//!
//! Life of a write: [`service`] or [`session`] takes it, [`admit`] checks it, [`proposer`] makes it part of a log entry,
//! [`machine`] applies it, and the outcome goes back the same way. [`shard`] and [`leadership`] say who may do that;
//! [`node`] puts it all together.

mod admin;
mod admit;
mod cluster_time;
mod convert;
mod faults;
mod hub;
mod leader_clock;
mod leadership;
mod machine;
pub mod node;
mod proposer;
mod reads;
mod receive;
mod registry;
mod scope;
mod secrets;
mod service;
mod session;
mod shard;
mod shard_time;
mod shed;
mod streams;
mod tables;
mod waiters;

pub use node::{Host, HostError, HostOptions, HostParts};
