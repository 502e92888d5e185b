//! Claims: who calls, and what they may do. What is not granted is denied.

use std::collections::BTreeSet;

use conclave_types::{ParticipantName, ProjectId, QueueName, RoomName, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub project: ProjectId,
    pub participant: ParticipantName,
    pub rooms: OpenRooms,
    pub rights: Rights,
    /// The end of the participant's token.
    pub expires: Timestamp,
}

/// Which rooms of the project the claims open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenRooms {
    All,
    One(RoomName),
}

/// What the participant may do in the rooms that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Everything below, whatever it says.
    pub admin: bool,
    pub rooms: RoomRights,
    pub queues: QueueRights,
}

/// Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomRights {
    pub read: bool,
    /// Create, update and delete.
    pub write: bool,
    pub list: bool,
}

/// Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueRights {
    pub send: Queues,
    /// Receive and acknowledge.
    pub receive: Queues,
    /// Read and list queues with their sizes.
    pub list: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Queues {
    #[default]
    None,
    All,
    Only(BTreeSet<QueueName>),
}

impl Rights {
    /// May do everything.
    pub fn admin() -> Rights {
        Rights { admin: true, ..Rights::default() }
    }
}

impl Claims {
    /// The claims are about this room, or about every room. Says nothing about what may be done in it.
    pub fn open_room(&self, room: &RoomName) -> bool {
        match &self.rooms {
            OpenRooms::All => true,
            OpenRooms::One(open) => open == room,
        }
    }

    /// Scope `rooms.read`.
    pub fn may_read_rooms(&self) -> bool {
        self.rights.admin || self.rights.rooms.read
    }

    /// Scope `rooms.write`.
    pub fn may_write_rooms(&self) -> bool {
        self.rights.admin || self.rights.rooms.write
    }

    /// Scope `rooms.list`. A participant of one room has no list of rooms.
    pub fn may_list_rooms(&self) -> bool {
        self.rooms == OpenRooms::All && (self.rights.admin || self.rights.rooms.list)
    }

    /// Scope `queues.send`.
    pub fn may_send(&self, queue: &QueueName) -> bool {
        self.rights.admin || self.rights.queues.send.hold(queue)
    }

    /// Scope `queues.receive`.
    pub fn may_receive(&self, queue: &QueueName) -> bool {
        self.rights.admin || self.rights.queues.receive.hold(queue)
    }

    /// Scope `queues.list`.
    pub fn may_list_queues(&self) -> bool {
        self.rights.admin || self.rights.queues.list
    }
}

impl Queues {
    fn hold(&self, queue: &QueueName) -> bool {
        match self {
            Queues::None => false,
            Queues::All => true,
            Queues::Only(names) => names.contains(queue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(rooms: OpenRooms, rights: Rights) -> Claims {
        Claims {
            project: "acme".parse().expect("a project"),
            participant: "ada".parse().expect("a participant"),
            rooms,
            rights,
            expires: Timestamp(1),
        }
    }

    #[test]
    fn what_is_not_granted_is_denied() {
        let queue = "jobs".parse().expect("a queue");
        let nothing = claims(OpenRooms::All, Rights::default());
        assert!(!nothing.may_read_rooms() && !nothing.may_write_rooms() && !nothing.may_list_rooms());
        assert!(!nothing.may_send(&queue) && !nothing.may_receive(&queue) && !nothing.may_list_queues());
    }

    #[test]
    fn an_admin_may_do_everything_but_only_in_open_rooms() {
        let (mine, other): (RoomName, RoomName) = ("mine".parse().expect("a room"), "other".parse().expect("a room"));
        let admin = claims(OpenRooms::One(mine.clone()), Rights::admin());
        assert!(admin.may_write_rooms() && admin.may_send(&"jobs".parse().expect("a queue")));
        assert!(admin.open_room(&mine) && !admin.open_room(&other) && !admin.may_list_rooms());
    }

    #[test]
    fn named_queues_are_exact_names() {
        let only = Queues::Only(BTreeSet::from(["jobs".parse().expect("a queue")]));
        let rights = Rights { queues: QueueRights { send: only, ..Default::default() }, ..Default::default() };
        let claims = claims(OpenRooms::All, rights);
        assert!(claims.may_send(&"jobs".parse().expect("a queue")));
        assert!(!claims.may_send(&"jobs2".parse().expect("a queue")));
        assert!(!claims.may_receive(&"jobs".parse().expect("a queue")));
    }
}
