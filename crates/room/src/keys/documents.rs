//! Keys of documents: what every replica holds of them.

use std::ops::Range;

use conclave_types::{DocumentNumber, DocumentPath, Revision, RoomUid, YjsClient};

use super::{Keys, Tag, behind, escape, parse_last, take};
use crate::TableError;
use crate::codec::damaged;

impl Keys {
    pub fn document_directory(&self, room: RoomUid, path: &DocumentPath) -> Vec<u8> {
        let mut key = self.room(room, Tag::DocumentDirectory, path.as_bytes().len() + 2);
        escape(path.as_bytes(), &mut key);
        key
    }

    pub fn document_directory_all(&self, room: RoomUid) -> Range<Vec<u8>> {
        self.all_of(room, Tag::DocumentDirectory)
    }

    /// The path in a key of [`Self::document_directory_all`].
    pub fn parse_document_path(&self, key: &[u8]) -> Result<DocumentPath, TableError> {
        parse_last(self, key)?.ok_or_else(|| damaged("document directory", "key"))
    }

    fn document(&self, room: RoomUid, tag: Tag, document: DocumentNumber, capacity: usize) -> Vec<u8> {
        let mut key = self.room(room, tag, 4 + capacity);
        key.extend_from_slice(&document.0.to_be_bytes());
        key
    }

    pub fn document_header(&self, room: RoomUid, document: DocumentNumber) -> Vec<u8> {
        self.document(room, Tag::DocumentHeader, document, 0)
    }

    pub fn document_headers(&self, room: RoomUid) -> Range<Vec<u8>> {
        self.all_of(room, Tag::DocumentHeader)
    }

    /// The number at the end of a key of [`Self::document_headers`].
    pub fn parse_document_number(&self, key: &[u8]) -> Result<DocumentNumber, TableError> {
        let (_, mut rest) = self.parse_room_data(key)?;
        let number = take(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| damaged("document", "key"))?;
        Ok(DocumentNumber(u32::from_be_bytes(number)))
    }

    pub fn document_clock(&self, room: RoomUid, document: DocumentNumber, client: YjsClient) -> Vec<u8> {
        let mut key = self.document(room, Tag::DocumentClock, document, 8);
        key.extend_from_slice(&client.0.to_be_bytes());
        key
    }

    pub fn document_clocks(&self, room: RoomUid, document: DocumentNumber) -> Range<Vec<u8>> {
        let from = self.document(room, Tag::DocumentClock, document, 0);
        let mut to = from.clone();
        to.extend_from_slice(&[0xff; 9]);
        from..to
    }

    /// The client in a key of [`Self::document_clocks`].
    pub fn parse_clock(key: &[u8]) -> Result<YjsClient, TableError> {
        let client = key.last_chunk::<8>().ok_or_else(|| damaged("document clock", "key"))?;
        Ok(YjsClient(u64::from_be_bytes(*client)))
    }

    pub fn dropped_document(&self, room: RoomUid, document: DocumentNumber) -> Vec<u8> {
        self.document(room, Tag::DroppedDocument, document, 0)
    }

    pub fn document_changes(&self, room: RoomUid) -> Vec<u8> {
        self.room(room, Tag::DocumentChanges, 0)
    }

    pub fn document_change(&self, room: RoomUid, revision: Revision) -> Vec<u8> {
        self.by_revision(room, Tag::DocumentChange, revision)
    }

    /// Changes of names with revisions above `after`.
    pub fn document_changes_after(&self, room: RoomUid, after: Revision) -> Range<Vec<u8>> {
        behind(self.document_change(room, after))..self.all_of(room, Tag::DocumentChange).end
    }

    pub(super) fn by_revision(&self, room: RoomUid, tag: Tag, revision: Revision) -> Vec<u8> {
        let mut key = self.room(room, tag, 8);
        key.extend_from_slice(&revision.0.to_be_bytes());
        key
    }

    /// The revision at the end of a key of a message, a document's update or a change of a name.
    pub fn parse_revision(key: &[u8]) -> Result<Revision, TableError> {
        let revision = key.last_chunk::<8>().ok_or_else(|| damaged("record of a revision", "key"))?;
        Ok(Revision(u64::from_be_bytes(*revision)))
    }
}
