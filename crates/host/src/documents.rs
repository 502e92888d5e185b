//! Documents of a shard that is led here: what may be pushed, what joins a reader, what is told of them.
//!
//! No document is ever opened to be written: an update is checked by its bytes and compared by its clocks, then it is
//! proposed. Opening one merges what is stored, on the workers when that is more than a little.
//!
//! Which paths are allowed is the callers' to check; what is here takes a path for granted.

mod admission;
mod admitted;
mod describe;
mod join;

use std::collections::HashMap;
use std::sync::Arc;

use conclave_document::decode_state_vector;
use conclave_proto::resource::DocumentResource;
use conclave_proto::v1;
use conclave_room::{Change, ChangeKind, Command, DocumentView, Effect, Operation, Origin, Outcome, read};
use conclave_types::{Clocks, DocumentPath, ParticipantName, RoomUid};
use parking_lot::Mutex;

use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::shard::{Shard, broken};

pub use admission::Pushing;
pub use describe::{describe, list};
pub(crate) use join::Whole;
pub use join::{Joined, JoinedUpdate, Joining, join};

use admitted::Admitted;

/// Paths whose vectors are kept; when there are more, all that have nothing in flight are read again when they are used.
const MAX_PATHS: usize = 1_024;

/// The admitted vectors of one leadership.
#[derive(Debug, Default)]
pub struct Documents {
    paths: Mutex<Paths>,
}

type Paths = HashMap<(RoomUid, DocumentPath), Arc<Mutex<Admitted>>>;

impl Documents {
    /// Takes in what was applied: a path may stand for another document now. Only early refusals depend on it.
    pub fn follow(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Changed(Change { room, kind: ChangeKind::DocumentRenamed { from, to, .. }, .. }) => {
                    self.forget(*room, from);
                    self.forget(*room, to);
                }
                Effect::Changed(Change { room, kind: ChangeKind::DocumentDeleted { path, .. }, .. }) => {
                    self.forget(*room, path);
                }
                Effect::RoomDeleted { room } => self.forget_room(*room),
                _ => {}
            }
        }
    }

    /// The vector of a path; the same for everybody who holds it.
    fn at(&self, room: RoomUid, path: &DocumentPath) -> Arc<Mutex<Admitted>> {
        let mut paths = self.paths.lock();
        let key = (room, path.clone());
        if let Some(admitted) = paths.get(&key) {
            return admitted.clone();
        }
        if paths.len() >= MAX_PATHS {
            // Whoever has something in flight, or is about to, holds it too.
            paths.retain(|_, admitted| Arc::strong_count(admitted) > 1);
        }
        paths.entry(key).or_default().clone()
    }

    fn forget(&self, room: RoomUid, path: &DocumentPath) {
        let held = self.paths.lock().get(&(room, path.clone())).cloned();
        if let Some(held) = held {
            held.lock().forget();
        }
    }

    fn forget_room(&self, room: RoomUid) {
        self.paths.lock().retain(|(of, _), _| *of != room);
    }
}

/// The document at a path; makes it when it is missing and `create` says so. That there is none is said only after a read
/// barrier, because a deposed leader may be behind.
pub async fn open(
    shard: &Shard,
    leading: &Leading,
    room: RoomUid,
    path: &DocumentPath,
    create: bool,
    participant: &ParticipantName,
) -> Result<DocumentView, Fault> {
    if let Some(document) = find(shard, room, path)? {
        return Ok(document);
    }
    if create {
        let operation = Operation::CreateDocument { room, path: path.clone() };
        let origin = Origin::Call { participant: participant.clone() };
        match leading.proposer.propose_in_turn(Command { origin, operation }).await {
            Ok(Outcome::DocumentReady { .. }) => {}
            Ok(Outcome::Refused(refusal)) => return Err(refusal.into()),
            Ok(other) => return Err(faults::other_outcome("create_document", &other)),
            Err(unproposed) => return Err(shard.unproposed(unproposed)),
        }
    } else {
        shard.read_barrier().await?;
    }
    // Gone again, if somebody deleted or renamed it in this moment.
    find(shard, room, path)?.ok_or_else(|| Fault::document_not_found(path.as_str()))
}

/// The document at a path, as this replica has it.
pub fn find(shard: &Shard, room: RoomUid, path: &DocumentPath) -> Result<Option<DocumentView>, Fault> {
    read::document(&shard.tables(), shard.group_id(), room, path).map_err(broken)
}

/// Both names lie in one room, which the caller has compared with its own.
pub fn admit_rename(room: RoomUid, request: &v1::RenameDocumentRequest) -> Result<Operation, Fault> {
    let from = request.name.parse::<DocumentResource>()?;
    let to = request.new_name.parse::<DocumentResource>()?;
    if from.room != to.room {
        return Err(Fault::other_room());
    }
    Ok(Operation::RenameDocument { room, from: from.path, to: to.path })
}

pub fn admit_delete(room: RoomUid, request: &v1::DeleteDocumentRequest) -> Result<Operation, Fault> {
    let DocumentResource { path, .. } = request.name.parse::<DocumentResource>()?;
    Ok(Operation::DeleteDocument { room, path })
}

/// A request's state vector; empty bytes say that the client has nothing.
pub fn vector(state_vector: &[u8]) -> Result<Clocks, Fault> {
    if state_vector.is_empty() {
        return Ok(Clocks::new());
    }
    decode_state_vector(state_vector).map_err(|reason| {
        let reason = reason.to_string();
        Fault::update_invalid("state_vector", reason.strip_prefix("state vector ").unwrap_or(&reason))
    })
}
