//! Rooms by name, by uid and in lists.

use std::collections::BTreeMap;

use conclave_types::{GroupId, ProjectId, Revision, RoomName, RoomNumber, RoomUid, Slot, Timestamp};

use crate::codec::{Record, damaged};
use crate::keys::Keys;
use crate::message::MessageLog;
use crate::room::{RoomHeader, RoomLabels, RoomState};
use crate::state::load;
use crate::{MessageRetention, TableError, TableReads};

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
    /// How much of its log the room keeps.
    pub retention: MessageRetention,
}

/// The room of this name, if there is one. A room that is being deleted has no name any more.
pub fn find_room(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    slot: Slot,
    project: &ProjectId,
    name: &RoomName,
) -> Result<Option<RoomUid>, TableError> {
    let number = load::<RoomNumber>(reads, &Keys::new(group).directory(slot, project, name))?;
    Ok(number.map(|number| RoomUid { slot, number }))
}

/// A room with all that is written about it; also while it is being deleted.
pub fn room(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    uid: RoomUid,
) -> Result<Option<RoomRecord>, TableError> {
    let keys = Keys::new(group);
    let Some(header) = load::<RoomHeader>(reads, &keys.room_header(uid))? else { return Ok(None) };
    let Some(labels) = load::<RoomLabels>(reads, &keys.room_labels(uid))? else {
        return match header.state {
            RoomState::Deleting => Ok(None),
            RoomState::Active => Err(damaged(RoomLabels::NAME, "missing for a room that exists")),
        };
    };
    let log: MessageLog = load(reads, &keys.message_log(uid))?.unwrap_or_default();
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
        retention: log.retention,
    }))
}

/// The revision of a room; none if it does not exist or is being deleted.
pub fn revision(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    uid: RoomUid,
) -> Result<Option<Revision>, TableError> {
    let header: Option<RoomHeader> = load(reads, &Keys::new(group).room_header(uid))?;
    Ok(header.filter(|header| header.state == RoomState::Active).map(|header| header.revision))
}

/// Rooms of a project after a position, ordered by slot and name; at most `limit`.
///
/// The directory is ordered by slot first, so this hops from slot to slot: the cost is the slots of the shard and the
/// rooms returned, whatever other projects have.
pub fn list_rooms(
    reads: &(impl TableReads + ?Sized),
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
