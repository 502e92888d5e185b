//! The room's log.

use bytes::Bytes;
use conclave_types::{GroupId, ParticipantName, Revision, RoomUid, SessionId, Timestamp};

use crate::codec::Record;
use crate::keys::Keys;
use crate::message::{MessageLog, MessageRecord};
use crate::state::load;
use crate::{MessageRetention, TableError, TableReads};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub revision: Revision,
    pub time: Timestamp,
    pub sender: ParticipantName,
    /// The session that posted it, if one did.
    pub session: Option<SessionId>,
    /// `NewMessage` as the client sent it.
    pub message: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLogView {
    /// Messages that are kept, and their bytes.
    pub count: u64,
    pub bytes: u64,
    /// Messages up to here are gone, those after it are kept; 0 when none is gone.
    pub trimmed_to: Revision,
    /// The revision of the newest message; 0 before the first.
    pub last: Revision,
    pub retention: MessageRetention,
}

/// Messages after a revision, oldest first: at most `limit`, and none more once `max_bytes` are reached; one at least
/// if there is any. What [`message_log`] calls trimmed is left out without a word.
pub fn messages(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    after: Revision,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<StoredMessage>, TableError> {
    let keys = Keys::new(group);
    // Messages up to there are deleted: a scan would pass over the marks of all of them.
    let after = after.max(log(reads, &keys, room)?.trimmed_to);
    let range = keys.messages_after(room, after);
    let (mut messages, mut bytes) = (Vec::new(), 0usize);
    for pair in reads.scan(&range.start, &range.end).take(limit.max(1)) {
        let (key, value) = pair?;
        bytes = bytes.saturating_add(value.len());
        if bytes > max_bytes && !messages.is_empty() {
            break;
        }
        let MessageRecord { time, sender, session, message } = MessageRecord::decode(value)?;
        messages.push(StoredMessage { revision: Keys::parse_revision(&key)?, time, sender, session, message });
    }
    Ok(messages)
}

/// What the room's log holds, and where it begins.
pub fn message_log(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
) -> Result<MessageLogView, TableError> {
    let MessageLog { count, bytes, trimmed_to, last, retention, .. } = log(reads, &Keys::new(group), room)?;
    Ok(MessageLogView { count, bytes, trimmed_to, last, retention })
}

fn log(reads: &(impl TableReads + ?Sized), keys: &Keys, room: RoomUid) -> Result<MessageLog, TableError> {
    Ok(load(reads, &keys.message_log(room))?.unwrap_or_default())
}
