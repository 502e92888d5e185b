//! Removes the data of a deleted room, one step at a time.
//!
//! A step that does not finish puts itself behind all that is due by now, so that a large room does not hold up the
//! leases of others. The header goes last: while it stands, the room's uid is known to be deleting.
//! What the replica holds of documents in its own form is not looked at: it goes by [`crate::local::sweep`].
//! Invariant: when the header is gone, no replicated key and no due entry of the room is left.

use conclave_types::{RoomUid, Timestamp};

use crate::advance::Budget;
use crate::codec::Record;
use crate::document::delete::DroppedDocument;
use crate::keys::{Due, Keys, QueueNumber, QueueTimer, Tag};
use crate::message::MessageLog;
use crate::queue::QueueHeader;
use crate::session::SessionRecord;
use crate::state::State;
use crate::{TableError, TableReads, Tables};

/// Most keys of one room removed by one `Advance`: a quarter of its usual limit is left to others.
const STEP_KEYS: usize = 384;
/// Most bytes of values that one step reads over.
const STEP_BYTES: usize = 4 << 20;

pub(crate) fn purge(
    state: &mut State<'_>,
    deadline: Timestamp,
    room: RoomUid,
    budget: &mut Budget,
) -> Result<(), TableError> {
    state.unschedule(deadline, &Due::Purge(room));
    let (doomed, is_last) = next_step(state, room, budget.left().min(STEP_KEYS))?;
    budget.spend(doomed.len());
    for (key, due) in doomed {
        state.overlay.delete(key);
        for (deadline, due) in due {
            state.unschedule(deadline, &due);
        }
    }
    if is_last {
        state.set_room(room, None);
    } else {
        state.schedule(state.clock(), &Due::Purge(room));
    }
    Ok(())
}

/// A key to remove, and the due entries that its record owns.
type Doomed = (Vec<u8>, Vec<(Timestamp, Due)>);

fn next_step(state: &State<'_>, room: RoomUid, most: usize) -> Result<(Vec<Doomed>, bool), TableError> {
    let range = state.keys.room_data(room);
    let (mut doomed, mut bytes) = (Vec::new(), 0);
    for pair in state.overlay.scan(&range.start, &range.end) {
        if doomed.len() >= most || bytes >= STEP_BYTES {
            return Ok((doomed, false));
        }
        let (key, value) = pair?;
        bytes += value.len();
        let due = owned_due_entries(&state.keys, room, &key, value)?;
        doomed.push((key.into(), due));
    }
    Ok((doomed, true))
}

fn owned_due_entries(
    keys: &Keys,
    room: RoomUid,
    key: &[u8],
    value: bytes::Bytes,
) -> Result<Vec<(Timestamp, Due)>, TableError> {
    let (tag, rest) = keys.parse_room_data(key)?;
    if tag == Tag::Session as u8 {
        let record = SessionRecord::decode(value)?;
        let id = rest.try_into().map_err(|_| crate::codec::damaged(SessionRecord::NAME, "key"))?;
        return Ok(vec![(record.due, Due::Session(room, conclave_types::SessionId(id)))]);
    }
    if tag == Tag::MessageLog as u8 {
        return Ok(MessageLog::decode(value)?.due.map(|due| (due, Due::Trim(room))).into_iter().collect());
    }
    if tag == Tag::DroppedDocument as u8 {
        let dropped = DroppedDocument::decode(value)?;
        return Ok(vec![(dropped.due, Due::Dropped(room, keys.parse_document_number(key)?))]);
    }
    if tag == Tag::QueueHeader as u8 {
        let header = QueueHeader::decode(value)?;
        let number = rest.try_into().map_err(|_| crate::codec::damaged(QueueHeader::NAME, "key"))?;
        let queue = QueueNumber(u32::from_be_bytes(number));
        let due = |(timer, at): (QueueTimer, Option<Timestamp>)| Some((at?, Due::Queue(timer, room, queue)));
        return Ok(QueueTimer::ALL.into_iter().zip(header.timers).filter_map(due).collect());
    }
    Ok(Vec::new())
}
