//! The façade over openraft: groups that replicate opaque payloads over one engine a node.
//!
//! Nobody else names openraft. This crate must not know rooms, shard maps or gRPC: payloads are bytes, peers are reached
//! through the [`PeerTransport`] port, and what entries mean is the [`StateMachine`]'s affair.
//!
//! Start with [`group`] (what a caller can do), [`state_machine`] (what a group drives) and [`log_writer`] (durability).

pub mod group;
pub mod limits;
pub mod log_writer;
pub mod node;
pub mod options;
pub mod peers;
pub mod state_machine;

mod apply;
mod apply_lane;
mod commit_notice;
mod group_log;
mod handler;
mod keys;
mod log_cache;
mod log_scrub;
mod log_store;
mod milestones;
mod network;
mod pace;
mod snapshot;
#[cfg(test)]
mod store_suite;
mod stored_log;
mod types;
mod wire;

pub use group::{
    BarrierError, Group, GroupStatus, InitializeError, LeaderTerm, Leadership, LocalWriteError, MembershipError,
    ProposeError, Proposed, TransferError,
};
pub use keys::state as state_range;
pub use log_writer::{LogSyncer, LogWriter, Step};
pub use node::{OpenError, RaftNode};
pub use options::RaftOptions;
pub use peers::{Lane, PeerAddress, PeerCall, PeerError, PeerHandler, PeerTransport};
pub use state_machine::{Committed, LOCAL_CLASS, Reply, StateMachine, StateMachineError};
pub use stored_log::stored_entries;
