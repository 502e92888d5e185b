//! Admits pushed updates: checks the bytes, compares the clocks, counts them as in flight.
//!
//! Nothing that a client sends reaches the log unchecked, because every replica and every reader of the document merges
//! it. The check reads bytes of the client's choosing, so large updates are checked on the workers.
//!
//! A refusal that depends on what is stored is sent only after a read barrier and another look: a deposed leader may be
//! behind, and its word would make a client throw away what the document holds.

use std::sync::Arc;

use bytes::Bytes;
use conclave_room::read;
use conclave_room::{Operation, Outcome, TableError};
use conclave_types::limits::{MAX_DOCUMENT_BYTES, MAX_UPDATE_BYTES};
use conclave_types::{DocumentNumber, DocumentPath, ParticipantName, RoomUid, UpdateClocks, YjsClient};
use parking_lot::Mutex;

use super::Documents;
use super::admitted::{Admitted, Stored, Verdict};
use crate::faults::Fault;
use crate::shard::{Shard, broken};
use crate::workers::Workers;

/// Updates up to here are checked at once: that takes 2 us for what somebody types, and 0.1 ms for the densest update of
/// this size (1 ms for one of 16 KiB), about what handing it over to the workers and back costs.
const INLINE_BYTES: usize = 2 << 10;

impl Documents {
    /// Checks an update and counts it as in flight. A small one that fits is admitted at once, without yielding.
    pub async fn admit(
        &self,
        shard: &Shard,
        room: RoomUid,
        path: DocumentPath,
        create: bool,
        author: ParticipantName,
        update: Bytes,
    ) -> Result<(Operation, Pushing), Fault> {
        let clocks = check(shard.workers(), &update).await?;
        let bytes = update.len() as u64;
        let admitted = self.at(room, &path);
        let stored = StoredPath { shard, room, path: &path };
        let mut verdict = admitted.lock().judge(&clocks, bytes, &stored).map_err(broken)?;
        if verdict != Verdict::Propose {
            shard.read_barrier().await?;
            verdict = judge_again(&admitted, &clocks, bytes, &stored).map_err(broken)?;
        }
        match verdict {
            Verdict::Propose => {}
            _ if !create && stored.document().map_err(broken)?.is_none() => {
                return Err(Fault::document_not_found(path.as_str()));
            }
            Verdict::Gap => return Err(Fault::need_sync()),
            Verdict::TooLarge { bytes } => return Err(Fault::document_too_large(MAX_DOCUMENT_BYTES, bytes)),
        }
        let pushing = Pushing { admitted, bytes, applied: false };
        Ok((Operation::PushUpdate { room, path, create, author, clocks, update }, pushing))
    }
}

fn judge_again(
    admitted: &Mutex<Admitted>,
    clocks: &UpdateClocks,
    bytes: u64,
    stored: &StoredPath<'_>,
) -> Result<Verdict, TableError> {
    let mut admitted = admitted.lock();
    admitted.refresh(stored)?;
    admitted.judge(clocks, bytes, stored)
}

/// The clocks of an update that may be kept.
async fn check(workers: &Workers, update: &Bytes) -> Result<UpdateClocks, Fault> {
    if update.len() > MAX_UPDATE_BYTES {
        return Err(Fault::too_large("update", MAX_UPDATE_BYTES, update.len()));
    }
    let checked = if update.len() <= INLINE_BYTES {
        conclave_document::admit(update)
    } else {
        let update = update.clone();
        workers.request(move || conclave_document::admit(&update)).await?
    };
    checked.map_err(|reason| {
        let reason = reason.to_string();
        Fault::update_invalid("update", reason.strip_prefix("update ").unwrap_or(&reason))
    })
}

/// A path's document in the tables of this replica.
struct StoredPath<'a> {
    shard: &'a Shard,
    room: RoomUid,
    path: &'a DocumentPath,
}

impl Stored for StoredPath<'_> {
    type Error = TableError;

    fn document(&self) -> Result<Option<DocumentNumber>, TableError> {
        let view = read::document(&self.shard.tables(), self.shard.group_id(), self.room, self.path)?;
        Ok(view.map(|view| view.number))
    }

    fn clock(&self, document: DocumentNumber, client: YjsClient) -> Result<u64, TableError> {
        read::document_clock(&self.shard.tables(), self.shard.group_id(), self.room, document, client)
    }

    /// The base, and the updates that are not in it: what a reader is sent.
    fn bytes(&self, document: DocumentNumber) -> Result<u64, TableError> {
        let (tables, group) = (self.shard.tables(), self.shard.group_id());
        let Some(view) = read::document_by_number(&tables, group, self.room, document)? else { return Ok(0) };
        Ok(match read::local_header(&tables, group, self.room, document)? {
            Some(local) => local.base_bytes + view.bytes.saturating_sub(local.bytes),
            None => view.bytes,
        })
    }
}

/// An update that counts as in flight. Dropped without its outcome nobody knows what became of it, and the document's
/// vector is read anew once nothing is in flight.
#[derive(Debug)]
#[must_use = "dropping it says that the outcome is not known"]
pub struct Pushing {
    admitted: Arc<Mutex<Admitted>>,
    bytes: u64,
    applied: bool,
}

impl Pushing {
    /// The update's outcome is known.
    pub fn settled(mut self, outcome: &Outcome) {
        self.applied = matches!(outcome, Outcome::Pushed { .. });
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        let mut admitted = self.admitted.lock();
        if self.applied { admitted.applied(self.bytes) } else { admitted.failed(self.bytes) }
    }
}
