//! Reads of a shard's state, for requests that change nothing.
//!
//! All reads of one answer go to one `TableReads`, which is one consistent state.

use std::collections::BTreeMap;

use conclave_types::{GroupId, ProjectId, QueueName, Revision, RoomName, RoomNumber, RoomUid, Slot, Timestamp};

use crate::codec::{Record, damaged};
use crate::keys::{Keys, QueueNumber, parse_queue_name};
use crate::queue::QueueHeader;
use crate::room::{RoomHeader, RoomLabels, RoomState};
use crate::state::{ShardHeader, load};
use crate::{TableError, TableReads};

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

/// The room of this name, if there is one. A room that is being deleted has no name any more.
pub fn find_room(
    reads: &impl TableReads,
    group: GroupId,
    slot: Slot,
    project: &ProjectId,
    name: &RoomName,
) -> Result<Option<RoomUid>, TableError> {
    let number = load::<RoomNumber>(reads, &Keys::new(group).directory(slot, project, name))?;
    Ok(number.map(|number| RoomUid { slot, number }))
}

/// A room with all that is written about it; also while it is being deleted.
pub fn room(reads: &impl TableReads, group: GroupId, uid: RoomUid) -> Result<Option<RoomRecord>, TableError> {
    let keys = Keys::new(group);
    let Some(header) = load::<RoomHeader>(reads, &keys.room_header(uid))? else { return Ok(None) };
    let Some(labels) = load::<RoomLabels>(reads, &keys.room_labels(uid))? else {
        return match header.state {
            RoomState::Deleting => Ok(None),
            RoomState::Active => Err(damaged(RoomLabels::NAME, "missing for a room that exists")),
        };
    };
    Ok(Some(RoomRecord {
        uid,
        project: labels.project,
        name: labels.name,
        state: header.state,
        create_time: header.create_time,
        update_time: header.update_time,
        etag: header.etag,
        revision: header.revision,
        metadata: labels.metadata,
        annotations: labels.annotations,
    }))
}

/// The revision of a room; none if it does not exist or is being deleted.
pub fn revision(reads: &impl TableReads, group: GroupId, uid: RoomUid) -> Result<Option<Revision>, TableError> {
    let header: Option<RoomHeader> = load(reads, &Keys::new(group).room_header(uid))?;
    Ok(header.filter(|header| header.state == RoomState::Active).map(|header| header.revision))
}

/// Rooms of a project after a position, ordered by slot and name; at most `limit`.
///
/// The directory is ordered by slot first, so this hops from slot to slot: the cost is the slots of the shard and the
/// rooms returned, whatever other projects have.
pub fn list_rooms(
    reads: &impl TableReads,
    group: GroupId,
    project: &ProjectId,
    after: Option<(Slot, RoomName)>,
    limit: usize,
) -> Result<Vec<RoomRecord>, TableError> {
    let keys = Keys::new(group);
    let mut from = match &after {
        Some((slot, name)) => keys.directory(*slot, project, name),
        None => keys.directory_project(Slot(0), project),
    };
    let mut rooms = Vec::new();
    loop {
        // Where to look next, once something of another project is met.
        let mut hop = None;
        for pair in reads.scan(&from, &keys.directory_end()) {
            if rooms.len() >= limit {
                return Ok(rooms);
            }
            let (key, value) = pair?;
            let (slot, owner, name) = keys.parse_directory(&key)?;
            if owner != *project {
                let next = if owner < *project { Some(slot) } else { slot.0.checked_add(1).map(Slot) };
                hop = next.map(|slot| keys.directory_project(slot, project));
                break;
            }
            if after.as_ref() != Some(&(slot, name)) {
                let uid = RoomUid { slot, number: RoomNumber::decode(value)? };
                rooms.push(room(reads, group, uid)?.ok_or_else(|| damaged(RoomHeader::NAME, "missing for a name"))?);
            }
        }
        match hop {
            Some(next) => from = next,
            None => return Ok(rooms),
        }
    }
}

/// A queue's sizes, if there is such a queue.
pub fn queue(
    reads: &impl TableReads,
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
) -> Result<Option<QueueView>, TableError> {
    let number: Option<QueueNumber> = load(reads, &Keys::new(group).queue_directory(room, name))?;
    number.map(|number| view(reads, group, room, number)).transpose()
}

/// Queues of a room after a name, ordered by name; at most `limit`.
pub fn list_queues(
    reads: &impl TableReads,
    group: GroupId,
    room: RoomUid,
    after: Option<QueueName>,
    limit: usize,
) -> Result<Vec<QueueView>, TableError> {
    let keys = Keys::new(group);
    let all = keys.queue_directory_all(room);
    let from = after.as_ref().map_or(all.start, |name| keys.queue_directory(room, name));
    let mut queues = Vec::new();
    for pair in reads.scan(&from, &all.end) {
        if queues.len() >= limit {
            break;
        }
        let (key, value) = pair?;
        if after.as_ref() != Some(&parse_queue_name(&keys, &key)?) {
            queues.push(view(reads, group, room, QueueNumber::decode(value)?)?);
        }
    }
    Ok(queues)
}

fn view(reads: &impl TableReads, group: GroupId, room: RoomUid, number: QueueNumber) -> Result<QueueView, TableError> {
    let header: Option<QueueHeader> = load(reads, &Keys::new(group).queue_header(room, number))?;
    let header = header.ok_or_else(|| damaged(QueueHeader::NAME, "missing for a name"))?;
    Ok(QueueView { name: header.name, create_time: header.create_time, ready: header.ready, leased: header.leased })
}

/// The applied clock of the shard; 0 before its first entry.
pub fn clock(reads: &impl TableReads, group: GroupId) -> Result<Timestamp, TableError> {
    Ok(ShardHeader::load(reads, &Keys::new(group))?.clock)
}
