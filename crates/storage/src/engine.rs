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
    /// Physical damage: what was read is not what was written. Whoever finds it reports it to [`Engine::damage`].
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Whole, and not understood: a newer version wrote it, or a bug did. Every replica would hold the same, so it says
    /// nothing against the store.
    #[error("stored data has a form that this version does not know: {0}")]
    Foreign(String),
    /// A pair that does not belong where it was put into a [`Staging`]: nothing was changed.
    #[error("a pair cannot be staged: {0}")]
    Misplaced(&'static str),
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

    /// As [`scan`](EngineView::scan), for those who read much and only once: it leaves caches to others.
    fn scan_once(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan(family, range)
    }
}

/// One node's store. Calls block; callers choose the thread.
pub trait Engine: EngineView + 'static {
    /// Writes a batch atomically, after all earlier batches; readable on return, durable only after `sync`.
    fn write(&self, batch: WriteBatch) -> Result<(), EngineError>;

    /// On return everything written before the call survives a power cut.
    fn sync(&self) -> Result<(), EngineError>;

    /// Begins to gather what shall replace all of a range. The range ends where no key of its owner can lie: an engine
    /// may count the end as part of it when it looks for neighbours.
    fn stage(self: Arc<Self>, family: Family, range: KeyRange) -> Result<Box<dyn Staging>, EngineError>;

    /// A view that later writes do not change. Holding one for long keeps old data on disk.
    fn snapshot(self: Arc<Self>) -> Arc<dyn EngineView>;

    /// Where whoever reads this store reports what cannot be what was written. The engine itself reports what it finds.
    fn damage(&self) -> &Damage;

    /// Counters since the engine was opened.
    fn stats(&self) -> EngineStats;
}

/// The future contents of a range, gathered aside: invisible until installed, and gone if dropped or after a crash.
pub trait Staging: Send {
    /// Adds a pair. Keys ascend and lie in the range; any other is refused, and what was staged before stays as it was.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError>;

    /// Replaces the range with exactly the pairs put. On return that is durable, and so is everything written before the
    /// call. A reader or a crash finds the whole old range or the whole new one. Views taken before keep the old.
    ///
    /// Nobody else may write to the range meanwhile. After an error the state of the files is unknown, as after `sync`.
    fn install(self: Box<Self>) -> Result<(), EngineError>;
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
