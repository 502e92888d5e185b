//! The shard's state as a batch of entries sees it: what is stored, and over it what the batch did so far.
//!
//! Records that many commands touch (headers of the shard, rooms, queues, documents and logs, clocks, session records)
//! are kept decoded and are encoded once an entry; all else goes straight to the overlay. Both take part in savepoints.
//! Effects and revisions are the command's: they count only when it is kept.

mod effects;
mod records;
mod shard;

use std::collections::BTreeMap;

use conclave_types::{
    DocumentNumber, DocumentPath, GroupId, ParticipantName, QueueName, Revision, RoomUid, SessionId, Timestamp,
    YjsClient,
};

use crate::cache::Cache;
use crate::codec::Record;
use crate::document::changes::DocumentChanges;
use crate::document::{DocumentClock, DocumentHeader};
use crate::keys::{Due, Keys, QueueNumber};
use crate::message::MessageLog;
use crate::overlay::Overlay;
use crate::queue::QueueHeader;
use crate::room::RoomHeader;
use crate::session::{OpenOutcomes, SessionRecord};
use crate::{Change, ChangeKind, Effect, TableError, TableReads, Tables, Writes};

use effects::Effects;

pub(crate) use effects::Actor;
pub(crate) use shard::ShardHeader;

pub(crate) fn load<T: Record>(reads: &(impl TableReads + ?Sized), key: &[u8]) -> Result<Option<T>, TableError> {
    reads.get(key)?.map(T::decode).transpose()
}

pub(crate) struct State<'a> {
    pub keys: Keys,
    pub overlay: Overlay<'a>,
    shard: ShardHeader,
    shard_saved: ShardHeader,
    rooms: Cache<RoomUid, RoomHeader>,
    queue_numbers: Cache<(RoomUid, QueueName), QueueNumber>,
    queues: Cache<(RoomUid, QueueNumber), QueueHeader>,
    document_numbers: Cache<(RoomUid, DocumentPath), DocumentNumber>,
    documents: Cache<(RoomUid, DocumentNumber), DocumentHeader>,
    clocks: Cache<(RoomUid, DocumentNumber, YjsClient), DocumentClock>,
    document_changes: Cache<RoomUid, DocumentChanges>,
    message_logs: Cache<RoomUid, MessageLog>,
    sessions: Cache<(RoomUid, SessionId), SessionRecord>,
    /// Outcomes of this entry, by session.
    open_outcomes: BTreeMap<(RoomUid, SessionId), OpenOutcomes>,
    effects: Effects,
    /// Who runs the command.
    actor: Actor,
}

impl<'a> State<'a> {
    pub fn new(group: GroupId, reads: &'a dyn TableReads) -> Result<Self, TableError> {
        let keys = Keys::new(group);
        let shard = ShardHeader::load(reads, &keys)?;
        Ok(State {
            keys,
            overlay: Overlay::new(reads),
            shard,
            shard_saved: shard,
            rooms: Cache::new(),
            queue_numbers: Cache::new(),
            queues: Cache::new(),
            document_numbers: Cache::new(),
            documents: Cache::new(),
            clocks: Cache::new(),
            document_changes: Cache::new(),
            message_logs: Cache::new(),
            sessions: Cache::new(),
            open_outcomes: BTreeMap::new(),
            effects: Effects::default(),
            actor: Actor::default(),
        })
    }

    pub fn begin_entry(&mut self, time: Timestamp) {
        self.shard.clock = self.shard.clock.max(time);
    }

    /// Puts everything of the entry into the overlay and hands out its effects.
    pub fn end_entry(&mut self) -> Result<Vec<Effect>, TableError> {
        self.flush();
        self.overlay.put(self.keys.shard(), self.shard.encode());
        let mut changes = Vec::new();
        for ((room, queue), actor) in self.effects.take_queues_changed() {
            // Without a header, the room was deleted in this entry, and purged.
            if let Some(header) = self.find_queue(room, queue)? {
                let (ready, changed) = (header.ready(), header.changed);
                let QueueHeader { name, leased, .. } = header;
                let kind = ChangeKind::QueueChanged { queue: name, ready, leased };
                changes.push(self.change(room, changed, actor, kind));
            }
        }
        Ok(self.effects.take(changes))
    }

    pub fn into_writes(self) -> Writes {
        self.overlay.into_writes()
    }

    /// What follows is undone by [`Self::rollback`], up to the next savepoint.
    pub fn savepoint(&mut self) {
        self.overlay.savepoint();
        self.shard_saved = self.shard;
        self.rooms.savepoint();
        self.queue_numbers.savepoint();
        self.queues.savepoint();
        self.document_numbers.savepoint();
        self.documents.savepoint();
        self.clocks.savepoint();
        self.document_changes.savepoint();
        self.message_logs.savepoint();
        self.sessions.savepoint();
        self.effects.drop_command();
    }

    pub fn rollback(&mut self) {
        self.overlay.rollback();
        self.shard = self.shard_saved;
        self.rooms.rollback();
        self.queue_numbers.rollback();
        self.queues.rollback();
        self.document_numbers.rollback();
        self.documents.rollback();
        self.clocks.rollback();
        self.document_changes.rollback();
        self.message_logs.rollback();
        self.sessions.rollback();
        self.effects.drop_command();
    }

    /// The command counts, and so do its effects.
    pub fn keep(&mut self) {
        self.effects.keep_command(&self.actor);
    }

    /// Writes all decoded records into the overlay and forgets them, so that scans of it see everything.
    pub fn settle(&mut self) {
        self.flush();
        self.rooms.clear();
        self.queue_numbers.clear();
        self.queues.clear();
        self.document_numbers.clear();
        self.documents.clear();
        self.clocks.clear();
        self.document_changes.clear();
        self.message_logs.clear();
        self.sessions.clear();
    }

    fn flush(&mut self) {
        let State { keys, overlay, .. } = self;
        for ((room, session), open) in std::mem::take(&mut self.open_outcomes) {
            // The session's record was set when the outcome was kept, and only a purge of the room takes it away.
            let Ok(Some(record)) = self.sessions.get(&(room, session), || Ok(None)) else { continue };
            let mut record = record.clone();
            if open.last() > record.acknowledged {
                overlay.put(keys.kept_outcomes(room, session, open.first().0), open.encode());
                record.kept.push(open.range());
                self.sessions.set((room, session), Some(record));
            }
        }
        self.rooms.clean(|room, header| write(overlay, keys.room_header(*room), header));
        self.queue_numbers.clean(|(room, name), number| write(overlay, keys.queue_directory(*room, name), number));
        self.queues.clean(|(room, queue), header| write(overlay, keys.queue_header(*room, *queue), header));
        self.document_numbers
            .clean(|(room, path), number| write(overlay, keys.document_directory(*room, path), number));
        self.documents.clean(|(room, number), header| write(overlay, keys.document_header(*room, *number), header));
        self.clocks.clean(|(room, number, client), clock| {
            write(overlay, keys.document_clock(*room, *number, *client), clock);
        });
        self.document_changes.clean(|room, changes| write(overlay, keys.document_changes(*room), changes));
        self.message_logs.clean(|room, log| write(overlay, keys.message_log(*room), log));
        self.sessions.clean(|(room, session), record| write(overlay, keys.session(*room, *session), record));
    }

    pub fn clock(&self) -> Timestamp {
        self.shard.clock
    }

    pub fn next_room_number(&mut self) -> u64 {
        let number = self.shard.next_room;
        self.shard.next_room += 1;
        number
    }

    /// Who runs the commands from now on.
    pub fn set_actor(&mut self, actor: Actor) {
        self.actor = actor;
    }

    /// The running command names who does it, whoever proposed it.
    pub fn act_as(&mut self, participant: &ParticipantName) {
        if self.actor.participant.as_ref() != Some(participant) {
            self.actor.participant = Some(participant.clone());
        }
    }

    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    pub fn emit(&mut self, effect: Effect) {
        self.effects.emit(effect);
    }

    /// Tells watchers of what the running command did.
    pub fn emit_change(&mut self, room: RoomUid, revision: Revision, kind: ChangeKind) {
        let change = self.change(room, revision, self.actor.clone(), kind);
        self.effects.emit(change);
    }

    /// Tells watchers of a queue's sizes, once the entry is over.
    pub fn queue_changed(&mut self, room: RoomUid, queue: QueueNumber) {
        self.effects.queue_changed(room, queue);
    }

    fn change(&self, room: RoomUid, revision: Revision, actor: Actor, kind: ChangeKind) -> Effect {
        let Actor { participant, session } = actor;
        Effect::Changed(Change { room, revision, time: self.clock(), participant, session, kind })
    }

    /// The outcomes of a session that this entry made so far.
    pub fn open_outcomes(&mut self, room: RoomUid, session: SessionId) -> &mut OpenOutcomes {
        self.open_outcomes.entry((room, session)).or_default()
    }

    pub fn schedule(&mut self, deadline: Timestamp, due: &Due) {
        self.shard.due_from = self.shard.due_from.min(deadline);
        self.overlay.put(self.keys.due(deadline, due), bytes::Bytes::new());
    }

    pub fn unschedule(&mut self, deadline: Timestamp, due: &Due) {
        self.overlay.delete(self.keys.due(deadline, due));
    }

    /// Up to `limit` due entries with deadlines up to the clock, earliest first.
    pub fn due_now(&self, limit: usize) -> Result<Vec<(Timestamp, Due)>, TableError> {
        let to = self.keys.due_from(self.clock().plus_ms(1));
        let pairs = self.overlay.scan(&self.keys.due_from(self.shard.due_from), &to);
        pairs.take(limit).map(|pair| self.keys.parse_due(&pair?.0)).collect()
    }

    /// Nothing earlier is in the due index.
    pub fn set_due_from(&mut self, due_from: Timestamp) {
        self.shard.due_from = due_from;
    }
}

fn write<T: Record>(overlay: &mut Overlay<'_>, key: Vec<u8>, record: Option<&T>) {
    match record {
        Some(record) => overlay.put(key, record.encode()),
        None => overlay.delete(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RoomState;

    #[test]
    fn a_newer_schema_stops_the_shard() {
        let mut tables = crate::memory::MemoryTables::default();
        Tables::put(&mut tables, Keys::new(GroupId(1)).shard(), vec![3, 0, 1, 0]);
        assert!(State::new(GroupId(1), &tables).is_err());
    }

    #[test]
    fn rollback_leaves_nothing_of_the_command() {
        let tables = crate::memory::MemoryTables::default();
        let mut state = State::new(GroupId(1), &tables).unwrap();
        let room = RoomUid { slot: conclave_types::Slot(1), number: conclave_types::RoomNumber(1) };
        state.begin_entry(Timestamp(5));
        state.savepoint();
        state.schedule(Timestamp(9), &Due::Purge(room));
        state.next_room_number();
        assert_eq!(state.room(room), Ok(None));
        let header = RoomHeader {
            state: RoomState::Active,
            revision: Revision(1),
            etag: 1,
            create_time: Timestamp(5),
            update_time: Timestamp(5),
            queues: 0,
            documents: 0,
            live_documents: 0,
        };
        state.set_room(room, Some(header));
        let (document, path) = (DocumentNumber(1), "a/b".parse::<DocumentPath>().unwrap());
        state.set_document_number(room, path.clone(), Some(document));
        let now = Timestamp(5);
        let (create_revision, revision) = (Revision(1), Revision(1));
        let header = DocumentHeader {
            path,
            create_time: now,
            update_time: now,
            create_revision,
            revision,
            updates: 0,
            bytes: 0,
        };
        state.set_document(room, document, Some(header));
        state.set_document_clock(room, document, YjsClient(1), 1);
        state.set_document_changes(room, DocumentChanges::default());
        state.set_message_log(room, MessageLog::default());
        state.emit_change(room, revision, ChangeKind::MessagePosted { message: "m".into() });
        state.queue_changed(room, QueueNumber(1));
        state.emit(Effect::RoomDeleted { room });
        state.rollback();
        state.keep();
        assert_eq!(state.end_entry().unwrap(), []);
        let shard = ShardHeader { clock: Timestamp(5), ..ShardHeader::NEW };
        assert_eq!(state.into_writes(), [(Keys::new(GroupId(1)).shard(), Some(shard.encode()))]);
    }
}
