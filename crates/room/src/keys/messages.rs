//! Keys of a room's log.

use std::ops::Range;

use conclave_types::{Revision, RoomUid};

use super::{Keys, Tag, behind};

impl Keys {
    pub fn message_log(&self, room: RoomUid) -> Vec<u8> {
        self.room(room, Tag::MessageLog, 0)
    }

    pub fn message(&self, room: RoomUid, revision: Revision) -> Vec<u8> {
        self.by_revision(room, Tag::Message, revision)
    }

    /// Messages with revisions above `after`.
    pub fn messages_after(&self, room: RoomUid, after: Revision) -> Range<Vec<u8>> {
        behind(self.message(room, after))..self.all_of(room, Tag::Message).end
    }
}
