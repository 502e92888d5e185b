//! Cuts a pinned state into parts.

use std::sync::Arc;

use bytes::Bytes;
use conclave_storage::{EngineError, EngineView, Family, KeyRange};
use conclave_types::GroupId;
use xxhash_rust::xxh3::Xxh3;

use super::{HASH_SEED, encode_pair};
use crate::keys;
use crate::limits::MAX_SNAPSHOT_PART_BYTES;

/// One part, ready to send. The last may be empty.
pub(crate) struct Part {
    pub(crate) sequence: u64,
    pub(crate) pairs: Bytes,
    pub(crate) checksum: u32,
    /// Hash and bytes of the whole snapshot; only in the last part.
    pub(crate) end: Option<(u64, u64)>,
}

/// Reads a pinned state from beginning to end. Between parts it holds no cursor, so it may wait as long as it likes.
pub(crate) struct Parts {
    view: Arc<dyn EngineView>,
    rest: Option<KeyRange>,
    sequence: u64,
    hash: Xxh3,
    total_bytes: u64,
}

impl Parts {
    pub(crate) fn new(view: Arc<dyn EngineView>, group: GroupId) -> Self {
        let rest = Some(keys::state(group));
        Parts { view, rest, sequence: 0, hash: Xxh3::with_seed(HASH_SEED), total_bytes: 0 }
    }

    /// The next part; none after the last.
    pub(crate) fn next_part(&mut self) -> Result<Option<Part>, EngineError> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let mut pairs = Vec::new();
        let mut rest = None;
        for pair in self.view.scan_once(Family::State, range.clone()) {
            let (key, value) = pair?;
            if !pairs.is_empty() && pairs.len() + key.len() + value.len() > MAX_SNAPSHOT_PART_BYTES {
                rest = Some(KeyRange { from: key.to_vec(), to: range.to });
                break;
            }
            encode_pair(&mut pairs, &key, &value)?;
        }
        self.hash.update(&pairs);
        self.total_bytes += pairs.len() as u64;
        let sequence = self.sequence;
        self.sequence += 1;
        let end = rest.is_none().then(|| (self.hash.digest(), self.total_bytes));
        self.rest = rest;
        Ok(Some(Part { sequence, checksum: crc32c::crc32c(&pairs), pairs: pairs.into(), end }))
    }
}
