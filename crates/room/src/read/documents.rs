//! Documents: their headers, clocks and names, and what this replica holds of their contents.

use bytes::{Bytes, BytesMut};
use conclave_types::{
    Clocks, DocumentNumber, DocumentPath, GroupId, ParticipantName, Revision, RoomUid, SessionId, Timestamp,
    UpdateClocks, YjsClient,
};

use super::named;
use crate::codec::{Record, damaged};
use crate::document::changes::{ChangeRecord, DocumentChanges};
use crate::document::{DocumentClock, DocumentHeader};
use crate::keys::Keys;
use crate::local::{LocalHeader, UpdateRecord};
use crate::state::load;
use crate::{ChangeKind, TableError, TableReads};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentView {
    pub number: DocumentNumber,
    pub path: DocumentPath,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    pub create_revision: Revision,
    /// Of the last update or renaming.
    pub revision: Revision,
    /// Updates pushed so far, and their bytes together.
    pub updates: u64,
    pub bytes: u64,
}

impl DocumentView {
    fn of(number: DocumentNumber, header: DocumentHeader) -> Self {
        let DocumentHeader { path, create_time, update_time, create_revision, revision, updates, bytes } = header;
        DocumentView { number, path, create_time, update_time, create_revision, revision, updates, bytes }
    }
}

/// An update as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUpdate {
    pub revision: Revision,
    pub time: Timestamp,
    pub author: ParticipantName,
    /// The session that pushed it, if one did.
    pub session: Option<SessionId>,
    pub clocks: UpdateClocks,
    pub update: Bytes,
}

/// A document was made, renamed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocumentChange {
    pub revision: Revision,
    pub time: Timestamp,
    pub participant: Option<ParticipantName>,
    pub session: Option<SessionId>,
    pub kind: ChangeKind,
}

/// The document at a path, if there is one.
pub fn document(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    path: &DocumentPath,
) -> Result<Option<DocumentView>, TableError> {
    let keys = Keys::new(group);
    let number: Option<DocumentNumber> = load(reads, &keys.document_directory(room, path))?;
    let Some(number) = number else { return Ok(None) };
    let header = named(reads, &keys, room, &keys.document_header(room, number))?;
    Ok(header.map(|header| DocumentView::of(number, header)))
}

/// The document of a number; none once it is deleted.
pub fn document_by_number(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    number: DocumentNumber,
) -> Result<Option<DocumentView>, TableError> {
    let header: Option<DocumentHeader> = load(reads, &Keys::new(group).document_header(room, number))?;
    Ok(header.map(|header| DocumentView::of(number, header)))
}

/// Documents of a room after a path, ordered by path; at most `limit`.
pub fn list_documents(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    after: Option<DocumentPath>,
    limit: usize,
) -> Result<Vec<DocumentView>, TableError> {
    let keys = Keys::new(group);
    let all = keys.document_directory_all(room);
    let from = after.as_ref().map_or(all.start, |path| keys.document_directory(room, path));
    let mut documents = Vec::new();
    for pair in reads.scan(&from, &all.end) {
        if documents.len() >= limit {
            break;
        }
        let (key, value) = pair?;
        if after.as_ref() != Some(&keys.parse_document_path(&key)?) {
            let number = DocumentNumber::decode(value)?;
            let header = named(reads, &keys, room, &keys.document_header(room, number))?;
            documents.extend(header.map(|header| DocumentView::of(number, header)));
        }
    }
    Ok(documents)
}

/// Documents that were updated, renamed or made after a revision, in the order of their last change. Looks at each
/// document of the room.
pub fn documents_changed(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    after: Revision,
) -> Result<Vec<DocumentView>, TableError> {
    let keys = Keys::new(group);
    let headers = keys.document_headers(room);
    let mut changed = Vec::new();
    for pair in reads.scan(&headers.start, &headers.end) {
        let (key, value) = pair?;
        let header = DocumentHeader::decode(value)?;
        if header.revision > after {
            changed.push(DocumentView::of(keys.parse_document_number(&key)?, header));
        }
    }
    changed.sort_by_key(|document| document.revision);
    Ok(changed)
}

/// A document's clocks: what it holds of each client.
pub fn document_clocks(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    number: DocumentNumber,
) -> Result<Clocks, TableError> {
    let range = Keys::new(group).document_clocks(room, number);
    let clocks = reads.scan(&range.start, &range.end).map(|pair| {
        let (key, value) = pair?;
        Ok((Keys::parse_clock(&key)?, DocumentClock::decode(value)?.0))
    });
    clocks.collect()
}

/// What a document holds of one client; 0 for one that it does not know.
pub fn document_clock(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    number: DocumentNumber,
    client: YjsClient,
) -> Result<u64, TableError> {
    let clock: Option<DocumentClock> = load(reads, &Keys::new(group).document_clock(room, number, client))?;
    Ok(clock.map_or(0, |clock| clock.0))
}

/// The updates that this replica keeps after a revision, oldest first: at most `limit`, and none more once `max_bytes`
/// are reached; one at least if there is any. They are all there are if the revision is not below the local header's
/// `kept_from`.
pub fn document_updates(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    number: DocumentNumber,
    after: Revision,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<StoredUpdate>, TableError> {
    let range = Keys::new(group).updates_after(room, number, after);
    let (mut updates, mut read) = (Vec::new(), 0usize);
    for pair in reads.scan(&range.start, &range.end).take(limit.max(1)) {
        let (key, value) = pair?;
        read = read.saturating_add(value.len());
        if read > max_bytes && !updates.is_empty() {
            break;
        }
        let UpdateRecord { time, author, session, clocks, update } = UpdateRecord::decode(value)?;
        updates.push(StoredUpdate { revision: Keys::parse_revision(&key)?, time, author, session, clocks, update });
    }
    Ok(updates)
}

/// How this replica holds a document; none before its first base.
pub fn local_header(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    number: DocumentNumber,
) -> Result<Option<LocalHeader>, TableError> {
    load(reads, &Keys::new(group).local_header(room, number))
}

/// The whole base of a document; none before its first.
pub fn document_base(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    number: DocumentNumber,
) -> Result<Option<Bytes>, TableError> {
    let Some(header) = local_header(reads, group, room, number)? else { return Ok(None) };
    let range = Keys::new(group).base_chunks_from(room, number, 0);
    let mut base = BytesMut::new();
    for pair in reads.scan(&range.start, &range.end) {
        base.extend_from_slice(&pair?.1);
    }
    if base.len() as u64 != header.base_bytes {
        return Err(damaged("document base", "not as long as its header says"));
    }
    Ok(Some(base.freeze()))
}

/// Changes of documents' names after a revision, oldest first; at most `limit`. Those up to
/// [`document_changes_trimmed_to`] are forgotten.
pub fn document_changes(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    after: Revision,
    limit: usize,
) -> Result<Vec<StoredDocumentChange>, TableError> {
    let after = after.max(document_changes_trimmed_to(reads, group, room)?);
    let range = Keys::new(group).document_changes_after(room, after);
    let changes = reads.scan(&range.start, &range.end).take(limit).map(|pair| {
        let (key, value) = pair?;
        let ChangeRecord { time, participant, session, document, change } = ChangeRecord::decode(value)?;
        let (revision, kind) = (Keys::parse_revision(&key)?, change.of(document));
        Ok(StoredDocumentChange { revision, time, participant, session, kind })
    });
    changes.collect()
}

/// The revision of the newest change of a name that is forgotten; 0 when none is.
pub fn document_changes_trimmed_to(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
) -> Result<Revision, TableError> {
    let changes: Option<DocumentChanges> = load(reads, &Keys::new(group).document_changes(room))?;
    Ok(changes.unwrap_or_default().trimmed_to)
}
