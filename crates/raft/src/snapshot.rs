//! Snapshots: a group's whole state as key-value pairs, pinned where they are read and checked where they arrive.
//!
//! A snapshot is taken at the moment it is asked for: the state is on disk anyway, so compaction only notes how far it
//! reaches. The applied position and the membership are pairs of the state like any other, so what is installed is
//! consistent by itself. A receiver stages the parts as they come, each checked; once the whole is verified the staged
//! state takes the place of the old in one step of the engine. Its memory holds one part.

pub(crate) mod incoming;
pub(crate) mod outgoing;

use std::sync::Arc;

use bytes::{Buf, Bytes};
use conclave_storage::{Engine, EngineError, EngineView, Family, Staging};
use conclave_types::GroupId;

use crate::keys;
use crate::types::{SnapshotMeta, StoredMembership};

/// Seed of the hash over all pairs; part of the wire format.
const HASH_SEED: u64 = 0;

/// The state a snapshot stands for.
pub enum SnapshotState {
    /// This node's own, as it was.
    Pinned { group: GroupId, view: Arc<dyn EngineView> },
    /// A peer's, complete and verified.
    Staged(Box<dyn Staging>),
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
    /// This state, ready to take the place of the one that `group` has.
    pub(crate) fn staged(
        self,
        engine: &Arc<dyn Engine>,
        group: GroupId,
        meta: &SnapshotMeta,
    ) -> Result<Box<dyn Staging>, EngineError> {
        let (origin, view) = match self {
            SnapshotState::Staged(staging) => return Ok(staging),
            SnapshotState::Pinned { group, view } => (group, view),
        };
        let mut staging = engine.clone().stage(Family::State, keys::state(group))?;
        let (applied, membership) = (keys::applied(group), keys::membership(group));
        // A state that was pinned before its membership was set lacks it. Both are first in the order of keys.
        if let Some(last) = &meta.last_log_id {
            staging.put(&applied, &keys::encode_log_id(&applied, last))?;
        }
        staging.put(&membership, &keys::encode_stored_membership(&membership, &meta.last_membership))?;
        for pair in view.scan_once(Family::State, keys::state(origin)) {
            let (key, value) = pair?;
            if key != applied && key != membership {
                staging.put(&key, &value)?;
            }
        }
        Ok(staging)
    }
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

/// What the pairs of a snapshot say about themselves.
#[derive(Debug, Default)]
struct Contained {
    meta: SnapshotMeta,
}

impl Contained {
    /// Notes what the pair says, if it is one of the façade's own.
    fn note(&mut self, group: GroupId, key: &[u8], value: &Bytes) -> Result<(), Malformed> {
        if key == keys::applied(group) {
            self.meta.last_log_id = Some(keys::decode_log_id(key, value.clone()).map_err(|_| Malformed)?);
        } else if key == keys::membership(group) {
            let membership: StoredMembership =
                keys::decode_stored_membership(key, value.clone()).map_err(|_| Malformed)?;
            self.meta.last_membership = membership;
        }
        Ok(())
    }
}
