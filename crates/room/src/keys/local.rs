//! Keys of what this replica holds of documents in its own form.

use std::ops::Range;

use conclave_types::{DocumentNumber, Revision, RoomNumber, RoomUid, Slot};

use super::{CLASS_LOCAL, Keys, behind, take};
use crate::TableError;
use crate::codec::damaged;

/// What a document's local key holds. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum LocalKind {
    Header = 0,
    BaseChunk = 1,
    Update = 2,
}

impl Keys {
    /// Where the local data of a document begins.
    pub fn local_document(&self, room: RoomUid, document: DocumentNumber) -> Vec<u8> {
        let mut key = self.class(CLASS_LOCAL, 23);
        key.extend_from_slice(&room.slot.0.to_be_bytes());
        key.extend_from_slice(&room.number.0.to_be_bytes());
        key.extend_from_slice(&document.0.to_be_bytes());
        key
    }

    /// Behind all local data of a document.
    pub fn local_document_end(&self, room: RoomUid, document: DocumentNumber) -> Vec<u8> {
        self.local(room, document, 0xff)
    }

    fn local(&self, room: RoomUid, document: DocumentNumber, kind: u8) -> Vec<u8> {
        let mut key = self.local_document(room, document);
        key.push(kind);
        key
    }

    pub fn local_header(&self, room: RoomUid, document: DocumentNumber) -> Vec<u8> {
        self.local(room, document, LocalKind::Header as u8)
    }

    pub fn base_chunk(&self, room: RoomUid, document: DocumentNumber, index: u32) -> Vec<u8> {
        let mut key = self.local(room, document, LocalKind::BaseChunk as u8);
        key.extend_from_slice(&index.to_be_bytes());
        key
    }

    /// Base chunks from an index on.
    pub fn base_chunks_from(&self, room: RoomUid, document: DocumentNumber, index: u32) -> Range<Vec<u8>> {
        self.base_chunk(room, document, index)..self.local(room, document, LocalKind::Update as u8)
    }

    pub fn update(&self, room: RoomUid, document: DocumentNumber, revision: Revision) -> Vec<u8> {
        let mut key = self.local(room, document, LocalKind::Update as u8);
        key.extend_from_slice(&revision.0.to_be_bytes());
        key
    }

    /// Updates with revisions above `after`.
    pub fn updates_after(&self, room: RoomUid, document: DocumentNumber, after: Revision) -> Range<Vec<u8>> {
        behind(self.update(room, document, after))..self.local_document_end(room, document)
    }

    /// The range of everything that replicas hold each in its own form.
    pub fn local_all(&self) -> Range<Vec<u8>> {
        self.class(CLASS_LOCAL, 0)..self.class(CLASS_LOCAL + 1, 0)
    }

    /// The document that a key of [`Self::local_all`] belongs to.
    pub fn parse_local(&self, key: &[u8]) -> Result<(RoomUid, DocumentNumber), TableError> {
        let broken = || damaged("local document data", "key");
        let mut rest = self.strip(key, CLASS_LOCAL).ok_or_else(broken)?;
        let slot = Slot(u16::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        let number = RoomNumber(u64::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        let document = DocumentNumber(u32::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        if rest.is_empty() { Err(broken()) } else { Ok((RoomUid { slot, number }, document)) }
    }
}
