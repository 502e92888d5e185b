//! The façade over openraft: groups that replicate opaque payloads over one engine a node.
//!
//! Nobody else names openraft. This crate must not know rooms, shard maps or gRPC: payloads are bytes, peers are reached
//! through the [`PeerTransport`] port, and what entries mean is the [`StateMachine`]'s affair.
//!
//! Start with [`group`] (what a caller can do), [`state_machine`] (what a group drives) and [`log_writer`] (durability).

pub mod peers;
pub mod state_machine;

pub use peers::{Lane, PeerAddress, PeerCall, PeerError, PeerHandler, PeerTransport};
pub use state_machine::{Committed, Reply, StateMachine, StateMachineError};
