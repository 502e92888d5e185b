//! Snapshots: a group's whole state as key-value pairs, pinned where they are read and checked where they arrive.
//!
//! A snapshot is taken at the moment it is asked for: the state is on disk anyway, so compaction only notes how far it
//! reaches. The applied position and the membership are pairs of the state like any other, so what is installed is
//! consistent by itself. A receiver holds all parts in memory until the last is verified (at most
//! [`MAX_SNAPSHOT_BYTES`], and one transfer a node), then replaces the state in one write.

pub(crate) mod incoming;
pub(crate) mod outgoing;

use std::sync::Arc;

use bytes::{Buf, Bytes};
use conclave_storage::{EngineError, EngineView, Family, WriteBatch};
use conclave_types::GroupId;

use crate::keys;
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::types::{LogId, SnapshotMeta, StoredMembership};

/// Seed of the hash over all pairs; part of the wire format.
const HASH_SEED: u64 = 0;

/// The state a snapshot stands for.
pub enum SnapshotState {
    /// This node's own, as it was.
    Pinned { group: GroupId, view: Arc<dyn EngineView> },
    /// A peer's, complete and verified.
    Received(Vec<Bytes>),
}

/// Applied position and membership, as a view shows them.
pub(crate) fn meta_of(view: &dyn EngineView, group: GroupId) -> Result<SnapshotMeta, EngineError> {
    let key = keys::applied(group);
    let last_log_id = view.get(Family::State, &key)?.map(|value| keys::decode_log_id(&key, value)).transpose()?;
    let key = keys::membership(group);
    let membership = view.get(Family::State, &key)?.map(|value| keys::decode_stored_membership(&key, value));
    Ok(SnapshotMeta { last_log_id, last_membership: membership.transpose()?.unwrap_or_default() })
}

impl SnapshotState {
    /// The writes that put this state in place of the one the group has.
    pub(crate) fn replacing(self, group: GroupId) -> Result<WriteBatch, EngineError> {
        let mut batch = WriteBatch::new();
        batch.delete_range(Family::State, keys::state(group));
        match self {
            SnapshotState::Pinned { group: origin, view } => {
                for pair in view.scan(Family::State, keys::state(origin)) {
                    let (key, value) = pair?;
                    batch.put(Family::State, key, value);
                }
            }
            SnapshotState::Received(parts) => {
                for part in parts {
                    let pairs = Pairs { rest: part };
                    for pair in pairs {
                        let (key, value) = pair.map_err(|Malformed| malformed())?;
                        batch.put(Family::State, key, value);
                    }
                }
            }
        }
        Ok(batch)
    }
}

fn malformed() -> EngineError {
    EngineError::Damaged("pairs of a snapshot".into())
}

/// Why a snapshot cannot be what its sender meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Adds a pair to a part: length and bytes of key and value.
fn encode_pair(part: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    for bytes in [key, value] {
        let length = u32::try_from(bytes.len()).map_err(|_| EngineError::Damaged("a value over 4 GiB".into()))?;
        part.extend_from_slice(&length.to_be_bytes());
        part.extend_from_slice(bytes);
    }
    Ok(())
}

/// The pairs of one part.
struct Pairs {
    rest: Bytes,
}

impl Pairs {
    fn piece(&mut self) -> Result<Bytes, Malformed> {
        if self.rest.len() < 4 {
            return Err(Malformed);
        }
        let length = self.rest.get_u32() as usize;
        if self.rest.len() < length {
            return Err(Malformed);
        }
        Ok(self.rest.split_to(length))
    }
}

impl Iterator for Pairs {
    type Item = Result<(Bytes, Bytes), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.piece().and_then(|key| Ok((key, self.piece()?)));
        if pair.is_err() {
            self.rest.clear();
        }
        Some(pair)
    }
}

/// Checks that the parts hold the state of `group` and nothing else, in order, and that it is the state at `meta`.
fn verify_state(group: GroupId, parts: &[Bytes], meta: &SnapshotMeta) -> Result<(), Malformed> {
    let range = keys::state(group);
    let mut previous: Option<Bytes> = None;
    let mut applied: Option<LogId> = None;
    let mut membership = StoredMembership::default();
    for pair in parts.iter().flat_map(|part| Pairs { rest: part.clone() }) {
        let (key, value) = pair?;
        let in_range = *range.from <= *key && *key < *range.to;
        if !in_range || previous.is_some_and(|previous| key <= previous) {
            return Err(Malformed);
        }
        if key == keys::applied(group) {
            applied = Some(keys::decode_log_id(&key, value).map_err(|_| Malformed)?);
        } else if key == keys::membership(group) {
            membership = keys::decode_stored_membership(&key, value).map_err(|_| Malformed)?;
        }
        previous = Some(key);
    }
    if applied != meta.last_log_id || membership != meta.last_membership {
        return Err(Malformed);
    }
    Ok(())
}

/// Whether a transfer of so many bytes may go on.
fn fits(total_bytes: u64) -> bool {
    total_bytes <= MAX_SNAPSHOT_BYTES
}
