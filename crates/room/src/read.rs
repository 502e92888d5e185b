//! Reads of a shard's state, for requests that change nothing.

use std::collections::BTreeMap;

use conclave_types::{GroupId, ProjectId, QueueName, Revision, RoomName, RoomUid, Slot, Timestamp};

use crate::{TableError, TableReads};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomState {
    Active,
    /// The name is free already; the data goes in steps.
    Deleting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRecord {
    pub uid: RoomUid,
    pub project: ProjectId,
    pub name: RoomName,
    pub state: RoomState,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// The revision of the last update.
    pub etag: u64,
    pub revision: Revision,
    pub metadata: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    pub name: QueueName,
    pub create_time: Timestamp,
    /// Items that wait for a receiver.
    pub ready: u64,
    /// Items that a receiver holds.
    pub leased: u64,
}

/// The room of this name, if there is one.
pub fn find_room(
    reads: &impl TableReads,
    group: GroupId,
    slot: Slot,
    project: &ProjectId,
    name: &RoomName,
) -> Result<Option<RoomUid>, TableError> {
    let _ = (reads, group, slot, project, name);
    Err(TableError("not built".into()))
}

pub fn room(reads: &impl TableReads, group: GroupId, uid: RoomUid) -> Result<Option<RoomRecord>, TableError> {
    let _ = (reads, group, uid);
    Err(TableError("not built".into()))
}

/// The room's revision alone; none for a room that does not exist.
pub fn revision(reads: &impl TableReads, group: GroupId, uid: RoomUid) -> Result<Option<Revision>, TableError> {
    let _ = (reads, group, uid);
    Err(TableError("not built".into()))
}

/// Rooms of a project after a position, ordered by slot and name; at most `limit`.
pub fn list_rooms(
    reads: &impl TableReads,
    group: GroupId,
    project: &ProjectId,
    after: Option<(Slot, RoomName)>,
    limit: usize,
) -> Result<Vec<RoomRecord>, TableError> {
    let _ = (reads, group, project, after, limit);
    Err(TableError("not built".into()))
}

pub fn queue(
    reads: &impl TableReads,
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
) -> Result<Option<QueueView>, TableError> {
    let _ = (reads, group, room, name);
    Err(TableError("not built".into()))
}

/// Queues of a room after a name, ordered by name; at most `limit`.
pub fn list_queues(
    reads: &impl TableReads,
    group: GroupId,
    room: RoomUid,
    after: Option<QueueName>,
    limit: usize,
) -> Result<Vec<QueueView>, TableError> {
    let _ = (reads, group, room, after, limit);
    Err(TableError("not built".into()))
}

/// The applied clock of the shard; 0 before its first entry.
pub fn clock(reads: &impl TableReads, group: GroupId) -> Result<Timestamp, TableError> {
    let _ = (reads, group);
    Err(TableError("not built".into()))
}
