//! The shard's state as a batch of entries sees it: what is stored, and over it what the batch did so far.
//!
//! Records that many commands touch (shard, room and queue headers, session records) are kept decoded and are encoded
//! once an entry; all else goes straight to the overlay. Both take part in savepoints. Effects and revisions are the
//! command's: they count only when it is kept.

use std::collections::{BTreeMap, BTreeSet};

use conclave_types::{GroupId, QueueName, Revision, RoomUid, SessionId, Timestamp};

use crate::cache::Cache;
use crate::codec::{Reader, Record, Writer, damaged};
use crate::keys::{Due, Keys, QueueNumber};
use crate::overlay::Overlay;
use crate::queue::QueueHeader;
use crate::room::{RoomHeader, RoomState};
use crate::session::{OpenOutcomes, SessionRecord};
use crate::{Effect, TableError, TableReads, Tables, Writes};

/// What the shard as a whole remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardHeader {
    /// The applied clock: the highest stamp of any entry.
    pub clock: Timestamp,
    /// The number the next room gets.
    pub next_room: u64,
    /// No due entry has an earlier deadline. Saves the scan of the index from passing over all that was deleted.
    pub due_from: Timestamp,
}

impl ShardHeader {
    const NEW: ShardHeader = ShardHeader { clock: Timestamp(0), next_room: 1, due_from: Timestamp(0) };

    pub fn load(reads: &(impl TableReads + ?Sized), keys: &Keys) -> Result<Self, TableError> {
        Ok(load(reads, &keys.shard())?.unwrap_or(ShardHeader::NEW))
    }
}

/// The version of this record is the schema of the whole shard.
impl Record for ShardHeader {
    const NAME: &'static str = "shard header";

    fn write(&self, writer: &mut Writer) {
        writer.time(self.clock);
        writer.varint(self.next_room);
        writer.time(self.due_from);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(ShardHeader { clock: reader.time()?, next_room: reader.varint()?, due_from: reader.time()? })
    }
}

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
    sessions: Cache<(RoomUid, SessionId), SessionRecord>,
    /// Outcomes of this entry, by session.
    open_outcomes: BTreeMap<(RoomUid, SessionId), OpenOutcomes>,
    /// Effects of the entry, and of the running command.
    effects: Vec<Effect>,
    command_effects: Vec<Effect>,
    queues_woken: BTreeSet<(RoomUid, QueueName)>,
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
            sessions: Cache::new(),
            open_outcomes: BTreeMap::new(),
            effects: Vec::new(),
            command_effects: Vec::new(),
            queues_woken: BTreeSet::new(),
        })
    }

    pub fn begin_entry(&mut self, time: Timestamp) {
        self.shard.clock = self.shard.clock.max(time);
    }

    /// Puts everything of the entry into the overlay and hands out its effects.
    pub fn end_entry(&mut self) -> Vec<Effect> {
        self.flush();
        self.overlay.put(self.keys.shard(), self.shard.encode());
        self.queues_woken.clear();
        std::mem::take(&mut self.effects)
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
        self.sessions.savepoint();
        self.command_effects.clear();
    }

    pub fn rollback(&mut self) {
        self.overlay.rollback();
        self.shard = self.shard_saved;
        self.rooms.rollback();
        self.queue_numbers.rollback();
        self.queues.rollback();
        self.sessions.rollback();
        self.command_effects.clear();
    }

    /// The command counts: its effects become the entry's, each queue woken once.
    pub fn keep(&mut self) {
        for effect in self.command_effects.drain(..) {
            let is_new = match &effect {
                Effect::QueueReady { room, queue } => self.queues_woken.insert((*room, queue.clone())),
                Effect::SessionAttached { .. } | Effect::RoomDeleted { .. } => true,
            };
            if is_new {
                self.effects.push(effect);
            }
        }
    }

    /// Writes all decoded records into the overlay and forgets them, so that scans of it see everything.
    pub fn settle(&mut self) {
        self.flush();
        self.rooms.clear();
        self.queue_numbers.clear();
        self.queues.clear();
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

    pub fn emit(&mut self, effect: Effect) {
        self.command_effects.push(effect);
    }

    /// The room's header, if the room exists and is not being deleted.
    pub fn active_room(&mut self, room: RoomUid) -> Result<Option<RoomHeader>, TableError> {
        Ok(self.room(room)?.filter(|header| header.state == RoomState::Active))
    }

    pub fn room(&mut self, room: RoomUid) -> Result<Option<RoomHeader>, TableError> {
        let State { keys, overlay, .. } = self;
        self.rooms.get(&room, || load(overlay, &keys.room_header(room))).map(Option::<&_>::copied)
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
        let State { keys, overlay, .. } = self;
        let header = self.queues.get(&(room, queue), || load(overlay, &keys.queue_header(room, queue)))?;
        header.cloned().ok_or_else(|| damaged("queue header", "missing"))
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

    #[test]
    fn shard_header_bytes_are_as_they_were_first_stored() {
        let header = ShardHeader { clock: Timestamp(300), next_room: 2, due_from: Timestamp(1) };
        assert_eq!(&header.encode()[..], [1, 0xac, 2, 2, 1]);
        assert_eq!(ShardHeader::decode(header.encode()), Ok(header));
    }

    #[test]
    fn a_newer_schema_stops_the_shard() {
        let mut tables = crate::memory::MemoryTables::default();
        Tables::put(&mut tables, Keys::new(GroupId(1)).shard(), vec![2, 0, 1, 0]);
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
        };
        state.set_room(room, Some(header));
        state.emit(Effect::RoomDeleted { room });
        state.rollback();
        assert_eq!(state.end_entry(), []);
        let shard = ShardHeader { clock: Timestamp(5), ..ShardHeader::NEW };
        assert_eq!(state.into_writes(), [(Keys::new(GroupId(1)).shard(), Some(shard.encode()))]);
    }
}
