//! The records that are kept decoded: how each is found, read and set.

use conclave_types::{DocumentNumber, DocumentPath, QueueName, Revision, RoomUid, SessionId, YjsClient};

use super::{State, load};
use crate::TableError;
use crate::codec::damaged;
use crate::document::changes::DocumentChanges;
use crate::document::{DocumentClock, DocumentHeader};
use crate::keys::QueueNumber;
use crate::message::MessageLog;
use crate::queue::QueueHeader;
use crate::room::{RoomHeader, RoomState};
use crate::session::SessionRecord;

impl State<'_> {
    /// The room's header, if the room exists and is not being deleted.
    pub fn active_room(&mut self, room: RoomUid) -> Result<Option<RoomHeader>, TableError> {
        Ok(self.room(room)?.filter(|header| header.state == RoomState::Active))
    }

    pub fn room(&mut self, room: RoomUid) -> Result<Option<RoomHeader>, TableError> {
        let State { keys, overlay, .. } = self;
        self.rooms.get(&room, || load(overlay, &keys.room_header(room))).map(Option::<&_>::copied)
    }

    /// The room's present revision, for a command that participants cannot see.
    pub fn revision(&mut self, room: RoomUid) -> Result<Revision, TableError> {
        Ok(self.room(room)?.map(|header| header.revision).unwrap_or_default())
    }

    pub fn set_room(&mut self, room: RoomUid, header: Option<RoomHeader>) {
        self.rooms.set(room, header);
    }

    /// The room's next revision, for a command that participants can see. At most once a command.
    pub fn next_revision(&mut self, room: RoomUid) -> Result<Revision, TableError> {
        let mut header = self.room(room)?.ok_or_else(|| damaged("room header", "missing"))?;
        header.revision = header.revision.next();
        self.set_room(room, Some(header));
        Ok(header.revision)
    }

    pub fn queue_number(&mut self, room: RoomUid, name: &QueueName) -> Result<Option<QueueNumber>, TableError> {
        let State { keys, overlay, .. } = self;
        let key = (room, name.clone());
        self.queue_numbers.get(&key, || load(overlay, &keys.queue_directory(room, name))).map(Option::<&_>::copied)
    }

    pub fn set_queue_number(&mut self, room: RoomUid, name: QueueName, number: QueueNumber) {
        self.queue_numbers.set((room, name), Some(number));
    }

    /// The header of a queue whose number is known.
    pub fn queue(&mut self, room: RoomUid, queue: QueueNumber) -> Result<QueueHeader, TableError> {
        self.find_queue(room, queue)?.ok_or_else(|| damaged("queue header", "missing"))
    }

    pub(super) fn find_queue(&mut self, room: RoomUid, queue: QueueNumber) -> Result<Option<QueueHeader>, TableError> {
        let State { keys, overlay, .. } = self;
        let header = self.queues.get(&(room, queue), || load(overlay, &keys.queue_header(room, queue)))?;
        Ok(header.cloned())
    }

    pub fn set_queue(&mut self, room: RoomUid, queue: QueueNumber, header: QueueHeader) {
        self.queues.set((room, queue), Some(header));
    }

    pub fn session(&mut self, room: RoomUid, session: SessionId) -> Result<Option<SessionRecord>, TableError> {
        let State { keys, overlay, .. } = self;
        self.sessions
            .get(&(room, session), || load(overlay, &keys.session(room, session)))
            .map(|record| record.cloned())
    }

    pub fn set_session(&mut self, room: RoomUid, session: SessionId, record: Option<SessionRecord>) {
        self.sessions.set((room, session), record);
    }

    pub fn document_number(
        &mut self,
        room: RoomUid,
        path: &DocumentPath,
    ) -> Result<Option<DocumentNumber>, TableError> {
        let State { keys, overlay, .. } = self;
        let key = (room, path.clone());
        let number = self.document_numbers.get(&key, || load(overlay, &keys.document_directory(room, path)))?;
        Ok(number.copied())
    }

    pub fn set_document_number(&mut self, room: RoomUid, path: DocumentPath, number: Option<DocumentNumber>) {
        self.document_numbers.set((room, path), number);
    }

    /// The header of a document whose number is known.
    pub fn document(&mut self, room: RoomUid, document: DocumentNumber) -> Result<DocumentHeader, TableError> {
        let State { keys, overlay, .. } = self;
        let header = self.documents.get(&(room, document), || load(overlay, &keys.document_header(room, document)))?;
        header.cloned().ok_or_else(|| damaged("document header", "missing"))
    }

    pub fn set_document(&mut self, room: RoomUid, document: DocumentNumber, header: Option<DocumentHeader>) {
        self.documents.set((room, document), header);
    }

    /// The clock up to which a document holds a client's updates; 0 for a client that it does not know.
    pub fn document_clock(
        &mut self,
        room: RoomUid,
        document: DocumentNumber,
        client: YjsClient,
    ) -> Result<u64, TableError> {
        let State { keys, overlay, .. } = self;
        let key = (room, document, client);
        let clock = self.clocks.get(&key, || load(overlay, &keys.document_clock(room, document, client)))?;
        Ok(clock.map_or(0, |clock| clock.0))
    }

    pub fn set_document_clock(&mut self, room: RoomUid, document: DocumentNumber, client: YjsClient, clock: u64) {
        self.clocks.set((room, document, client), Some(DocumentClock(clock)));
    }

    /// What the room remembers of its documents' names.
    pub fn document_changes(&mut self, room: RoomUid) -> Result<DocumentChanges, TableError> {
        let State { keys, overlay, .. } = self;
        let changes = self.document_changes.get(&room, || load(overlay, &keys.document_changes(room)))?;
        Ok(changes.copied().unwrap_or_default())
    }

    pub fn set_document_changes(&mut self, room: RoomUid, changes: DocumentChanges) {
        self.document_changes.set(room, Some(changes));
    }

    /// The header of the room's log; one without a record is empty and keeps what logs keep by default.
    pub fn message_log(&mut self, room: RoomUid) -> Result<MessageLog, TableError> {
        let State { keys, overlay, .. } = self;
        let log = self.message_logs.get(&room, || load(overlay, &keys.message_log(room)))?;
        Ok(log.copied().unwrap_or_default())
    }

    pub fn set_message_log(&mut self, room: RoomUid, log: MessageLog) {
        self.message_logs.set(room, Some(log));
    }
}
