//! Queues and their sizes.

use conclave_types::{GroupId, QueueName, Revision, RoomUid, Timestamp};

use super::named;
use crate::codec::Record;
use crate::keys::{Keys, QueueNumber};
use crate::queue::{InFlight, QueueHeader};
use crate::state::load;
use crate::{TableError, TableReads};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    pub name: QueueName,
    pub create_time: Timestamp,
    /// Items that wait for a receiver.
    pub ready: u64,
    /// Items that a receiver holds.
    pub leased: u64,
}

impl QueueView {
    fn of(header: QueueHeader) -> Self {
        let QueueHeader { name, create_time, ready, leased, .. } = header;
        QueueView { name, create_time, ready, leased }
    }
}

/// A queue's sizes, if there is such a queue.
pub fn queue(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
) -> Result<Option<QueueView>, TableError> {
    let keys = Keys::new(group);
    let number: Option<QueueNumber> = load(reads, &keys.queue_directory(room, name))?;
    let Some(number) = number else { return Ok(None) };
    Ok(named(reads, &keys, room, &keys.queue_header(room, number))?.map(QueueView::of))
}

/// The attempt that a receiver holds an item by, if one does.
pub fn attempt_in_flight(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
    item: u64,
) -> Result<Option<u32>, TableError> {
    let keys = Keys::new(group);
    let number: Option<QueueNumber> = load(reads, &keys.queue_directory(room, name))?;
    let Some(number) = number else { return Ok(None) };
    let in_flight: Option<InFlight> = load(reads, &keys.in_flight(room, number, item))?;
    Ok(in_flight.map(|in_flight| in_flight.attempt))
}

/// Queues of a room after a name, ordered by name; at most `limit`.
pub fn list_queues(
    reads: &(impl TableReads + ?Sized),
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
        if after.as_ref() != Some(&keys.parse_queue_name(&key)?) {
            let header = keys.queue_header(room, QueueNumber::decode(value)?);
            queues.extend(named(reads, &keys, room, &header)?.map(QueueView::of));
        }
    }
    Ok(queues)
}

/// Queues that changed after a revision, each with the revision of its last change, in that order.
pub fn queues_changed(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    after: Revision,
) -> Result<Vec<(Revision, QueueView)>, TableError> {
    let headers = Keys::new(group).queue_headers(room);
    let mut changed = Vec::new();
    for pair in reads.scan(&headers.start, &headers.end) {
        let header = QueueHeader::decode(pair?.1)?;
        if header.changed > after {
            changed.push((header.changed, QueueView::of(header)));
        }
    }
    changed.sort_by_key(|(revision, _)| *revision);
    Ok(changed)
}
