//! Removes messages that exceed what the room keeps, oldest first, one step at a time.
//!
//! A step that does not finish puts itself behind all that is due by now. Nothing that participants follow changes, so
//! this is no revision: a reader sees by `trimmed_to` what it can no longer have.

use conclave_types::{RoomUid, Timestamp};

use super::{MessageLog, MessageRecord, SPACING_MS};
use crate::advance::Budget;
use crate::codec::{Record, damaged};
use crate::keys::Keys;
use crate::state::State;
use crate::{TableError, TableReads, Tables};

/// Most messages of one room removed by one `Advance`, as many as it usually may.
const STEP_MESSAGES: usize = 512;
/// Most bytes of messages that one step reads over.
const STEP_BYTES: usize = 4 << 20;

pub(crate) fn trim(
    state: &mut State<'_>,
    deadline: Timestamp,
    room: RoomUid,
    budget: &mut Budget,
) -> Result<(), TableError> {
    let mut log = state.message_log(room)?;
    if log.due != Some(deadline) {
        return Err(damaged("due index", "a message log is due at another time"));
    }
    let doomed = next_step(state, room, &mut log, budget.left().min(STEP_MESSAGES))?;
    budget.spend(doomed.len().max(1));
    doomed.into_iter().for_each(|key| state.overlay.delete(key));

    let clock = state.clock();
    let look_at = log.look_at(clock, if log.exceeds(clock) { 0 } else { SPACING_MS });
    log.set_due(state, room, look_at);
    state.set_message_log(room, log);
    Ok(())
}

/// Takes messages out of the log until it exceeds nothing any more, or the step is large enough; returns their keys.
fn next_step(state: &State<'_>, room: RoomUid, log: &mut MessageLog, most: usize) -> Result<Vec<Vec<u8>>, TableError> {
    let (range, clock) = (state.keys.messages_after(room, log.trimmed_to), state.clock());
    let (mut doomed, mut bytes) = (Vec::new(), 0);
    for pair in state.overlay.scan(&range.start, &range.end) {
        let (key, value) = pair?;
        let record = MessageRecord::decode(value)?;
        log.oldest = record.time;
        if doomed.len() >= most || bytes >= STEP_BYTES || !log.exceeds(clock) {
            break;
        }
        bytes += record.message.len();
        log.trimmed_to = Keys::parse_revision(&key)?;
        let left = log.count.checked_sub(1).zip(log.bytes.checked_sub(record.message.len() as u64));
        (log.count, log.bytes) = left.ok_or_else(|| damaged(MessageLog::NAME, "it counts fewer than are stored"))?;
        doomed.push(key.into());
    }
    Ok(doomed)
}
