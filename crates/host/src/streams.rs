//! The session streams attached to one leadership, so that each can be told to end.

use std::collections::HashMap;

use conclave_types::{AttachmentNumber, RoomUid, SessionId};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Why a stream is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// A newer attachment of the session exists.
    Superseded,
    RoomDeleted,
}

#[derive(Debug)]
struct Attached {
    room: RoomUid,
    attachment: AttachmentNumber,
    end: watch::Sender<Option<EndReason>>,
}

#[derive(Debug, Default)]
pub struct Streams {
    attached: Mutex<HashMap<SessionId, Attached>>,
}

impl Streams {
    /// Adds a stream. An older one of the same session is ended; a newer one ends this one at once.
    pub fn join(
        &self,
        session: SessionId,
        room: RoomUid,
        attachment: AttachmentNumber,
    ) -> watch::Receiver<Option<EndReason>> {
        let (end, ended) = watch::channel(None);
        let mut attached = self.attached.lock();
        match attached.get(&session) {
            Some(present) if present.attachment > attachment => {
                end.send_replace(Some(EndReason::Superseded));
            }
            _ => {
                let older = attached.insert(session, Attached { room, attachment, end });
                if let Some(older) = older {
                    older.end.send_replace(Some(EndReason::Superseded));
                }
            }
        }
        ended
    }

    /// Takes a stream out that ended by itself. If it was the session's newest, `left` runs before a newer one can join:
    /// an older stream says nothing about where the session is now.
    pub fn leave(&self, session: SessionId, attachment: AttachmentNumber, left: impl FnOnce()) {
        let mut attached = self.attached.lock();
        if attached.get(&session).is_some_and(|present| present.attachment == attachment) {
            attached.remove(&session);
            left();
        }
    }

    /// Ends a stream that is older than this attachment.
    pub fn supersede(&self, session: SessionId, attachment: AttachmentNumber) {
        let mut attached = self.attached.lock();
        if attached.get(&session).is_some_and(|present| present.attachment < attachment)
            && let Some(older) = attached.remove(&session)
        {
            older.end.send_replace(Some(EndReason::Superseded));
        }
    }

    /// Ends all streams of a room.
    pub fn end_room(&self, room: RoomUid) {
        self.attached.lock().retain(|_, stream| {
            let stays = stream.room != room;
            if !stays {
                stream.end.send_replace(Some(EndReason::RoomDeleted));
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_types::{RoomNumber, Slot};

    const SESSION: SessionId = SessionId([1; 16]);
    const ROOM: RoomUid = RoomUid { slot: Slot(1), number: RoomNumber(1) };

    #[test]
    fn a_newer_attachment_ends_the_older_stream() {
        let streams = Streams::default();
        let older = streams.join(SESSION, ROOM, AttachmentNumber(1));
        let newer = streams.join(SESSION, ROOM, AttachmentNumber(2));
        assert_eq!(*older.borrow(), Some(EndReason::Superseded));
        assert_eq!(*newer.borrow(), None);
    }

    #[test]
    fn an_older_attachment_that_arrives_late_ends_itself() {
        let streams = Streams::default();
        let newer = streams.join(SESSION, ROOM, AttachmentNumber(2));
        let older = streams.join(SESSION, ROOM, AttachmentNumber(1));
        assert_eq!(*older.borrow(), Some(EndReason::Superseded));
        assert_eq!(*newer.borrow(), None);
    }

    #[test]
    fn the_stream_of_the_attachment_itself_is_not_superseded() {
        let streams = Streams::default();
        let stream = streams.join(SESSION, ROOM, AttachmentNumber(2));
        streams.supersede(SESSION, AttachmentNumber(2));
        assert_eq!(*stream.borrow(), None);
        streams.supersede(SESSION, AttachmentNumber(3));
        assert_eq!(*stream.borrow(), Some(EndReason::Superseded));
    }

    #[test]
    fn only_the_newest_attachment_leaves_for_its_session() {
        let streams = Streams::default();
        let leaves = |attachment| {
            let mut left = false;
            streams.leave(SESSION, AttachmentNumber(attachment), || left = true);
            left
        };
        let _older = streams.join(SESSION, ROOM, AttachmentNumber(1));
        streams.supersede(SESSION, AttachmentNumber(2));
        assert!(!leaves(1), "the session was taken up by a stream that has not joined yet");
        let _newer = streams.join(SESSION, ROOM, AttachmentNumber(2));
        assert!(!leaves(1));
        assert!(leaves(2));
        assert!(!leaves(2), "once");
    }

    #[test]
    fn only_the_deleted_rooms_streams_end() {
        let streams = Streams::default();
        let other_room = RoomUid { number: RoomNumber(2), ..ROOM };
        let gone = streams.join(SESSION, ROOM, AttachmentNumber(1));
        let stays = streams.join(SessionId([2; 16]), other_room, AttachmentNumber(1));
        streams.end_room(ROOM);
        assert_eq!(*gone.borrow(), Some(EndReason::RoomDeleted));
        assert_eq!(*stays.borrow(), None);
    }
}
