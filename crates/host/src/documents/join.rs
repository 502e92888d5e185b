//! What somebody lacks who opens a document.
//!
//! All of one answer is read from one view of the store: the base as this replica has compacted it, the updates behind
//! it, and the clocks of both. No document is loaded; the base is cut to what is missing, updates are sent whole.
//! A small document is answered at once, a larger one on the workers.

use std::sync::Arc;

use bytes::Bytes;
use conclave_document::{covers, diff, encode_state_vector};
use conclave_room::{DocumentView, LocalHeader, Refusal, StoredUpdate, read};
use conclave_storage::EngineView;
use conclave_types::{Clocks, DocumentNumber, GroupId, ParticipantName, Revision, RoomUid, SessionId, Timestamp};
use tracing::error;

use crate::faults::Fault;
use crate::shard::{Shard, broken};
use crate::tables::EngineTables;

/// Documents up to here are read and cut at once.
const INLINE_BYTES: u64 = 32 << 10;

/// What somebody has of a document.
#[derive(Debug, Clone)]
pub enum Joining {
    /// What this state vector says; empty for nothing.
    Vector(Clocks),
    /// Everything up to this revision of the room.
    After(Revision),
}

/// What brings a reader up to `revision`.
#[derive(Debug)]
pub struct Joined {
    /// In order; merging them in another changes nothing.
    pub updates: Vec<JoinedUpdate>,
    /// The room's revision of this state.
    pub revision: Revision,
    /// The document's state vector, Yjs v1.
    pub vector: Bytes,
}

#[derive(Debug)]
pub struct JoinedUpdate {
    /// Of the push; for a state the revision that it brings the document up to.
    pub revision: Revision,
    pub time: Timestamp,
    /// None for a state.
    pub participant: Option<ParticipantName>,
    pub session: Option<SessionId>,
    pub update: Bytes,
    /// It is the compacted part of the document, or of what lacks of it, rather than one push.
    pub state: bool,
}

/// What a reader lacks of a document of a room.
pub async fn join(shard: &Arc<Shard>, room: RoomUid, document: DocumentNumber, have: Joining) -> Result<Joined, Fault> {
    let whole = Whole { view: shard.snapshot(), group: shard.group_id(), room, document };
    if whole.header()?.bytes() <= INLINE_BYTES {
        return whole.joined(&have);
    }
    shard.workers().request(move || whole.joined(&have)).await?
}

/// One document in one view of the store.
pub struct Whole {
    pub view: Arc<dyn EngineView>,
    pub group: GroupId,
    pub room: RoomUid,
    pub document: DocumentNumber,
}

/// What stands before a document's content.
pub struct Header {
    /// The room's.
    pub revision: Revision,
    pub document: DocumentView,
    pub local: Option<LocalHeader>,
}

impl Header {
    /// Bytes of the base and of the updates behind it.
    pub fn bytes(&self) -> u64 {
        let (base, held) = self.local.as_ref().map_or((0, 0), |local| (local.base_bytes, local.bytes));
        base + self.document.bytes.saturating_sub(held)
    }

    fn base_revision(&self) -> Revision {
        self.local.as_ref().map_or(Revision(0), |local| local.base_revision)
    }

    fn kept_from(&self) -> Revision {
        self.local.as_ref().map_or(Revision(0), |local| local.kept_from)
    }
}

impl Whole {
    pub fn tables(&self) -> EngineTables<'_, dyn EngineView> {
        EngineTables(&*self.view)
    }

    pub fn header(&self) -> Result<Header, Fault> {
        let document = read::document_by_number(&self.tables(), self.group, self.room, self.document);
        let document = document.map_err(broken)?.ok_or_else(|| Fault::from(Refusal::DocumentNotFound))?;
        let local = read::local_header(&self.tables(), self.group, self.room, self.document).map_err(broken)?;
        Ok(Header { revision: self.revision()?, document, local })
    }

    /// The room's revision. A room that is being deleted has none, and what is left of its documents is being swept.
    fn revision(&self) -> Result<Revision, Fault> {
        let revision = read::revision(&self.tables(), self.group, self.room).map_err(broken)?;
        revision.ok_or_else(|| Fault::from(Refusal::RoomNotFound))
    }

    pub fn clocks(&self) -> Result<Clocks, Fault> {
        read::document_clocks(&self.tables(), self.group, self.room, self.document).map_err(broken)
    }

    /// The base, if there is one, and all updates behind it.
    pub fn content(&self, header: &Header) -> Result<(Option<Bytes>, Vec<StoredUpdate>), Fault> {
        Ok((self.base()?, self.updates(header.base_revision())?))
    }

    fn base(&self) -> Result<Option<Bytes>, Fault> {
        read::document_base(&self.tables(), self.group, self.room, self.document).map_err(broken)
    }

    fn updates(&self, after: Revision) -> Result<Vec<StoredUpdate>, Fault> {
        read::document_updates(&self.tables(), self.group, self.room, self.document, after, usize::MAX, usize::MAX)
            .map_err(broken)
    }

    fn joined(&self, have: &Joining) -> Result<Joined, Fault> {
        let header = self.header()?;
        let updates = match have {
            Joining::After(after) if *after >= header.kept_from() => {
                self.updates(*after)?.into_iter().map(pushed).collect()
            }
            Joining::After(_) => self.missing(&header, &Clocks::new())?,
            Joining::Vector(vector) => self.missing(&header, vector)?,
        };
        Ok(Joined { updates, revision: header.revision, vector: encode_state_vector(&self.clocks()?) })
    }

    /// What a reader with this vector lacks.
    fn missing(&self, header: &Header, vector: &Clocks) -> Result<Vec<JoinedUpdate>, Fault> {
        let (base, behind) = self.content(header)?;
        let mut updates = Vec::with_capacity(behind.len() + 1);
        if let Some(base) = base {
            let update = match vector.is_empty() {
                true => base,
                false => diff(&base, vector).map_err(|reason| unreadable(&reason))?,
            };
            let (revision, time) = (header.base_revision(), header.document.update_time);
            updates.push(JoinedUpdate { revision, time, participant: None, session: None, update, state: true });
        }
        updates.extend(behind.into_iter().filter(|update| !covers(vector, &update.clocks)).map(pushed));
        Ok(updates)
    }
}

fn pushed(stored: StoredUpdate) -> JoinedUpdate {
    let StoredUpdate { revision, time, author, session, update, .. } = stored;
    JoinedUpdate { revision, time, participant: Some(author), session, update, state: false }
}

/// What was checked before it was stored can no longer be read: a bug or damage.
pub(super) fn unreadable(reason: &dyn std::error::Error) -> Fault {
    error!(%reason, "a stored document cannot be read");
    Fault::internal("document")
}
