//! Claims: who calls, and what they may do. What is not granted is denied.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use conclave_types::{DocumentPath, ParticipantName, ProjectId, QueueName, RoomName, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub project: ProjectId,
    pub participant: ParticipantName,
    /// What the participant is, unless it says otherwise when it attaches.
    pub role: Role,
    pub rooms: OpenRooms,
    pub rights: Rights,
    /// The end of the participant's token.
    pub expires: Timestamp,
}

/// What a participant is. Opens and closes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    User,
    Agent,
    Tool,
}

/// Not one of the roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("role must be user, agent or tool")]
pub struct UnknownRole;

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
    pub messaging: MessagingRights,
    pub sync: SyncRights,
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

/// Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessagingRights {
    /// Send to everybody, on either lane.
    pub broadcast: bool,
    /// See who is attached.
    pub list: bool,
    /// Send to named participants.
    pub send: bool,
    /// Follow the room's log and receive ephemeral messages.
    pub read: bool,
}

/// Which documents may be opened and edited. None by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SyncRights {
    #[default]
    None,
    All,
    /// The first that matches decides; what none matches is denied.
    Paths(Vec<SyncPath>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPath {
    pub pattern: PathPattern,
    pub read_only: bool,
}

/// Paths as a grant writes them: exact, or with `*` at the end for all that begin so. Compared as text: a pattern that is
/// no canonical path matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    Exact(String),
    Prefix(String),
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Agent => "agent",
            Role::Tool => "tool",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Role::User, Role::Agent, Role::Tool].into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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

    /// Scope `messaging.broadcast`.
    pub fn may_broadcast(&self) -> bool {
        self.rights.admin || self.rights.messaging.broadcast
    }

    /// Scope `messaging.list`.
    pub fn may_list_participants(&self) -> bool {
        self.rights.admin || self.rights.messaging.list
    }

    /// Scope `messaging.send`.
    pub fn may_send_messages(&self) -> bool {
        self.rights.admin || self.rights.messaging.send
    }

    /// Scope `messaging.read`.
    pub fn may_read_messages(&self) -> bool {
        self.rights.admin || self.rights.messaging.read
    }

    /// Scope `sync` for this path.
    pub fn may_open(&self, path: &DocumentPath) -> bool {
        self.rights.admin || self.rights.sync.access(path).is_some()
    }

    /// Scope `sync` for at least one path.
    pub fn may_open_some(&self) -> bool {
        self.rights.admin
            || match &self.rights.sync {
                SyncRights::None => false,
                SyncRights::All => true,
                SyncRights::Paths(paths) => !paths.is_empty(),
            }
    }

    /// Scope `sync` for this path, and not read-only. Creating, renaming and deleting are edits.
    pub fn may_edit(&self, path: &DocumentPath) -> bool {
        self.rights.admin || self.rights.sync.access(path) == Some(Access::Edit)
    }
}

/// What may be done with a document that may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Edit,
}

impl SyncRights {
    fn access(&self, path: &DocumentPath) -> Option<Access> {
        match self {
            SyncRights::None => None,
            SyncRights::All => Some(Access::Edit),
            SyncRights::Paths(paths) => {
                let decides = paths.iter().find(|granted| granted.pattern.matches(path))?;
                Some(if decides.read_only { Access::Read } else { Access::Edit })
            }
        }
    }
}

impl PathPattern {
    fn matches(&self, path: &DocumentPath) -> bool {
        match self {
            PathPattern::Exact(exact) => path.as_str() == exact,
            PathPattern::Prefix(prefix) => path.as_str().starts_with(prefix),
        }
    }
}

impl From<&str> for PathPattern {
    fn from(text: &str) -> PathPattern {
        match text.strip_suffix('*') {
            Some(prefix) => PathPattern::Prefix(prefix.to_owned()),
            None => PathPattern::Exact(text.to_owned()),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Exact(exact) => f.write_str(exact),
            PathPattern::Prefix(prefix) => write!(f, "{prefix}*"),
        }
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
            role: Role::User,
            rooms,
            rights,
            expires: Timestamp(1),
        }
    }

    fn path(text: &str) -> DocumentPath {
        text.parse().expect("a path")
    }

    fn syncing(paths: &[(&str, bool)]) -> Claims {
        let granted = |(text, read_only): &(&str, bool)| SyncPath { pattern: (*text).into(), read_only: *read_only };
        let sync = SyncRights::Paths(paths.iter().map(granted).collect());
        claims(OpenRooms::All, Rights { sync, ..Default::default() })
    }

    #[test]
    fn what_is_not_granted_is_denied() {
        let queue = "jobs".parse().expect("a queue");
        let nothing = claims(OpenRooms::All, Rights::default());
        assert!(!nothing.may_read_rooms() && !nothing.may_write_rooms() && !nothing.may_list_rooms());
        assert!(!nothing.may_send(&queue) && !nothing.may_receive(&queue) && !nothing.may_list_queues());
        assert!(!nothing.may_broadcast() && !nothing.may_list_participants());
        assert!(!nothing.may_send_messages() && !nothing.may_read_messages());
        assert!(!nothing.may_open(&path("notes/a")) && !nothing.may_edit(&path("notes/a")));
    }

    #[test]
    fn an_admin_may_do_everything_but_only_in_open_rooms() {
        let (mine, other): (RoomName, RoomName) = ("mine".parse().expect("a room"), "other".parse().expect("a room"));
        let admin = claims(OpenRooms::One(mine.clone()), Rights::admin());
        assert!(admin.may_write_rooms() && admin.may_send(&"jobs".parse().expect("a queue")));
        assert!(admin.may_broadcast() && admin.may_list_participants());
        assert!(admin.may_send_messages() && admin.may_read_messages());
        assert!(admin.may_open(&path("notes/a")) && admin.may_edit(&path("notes/a")));
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

    #[test]
    fn messaging_rights_are_apart() {
        let messaging = MessagingRights { send: true, ..Default::default() };
        let sender = claims(OpenRooms::All, Rights { messaging, ..Default::default() });
        assert!(sender.may_send_messages() && !sender.may_broadcast());
        assert!(!sender.may_read_messages() && !sender.may_list_participants());
    }

    #[test]
    fn the_first_path_that_matches_decides() {
        let claims = syncing(&[("notes/private", true), ("notes/*", false), ("*", true)]);
        for (text, edits) in [("notes/private", false), ("notes/private/a", true), ("notes/b", true), ("other", false)]
        {
            assert_eq!((claims.may_open(&path(text)), claims.may_edit(&path(text))), (true, edits), "{text}");
        }
        let shadowed = syncing(&[("notes/*", true), ("notes/mine", false)]);
        assert!(shadowed.may_open(&path("notes/mine")) && !shadowed.may_edit(&path("notes/mine")));
    }

    #[test]
    fn a_path_is_exact_unless_it_ends_in_a_star() {
        let claims = syncing(&[("notes", false), ("a*b", false), ("log/2*", false)]);
        for text in ["notes", "a*b", "log/2", "log/2024/x"] {
            assert!(claims.may_edit(&path(text)), "{text}");
        }
        for text in ["notes/a", "Notes", "note", "axb", "log/1", "log"] {
            assert!(!claims.may_open(&path(text)), "{text}");
        }
    }

    #[test]
    fn all_documents_and_none() {
        let all = claims(OpenRooms::All, Rights { sync: SyncRights::All, ..Default::default() });
        assert!(all.may_open(&path("a")) && all.may_edit(&path("a")) && all.may_open_some());
        let none = syncing(&[]);
        assert!(!none.may_open(&path("a")) && !none.may_edit(&path("a")) && !none.may_open_some());
        assert!(syncing(&[("a", true)]).may_open_some());
        assert!(claims(OpenRooms::All, Rights::admin()).may_open_some());
        assert!(!claims(OpenRooms::All, Rights::default()).may_open_some());
    }

    #[test]
    fn roles_survive_their_text() {
        for role in [Role::User, Role::Agent, Role::Tool] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for text in ["", "User", "admin"] {
            assert_eq!(text.parse::<Role>(), Err(UnknownRole));
        }
    }
}
