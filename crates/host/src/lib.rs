//! A room host: serves the shards that the cluster's table places on this node.
//!
//! Everything that needs an async runtime and is about rooms lives here; what a command does is `conclave-room`'s, how it
//! is replicated is `conclave-raft`'s. This crate must not know which engine it runs on, nor spawn threads.
//!
//! Life of a write: [`service`] or [`session`] takes it, [`admit`] checks it, [`proposer`] makes it part of a log entry,
//! [`machine`] applies it, and the outcome goes back the same way. [`shard`] and [`leadership`] say who may do that,
//! [`membership`] keeps the members of what is led here in line with the table; [`node`] puts it all together.
//!
//! Life of an event: [`changes`] encodes what an entry changed, [`hub`] holds it for those who listen, and a [`feed`]
//! brings it to one of them, from storage first and from the hub once it has caught up.

mod admin;
mod admit;
mod awareness;
mod broken_off;
mod changes;
mod cluster_time;
mod compactor;
mod consume;
mod convert;
mod documents;
mod ephemeral;
mod faults;
mod feed;
mod hub;
mod leader_clock;
mod leadership;
mod machine;
mod membership;
mod metrics;
pub mod node;
mod outlook;
mod presence;
mod proposer;
mod queue_counts;
mod reads;
mod receive;
mod registry;
mod scope;
mod scrub;
mod secrets;
mod service;
mod session;
mod shard;
mod shard_time;
mod shed;
mod streams;
mod tables;
mod waiters;
mod workers;

pub use node::{Host, HostError, HostOptions, HostParts};
pub use workers::Blocking;
