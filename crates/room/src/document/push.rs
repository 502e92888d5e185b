//! Appends an update to a document.
//!
//! The leader has read the clocks from the update's bytes; here they are compared with the document's, so that two
//! leaders, or a stale one, cannot append what does not follow. One client's update goes in once: sent again, it is
//! known. An update that deletes adds no clocks and may be repeated; merging it twice changes nothing.

use bytes::Bytes;
use conclave_types::{DocumentNumber, DocumentPath, Fit, ParticipantName, RoomUid, UpdateClocks};

use super::Document;
use crate::codec::Record;
use crate::local::UpdateRecord;
use crate::state::State;
use crate::{ChangeKind, Outcome, Refusal, TableError};

pub(crate) struct Push {
    pub room: RoomUid,
    pub path: DocumentPath,
    pub create: bool,
    pub author: ParticipantName,
    pub clocks: UpdateClocks,
    pub update: Bytes,
}

impl Push {
    pub fn apply(self, state: &mut State<'_>) -> Result<Outcome, TableError> {
        state.act_as(&self.author);
        let found = if self.create {
            Document::find_or_begin(state, self.room, &self.path)?
        } else {
            Document::find(state, self.room, &self.path)?
        };
        let document = match found {
            Ok(document) => document,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let (room, number) = (self.room, document.number);
        match self.clocks.fit(|client| state.document_clock(room, number, client))? {
            Fit::Gap => Ok(Outcome::Refused(Refusal::NeedSync)),
            // An empty update still makes the document that it asks for.
            Fit::Known if document.is_new => Ok(Outcome::Pushed { revision: document.store(state)? }),
            Fit::Known => Ok(Outcome::Pushed { revision: document.header.revision }),
            Fit::New => self.append(state, document),
        }
    }

    fn append(self, state: &mut State<'_>, mut document: Document) -> Result<Outcome, TableError> {
        let Push { room, path, author, clocks, update, .. } = self;
        let number = document.number;
        document.header.updates += 1;
        document.header.bytes += update.len() as u64;
        let revision = document.store(state)?;
        merge(state, room, number, &clocks)?;

        let record = UpdateRecord { time: state.clock(), author, session: state.actor().session, clocks, update };
        state.overlay.put(state.keys.update(room, number, revision), record.encode());
        let kind = ChangeKind::DocumentUpdated { document: number, path, update: record.update };
        state.emit_change(room, revision, kind);
        Ok(Outcome::Pushed { revision })
    }
}

fn merge(
    state: &mut State<'_>,
    room: RoomUid,
    number: DocumentNumber,
    clocks: &UpdateClocks,
) -> Result<(), TableError> {
    for added in &clocks.added {
        if state.document_clock(room, number, added.client)? < added.to {
            state.set_document_clock(room, number, added.client, added.to);
        }
    }
    Ok(())
}
