//! Bounds of this crate, with their reasons.

/// Most bytes of entries in one append: gRPC receivers refuse more than 4 MiB by default, and one frame must not hold the
/// stream for long. An append carries at least one entry, however large.
pub const MAX_APPEND_BYTES: usize = 1 << 20;
/// Most bytes and requests of one batch of the log writer: what one sync is shared by, and how long one write may block.
pub const MAX_WRITE_BATCH_BYTES: usize = 1 << 20;
pub const MAX_WRITE_BATCH_REQUESTS: usize = 1_024;
/// Most entries that one apply batch holds: bounds its memory and how late the first of them is answered.
pub const MAX_APPLY_ENTRIES: usize = 256;
/// Most bytes of one part of a snapshot: small beside what a lane buffers.
pub const MAX_SNAPSHOT_PART_BYTES: usize = 256 << 10;
/// Most bytes of log that one step of a scrub reads: what a replica's other work waits for.
pub const MAX_SCRUB_BYTES: usize = 256 << 10;
/// Log entries that a purge deletes one by one; more are deleted as one range.
pub const MAX_POINT_DELETES: u64 = 4_096;
/// Log writes that wait for the writer; a group that finds the queue full waits.
pub const MAX_QUEUED_LOG_WRITES: usize = 4_096;
/// Written batches that wait for one sync; the writer waits when a sync takes that long.
pub const MAX_UNSYNCED_BATCHES: usize = 1_024;
/// Most bytes of payloads of one apply batch, unless one entry alone is larger.
pub const MAX_APPLY_BYTES: usize = 4 << 20;
/// Snapshots that a node sends at once: each pins old data and competes with appends.
pub const MAX_SNAPSHOT_SENDS: usize = 2;
/// Appends that one group works on at once; more are answered as busy, so that a slow group holds up no other.
pub const MAX_APPENDS_IN_WORK: usize = 64;
