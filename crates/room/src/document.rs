//! Documents: numbered when they are made, found by path, changed by updates that were checked before they were proposed.
//!
//! ```text
//! create, or a push with create → open ⇄ push, rename → delete → (clocks removed in steps) → gone
//! ```
//!
//! An update is bytes that nobody opens here. All that decides whether it may be appended are the clocks that came with
//! it: they must begin where the document's end. Invariant: of each client a document holds the clocks from 0 up to its
//! clock key, without gaps, and everything these build on.
//!
//! What replicas must agree on is small: a header, a path and one clock a client. The updates themselves go to the
//! replica's own keys ([`crate::local`]), where each replica compacts them when it likes.

pub(crate) mod changes;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod push;
pub(crate) mod rename;

use conclave_types::limits::MAX_DOCUMENTS_PER_ROOM;
use conclave_types::{DocumentNumber, DocumentPath, Revision, RoomUid, Timestamp};

use crate::codec::{Reader, Record, Writer};
use crate::state::State;
use crate::{Refusal, TableError};

use changes::PathChange;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentHeader {
    pub path: DocumentPath,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    pub create_revision: Revision,
    /// The revision of the last update or renaming.
    pub revision: Revision,
    /// Updates pushed so far, and their bytes together.
    pub updates: u64,
    pub bytes: u64,
}

impl Record for DocumentHeader {
    const NAME: &'static str = "document header";

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.path.as_bytes());
        writer.time(self.create_time);
        writer.time(self.update_time);
        writer.revision(self.create_revision);
        writer.revision(self.revision);
        writer.varint(self.updates);
        writer.varint(self.bytes);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(DocumentHeader {
            path: reader.document_path()?,
            create_time: reader.time()?,
            update_time: reader.time()?,
            create_revision: reader.revision()?,
            revision: reader.revision()?,
            updates: reader.varint()?,
            bytes: reader.varint()?,
        })
    }
}

/// The value of a document's directory entry.
impl Record for DocumentNumber {
    const NAME: &'static str = "document directory";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.0.into());
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        reader.document_number()
    }
}

/// The clock up to which a document holds one client's updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DocumentClock(pub u64);

impl Record for DocumentClock {
    const NAME: &'static str = "document clock";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        reader.varint().map(DocumentClock)
    }
}

/// A document that a command works on. Changes count once [`Document::store`] is called.
pub(crate) struct Document {
    pub room: RoomUid,
    pub number: DocumentNumber,
    pub header: DocumentHeader,
    /// This command makes the document.
    pub is_new: bool,
}

impl Document {
    /// Finds a document of an active room, or refuses.
    pub fn find(
        state: &mut State<'_>,
        room: RoomUid,
        path: &DocumentPath,
    ) -> Result<Result<Document, Refusal>, TableError> {
        if state.active_room(room)?.is_none() {
            return Ok(Err(Refusal::RoomNotFound));
        }
        let Some(number) = state.document_number(room, path)? else { return Ok(Err(Refusal::DocumentNotFound)) };
        Ok(Ok(Document { room, number, header: state.document(room, number)?, is_new: false }))
    }

    /// Finds a document, or begins a new one at that path.
    pub fn find_or_begin(
        state: &mut State<'_>,
        room: RoomUid,
        path: &DocumentPath,
    ) -> Result<Result<Document, Refusal>, TableError> {
        match Document::find(state, room, path)? {
            Err(Refusal::DocumentNotFound) => {}
            found => return Ok(found),
        }
        let Some(header) = state.active_room(room)? else { return Ok(Err(Refusal::RoomNotFound)) };
        if header.live_documents >= MAX_DOCUMENTS_PER_ROOM {
            return Ok(Err(Refusal::DocumentLimit));
        }
        let (number, now) = (DocumentNumber(header.documents + 1), state.clock());
        let header = DocumentHeader {
            path: path.clone(),
            create_time: now,
            update_time: now,
            create_revision: Revision(0),
            revision: Revision(0),
            updates: 0,
            bytes: 0,
        };
        Ok(Ok(Document { room, number, header, is_new: true }))
    }

    /// Records the changes as one revision of the room. One that makes the document is told of here.
    pub fn store(mut self, state: &mut State<'_>) -> Result<Revision, TableError> {
        let revision = state.next_revision(self.room)?;
        self.header.revision = revision;
        self.header.update_time = state.clock();
        if self.is_new {
            self.header.create_revision = revision;
            state.set_document_number(self.room, self.header.path.clone(), Some(self.number));
            if let Some(mut room) = state.room(self.room)? {
                room.documents = self.number.0;
                room.live_documents += 1;
                state.set_room(self.room, Some(room));
            }
            let change = PathChange::Created { path: self.header.path.clone() };
            changes::record(state, self.room, revision, self.number, change)?;
        }
        state.set_document(self.room, self.number, Some(self.header));
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let header = DocumentHeader {
            path: "a/b".parse().unwrap(),
            create_time: Timestamp(1),
            update_time: Timestamp(2),
            create_revision: Revision(3),
            revision: Revision(4),
            updates: 5,
            bytes: 130,
        };
        assert_eq!(&header.encode()[..], b"\x01\x03a/b\x01\x02\x03\x04\x05\x82\x01");
        assert_eq!(DocumentHeader::decode(header.encode()), Ok(header));
        assert_eq!(&DocumentNumber(5).encode()[..], [1, 5]);
        assert_eq!(&DocumentClock(300).encode()[..], [1, 0xac, 2]);
        assert_eq!(DocumentClock::decode(DocumentClock(300).encode()), Ok(DocumentClock(300)));
    }
}
