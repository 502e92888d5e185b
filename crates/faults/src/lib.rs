//! Crash points and planted bugs, for builds that are made to be broken.
//!
//! A [`Point`] is a place between two lines where a crash is worth a test. A [`Bug`] is a mistake that the suites must
//! catch, or they are not believed. Both exist only with the feature `inject`, and do nothing until the environment asks
//! for one; in the product they are empty functions. This crate must not know what its points mean.
//!
//! `CONCLAVE_CRASH_POINT=log-written` stops the process (SIGSTOP) the first time it comes there, `log-written:7` the
//! seventh time. Whoever watches decides what comes next: a kill, or a power cut. `CONCLAVE_PLANTED_BUG=skip-sync` plants
//! a bug. An unknown name ends the process: a typing error must not pass for a test that found nothing.

/// The variable that plants a bug, by its name.
pub const PLANTED_BUG: &str = "CONCLAVE_PLANTED_BUG";

/// A place where a process may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A batch of the log is written, not synced.
    LogWritten,
    /// A batch of the log is synced, and nobody has been told.
    LogSynced,
    /// A vote is written, not synced.
    VoteWritten,
    /// A batch of entries is applied, its replies are not handed out.
    Applied,
    /// A purge is queued behind the state that makes it safe.
    PurgeQueued,
    /// Some parts of a snapshot have arrived, not all.
    SnapshotReceiving,
    /// A snapshot is complete and about to replace the state.
    SnapshotInstalling,
    /// A snapshot has replaced the state, and Raft has not been told.
    SnapshotInstalled,
    /// A lease of queue items is committed, the delivery not handed out.
    LeaseCommitted,
    /// A compacted document is about to be swapped in.
    CompactionSwap,
    /// A compacted document was swapped in.
    CompactionSwapped,
    /// A damaged store is condemned in the identity file, and its successor does not exist yet.
    StoreCondemned,
}

/// A mistake to be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A sync of the log returns without syncing.
    SkipSync,
    /// A proposal is answered once it is written here, before a majority has it.
    AcknowledgeBeforeQuorum,
    /// An acknowledgement of a delivery is accepted whatever its attempt.
    IgnoreFence,
    /// A read is served without the proof that this replica still leads.
    ReadWithoutBarrier,
    /// A leader that restarts goes on leading its old term.
    RestoreLeadership,
    /// The last log entry is forgotten at a restart.
    DropLastEntry,
    /// A snapshot is taken in whatever its checksums say.
    SkipSnapshotChecksum,
}

impl Point {
    pub const ALL: [Point; 12] = [
        Point::LogWritten,
        Point::LogSynced,
        Point::VoteWritten,
        Point::Applied,
        Point::PurgeQueued,
        Point::SnapshotReceiving,
        Point::SnapshotInstalling,
        Point::SnapshotInstalled,
        Point::LeaseCommitted,
        Point::CompactionSwap,
        Point::CompactionSwapped,
        Point::StoreCondemned,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Point::LogWritten => "log-written",
            Point::LogSynced => "log-synced",
            Point::VoteWritten => "vote-written",
            Point::Applied => "applied",
            Point::PurgeQueued => "purge-queued",
            Point::SnapshotReceiving => "snapshot-receiving",
            Point::SnapshotInstalling => "snapshot-installing",
            Point::SnapshotInstalled => "snapshot-installed",
            Point::LeaseCommitted => "lease-committed",
            Point::CompactionSwap => "compaction-swap",
            Point::CompactionSwapped => "compaction-swapped",
            Point::StoreCondemned => "store-condemned",
        }
    }
}

impl Bug {
    pub const ALL: [Bug; 7] = [
        Bug::SkipSync,
        Bug::AcknowledgeBeforeQuorum,
        Bug::IgnoreFence,
        Bug::ReadWithoutBarrier,
        Bug::RestoreLeadership,
        Bug::DropLastEntry,
        Bug::SkipSnapshotChecksum,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Bug::SkipSync => "skip-sync",
            Bug::AcknowledgeBeforeQuorum => "acknowledge-before-quorum",
            Bug::IgnoreFence => "ignore-fence",
            Bug::ReadWithoutBarrier => "read-without-barrier",
            Bug::RestoreLeadership => "restore-leadership",
            Bug::DropLastEntry => "drop-last-entry",
            Bug::SkipSnapshotChecksum => "skip-snapshot-checksum",
        }
    }
}

#[cfg(feature = "inject")]
mod injected;
#[cfg(feature = "inject")]
pub use injected::{announce, planted, reached};

/// Stops the process if the environment asks for this point.
#[cfg(not(feature = "inject"))]
#[inline(always)]
pub fn reached(_point: Point) {}

/// Whether the environment plants this bug.
#[cfg(not(feature = "inject"))]
#[inline(always)]
pub fn planted(_bug: Bug) -> bool {
    false
}

/// What this build injects, for the log of its start; none in the product.
#[cfg(not(feature = "inject"))]
pub fn announce() -> Option<String> {
    None
}
