//! Changes of documents' names, by revision: what a watcher who comes back has missed.
//!
//! The newest [`MAX_DOCUMENT_CHANGES`] are kept. Each one more takes the oldest away, so there is nothing to clean up
//! later; whoever asks for older ones is told that they are gone.

use conclave_types::limits::MAX_DOCUMENT_CHANGES;
use conclave_types::{DocumentNumber, DocumentPath, ParticipantName, Revision, RoomUid, SessionId, Timestamp};

use crate::codec::{Reader, Record, Writer, damaged};
use crate::keys::Keys;
use crate::state::State;
use crate::{ChangeKind, TableError, TableReads, Tables};

/// What happened to a document's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathChange {
    Created { path: DocumentPath },
    Renamed { from: DocumentPath, to: DocumentPath },
    Deleted { path: DocumentPath },
}

impl PathChange {
    pub fn of(self, document: DocumentNumber) -> ChangeKind {
        match self {
            PathChange::Created { path } => ChangeKind::DocumentCreated { document, path },
            PathChange::Renamed { from, to } => ChangeKind::DocumentRenamed { document, from, to },
            PathChange::Deleted { path } => ChangeKind::DocumentDeleted { document, path },
        }
    }
}

const CREATED: u8 = 1;
const RENAMED: u8 = 2;
const DELETED: u8 = 3;

/// A change of a document's name; its revision stands in the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeRecord {
    pub time: Timestamp,
    pub participant: Option<ParticipantName>,
    pub session: Option<SessionId>,
    pub document: DocumentNumber,
    pub change: PathChange,
}

impl Record for ChangeRecord {
    const NAME: &'static str = "document change";

    fn write(&self, writer: &mut Writer) {
        writer.time(self.time);
        writer.optional_participant(self.participant.as_ref());
        writer.optional_session(self.session);
        writer.varint(self.document.0.into());
        let (kind, paths): (u8, [Option<&DocumentPath>; 2]) = match &self.change {
            PathChange::Created { path } => (CREATED, [Some(path), None]),
            PathChange::Renamed { from, to } => (RENAMED, [Some(from), Some(to)]),
            PathChange::Deleted { path } => (DELETED, [Some(path), None]),
        };
        writer.u8(kind);
        paths.into_iter().flatten().for_each(|path| writer.bytes(path.as_bytes()));
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(ChangeRecord {
            time: reader.time()?,
            participant: reader.optional_participant()?,
            session: reader.optional_session()?,
            document: reader.document_number()?,
            change: match reader.u8()? {
                CREATED => PathChange::Created { path: reader.document_path()? },
                RENAMED => PathChange::Renamed { from: reader.document_path()?, to: reader.document_path()? },
                DELETED => PathChange::Deleted { path: reader.document_path()? },
                _ => return Err(reader.damaged("unknown kind")),
            },
        })
    }
}

/// How many changes a room remembers, and which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DocumentChanges {
    pub count: u64,
    /// The revision of the newest change that is forgotten; 0 when none is.
    pub trimmed_to: Revision,
}

impl Record for DocumentChanges {
    const NAME: &'static str = "document changes";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.count);
        writer.revision(self.trimmed_to);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(DocumentChanges { count: reader.varint()?, trimmed_to: reader.revision()? })
    }
}

/// Remembers a change and tells of it.
pub(crate) fn record(
    state: &mut State<'_>,
    room: RoomUid,
    revision: Revision,
    document: DocumentNumber,
    change: PathChange,
) -> Result<(), TableError> {
    let (time, actor) = (state.clock(), state.actor().clone());
    let record =
        ChangeRecord { time, participant: actor.participant, session: actor.session, document, change: change.clone() };
    state.overlay.put(state.keys.document_change(room, revision), record.encode());
    let mut changes = state.document_changes(room)?;
    changes.count += 1;
    if changes.count > MAX_DOCUMENT_CHANGES {
        forget_oldest(state, room, &mut changes)?;
    }
    state.set_document_changes(room, changes);
    state.emit_change(room, revision, change.of(document));
    Ok(())
}

fn forget_oldest(state: &mut State<'_>, room: RoomUid, changes: &mut DocumentChanges) -> Result<(), TableError> {
    let range = state.keys.document_changes_after(room, changes.trimmed_to);
    let oldest = state.overlay.scan(&range.start, &range.end).next().transpose()?;
    let (oldest, _) = oldest.ok_or_else(|| damaged(DocumentChanges::NAME, "fewer are stored than it counts"))?;
    changes.count -= 1;
    changes.trimmed_to = Keys::parse_revision(&oldest)?;
    state.overlay.delete(oldest.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let with = |participant: Option<&str>, session, change| ChangeRecord {
            time: Timestamp(1),
            participant: participant.map(|name| name.parse().unwrap()),
            session,
            document: DocumentNumber(2),
            change,
        };
        let path = || "p".parse().unwrap();
        let created = with(None, None, PathChange::Created { path: path() });
        assert_eq!(&created.encode()[..], b"\x01\x01\x00\x00\x02\x01\x01p");
        let renamed = with(Some("ann"), None, PathChange::Renamed { from: path(), to: "q".parse().unwrap() });
        assert_eq!(&renamed.encode()[..], b"\x01\x01\x03ann\x00\x02\x02\x01p\x01q");
        let deleted = with(None, Some(SessionId([7; 16])), PathChange::Deleted { path: path() });
        assert_eq!(&deleted.encode()[..], [&[1, 1, 0, 16][..], &[7; 16], b"\x02\x03\x01p"].concat());
        for record in [created, renamed, deleted] {
            assert_eq!(ChangeRecord::decode(record.encode()), Ok(record));
        }
        let changes = DocumentChanges { count: 3, trimmed_to: Revision(300) };
        assert_eq!(&changes.encode()[..], [1, 3, 0xac, 2]);
        assert_eq!(DocumentChanges::decode(changes.encode()), Ok(changes));
    }
}
