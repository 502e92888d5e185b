//! The room state machine: what a committed command does to the rooms of one shard.
//!
//! Pure: no clock, randomness, async runtime, hash order or I/O of its own. Time and identities arrive inside the
//! command, state is reached through the [`TableReads`] port, and everything the outside must do is returned as an
//! [`Effect`]. So replicas that apply the same entries agree byte for byte.
//!
//! Start with [`command`] and [`outcome`] (the vocabulary), then [`mod@apply`] (how a log entry runs).

pub mod command;
pub mod outcome;

pub mod apply;
pub mod read;

pub(crate) mod room;

pub(crate) mod queue;

pub(crate) mod document;
pub mod local;

pub(crate) mod message;

pub(crate) mod session;

pub(crate) mod request;

pub(crate) mod advance;

pub(crate) mod state;

pub(crate) mod cache;

pub(crate) mod overlay;

pub(crate) mod codec;
pub(crate) mod keys;
pub mod tables;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use apply::{Batch, Writes, apply, next_due};
pub use command::{
    Advance, Command, Configure, ItemOptions, MessageRetention, NotBefore, Operation, Origin, Receiver, SessionFrame,
};
pub use local::LocalHeader;
pub use outcome::{Applied, CancelResult, Change, ChangeKind, DeliveredItem, DeliveryResult, Effect, Outcome, Refusal};
pub use queue::{
    DeadLetter, DeadReason, Failure, FailureKind, MAX_QUEUES_PER_ROOM, Overflow, QueueSettings, QueueState,
    QueueTotals, SettingsPatch,
};
pub use read::{
    DocumentView, MessageLogView, QueueView, RoomRecord, StoredDocumentChange, StoredMessage, StoredUpdate,
};
pub use room::RoomState;
pub use tables::{Pairs, TableError, TableReads, Tables};
