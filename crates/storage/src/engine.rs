//! The engine port.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Damage, WriteBatch};

/// A separate key space with its own memory and compaction; all share one write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Raft log entries, votes and log metadata.
    Log,
    /// State of all groups.
    State,
    /// Which replicas this node hosts, and who it is.
    Node,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Log, Family::State, Family::Node];

    pub fn name(self) -> &'static str {
        match self {
            Family::Log => "log",
            Family::State => "state",
            Family::Node => "node",
        }
    }
}

/// Keys from `from` (inclusive) to `to` (exclusive).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

/// Why an operation did not happen. After `Io` from `sync` the state of the files is unknown: the process must stop.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error("storage i/o failed: {0}")]
    Io(String),
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    #[error("the data folder cannot be opened: {0}")]
    Open(String),
}

pub type Pairs<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), EngineError>> + 'a>;

/// Reads of one consistent state.
pub trait EngineView: Send + Sync {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The pairs of a range in ascending key order.
    fn scan(&self, family: Family, range: KeyRange) -> Pairs<'_>;

    /// The pairs of a range in descending key order.
    fn scan_back(&self, family: Family, range: KeyRange) -> Pairs<'_>;
}

/// One node's store. Calls block; callers choose the thread.
pub trait Engine: EngineView + 'static {
    /// Writes a batch atomically, after all earlier batches; readable on return, durable only after `sync`.
    fn write(&self, batch: WriteBatch) -> Result<(), EngineError>;

    /// On return everything written before the call survives a power cut.
    fn sync(&self) -> Result<(), EngineError>;

    /// A view that later writes do not change. Holding one for long keeps old data on disk.
    fn snapshot(self: Arc<Self>) -> Arc<dyn EngineView>;

    /// Where whoever reads this store reports what cannot be what was written. The engine itself reports what it finds.
    fn damage(&self) -> &Damage;

    /// Counters since the engine was opened.
    fn stats(&self) -> EngineStats;
}

/// What the engine did since it was opened, for measurements.
#[derive(Debug, Clone, Default)]
pub struct EngineStats {
    pub syncs: u64,
    /// Bytes appended to the write-ahead log.
    pub wal_bytes: u64,
    pub families: Vec<FamilyStats>,
}

#[derive(Debug, Clone)]
pub struct FamilyStats {
    pub family: Family,
    /// Puts and deletes, and the bytes of their keys and values.
    pub operations: u64,
    pub written_bytes: u64,
    /// Bytes of the family's live tables on disk.
    pub table_bytes: u64,
}
