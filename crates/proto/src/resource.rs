//! Resource names: `rooms/{room}` and what lies in a room, and what a session can subscribe to.

use std::fmt;
use std::str::FromStr;

use conclave_types::{DocumentPath, NameError, ParticipantName, QueueName, RoomName};

/// `rooms/{room}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomPath {
    pub room: RoomName,
}

/// `rooms/{room}/queues/{queue}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueuePath {
    pub room: RoomName,
    pub queue: QueueName,
}

/// `rooms/{room}/documents/{path}`; the path may have slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentResource {
    pub room: RoomName,
    pub path: DocumentPath,
}

/// `rooms/{room}/participants/{participant}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantPath {
    pub room: RoomName,
    pub participant: ParticipantName,
}

/// What a session's `Subscribe` may name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubscribedResource {
    /// `rooms/{room}`.
    Room(RoomName),
    /// `rooms/{room}/messages`.
    Messages(RoomName),
    /// `rooms/{room}/ephemeral`.
    Ephemeral(RoomName),
    /// `rooms/{room}/participants`.
    Participants(RoomName),
    /// `rooms/{room}/documents/{path}`.
    Document(RoomName, DocumentPath),
    /// `rooms/{room}/queues/{queue}`.
    Queue(RoomName, QueueName),
}

/// Why a resource name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    #[error("resource must be written as {expected}")]
    Form { expected: &'static str },
    #[error(transparent)]
    Name(#[from] NameError),
}

const ROOM_FORM: &str = "rooms/{room}";
const QUEUE_FORM: &str = "rooms/{room}/queues/{queue}";
const DOCUMENT_FORM: &str = "rooms/{room}/documents/{path}";
const PARTICIPANT_FORM: &str = "rooms/{room}/participants/{participant}";
const SUBSCRIBED_FORM: &str = "rooms/{room}, alone or followed by /messages, /ephemeral, /participants, \
     /documents/{path} or /queues/{queue}";

/// The room that a resource is or lies in: all that routing needs.
pub fn room_of(resource: &str) -> Result<RoomName, ResourceError> {
    Ok(split_room(resource, "rooms/{room} or a resource of a room")?.0)
}

impl FromStr for RoomPath {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        match split_room(text, ROOM_FORM)? {
            (room, None) => Ok(RoomPath { room }),
            (_, Some(_)) => Err(ResourceError::Form { expected: ROOM_FORM }),
        }
    }
}

impl FromStr for QueuePath {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        let (room, queue) = split_child(text, "queues/", QUEUE_FORM)?;
        Ok(QueuePath { room, queue: queue.parse()? })
    }
}

impl FromStr for DocumentResource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        let (room, path) = split_child(text, "documents/", DOCUMENT_FORM)?;
        Ok(DocumentResource { room, path: path.parse()? })
    }
}

impl FromStr for ParticipantPath {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        let (room, participant) = split_child(text, "participants/", PARTICIPANT_FORM)?;
        Ok(ParticipantPath { room, participant: participant.parse()? })
    }
}

impl FromStr for SubscribedResource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        let (room, rest) = split_room(text, SUBSCRIBED_FORM)?;
        match rest {
            None => Ok(SubscribedResource::Room(room)),
            Some("messages") => Ok(SubscribedResource::Messages(room)),
            Some("ephemeral") => Ok(SubscribedResource::Ephemeral(room)),
            Some("participants") => Ok(SubscribedResource::Participants(room)),
            Some(rest) => match (rest.strip_prefix("documents/"), rest.strip_prefix("queues/")) {
                (Some(path), _) => Ok(SubscribedResource::Document(room, path.parse()?)),
                (None, Some(queue)) => Ok(SubscribedResource::Queue(room, queue.parse()?)),
                (None, None) => Err(ResourceError::Form { expected: SUBSCRIBED_FORM }),
            },
        }
    }
}

impl SubscribedResource {
    /// The room it is or lies in.
    pub fn room(&self) -> &RoomName {
        match self {
            SubscribedResource::Room(room)
            | SubscribedResource::Messages(room)
            | SubscribedResource::Ephemeral(room)
            | SubscribedResource::Participants(room)
            | SubscribedResource::Document(room, _)
            | SubscribedResource::Queue(room, _) => room,
        }
    }
}

/// The room, and what follows the name of a collection in it.
fn split_child<'a>(
    text: &'a str,
    collection: &str,
    expected: &'static str,
) -> Result<(RoomName, &'a str), ResourceError> {
    let (room, rest) = split_room(text, expected)?;
    let child = rest.and_then(|rest| rest.strip_prefix(collection)).ok_or(ResourceError::Form { expected })?;
    Ok((room, child))
}

fn split_room<'a>(text: &'a str, expected: &'static str) -> Result<(RoomName, Option<&'a str>), ResourceError> {
    let path = text.strip_prefix("rooms/").ok_or(ResourceError::Form { expected })?;
    let (room, rest) = match path.split_once('/') {
        Some((room, rest)) => (room, Some(rest)),
        None => (path, None),
    };
    Ok((room.parse()?, rest))
}

impl fmt::Display for RoomPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rooms/{}", self.room)
    }
}

impl fmt::Display for QueuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rooms/{}/queues/{}", self.room, self.queue)
    }
}

impl fmt::Display for DocumentResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rooms/{}/documents/{}", self.room, self.path)
    }
}

impl fmt::Display for ParticipantPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rooms/{}/participants/{}", self.room, self.participant)
    }
}

impl fmt::Display for SubscribedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubscribedResource::Room(room) => write!(f, "rooms/{room}"),
            SubscribedResource::Messages(room) => write!(f, "rooms/{room}/messages"),
            SubscribedResource::Ephemeral(room) => write!(f, "rooms/{room}/ephemeral"),
            SubscribedResource::Participants(room) => write!(f, "rooms/{room}/participants"),
            SubscribedResource::Document(room, path) => write!(f, "rooms/{room}/documents/{path}"),
            SubscribedResource::Queue(room, queue) => write!(f, "rooms/{room}/queues/{queue}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_queue_path_survives_its_text(room in "[a-z0-9]{1,63}", queue in "[a-zA-Zäß ]{1,64}") {
            let path = QueuePath { room: room.parse().expect("a room"), queue: queue.parse().expect("a queue") };
            prop_assert_eq!(path.to_string().parse(), Ok(path.clone()));
            prop_assert_eq!(room_of(&path.to_string()), Ok(path.room));
        }

        #[test]
        fn a_document_and_a_participant_survive_their_text(
            room in "[a-z0-9]{1,63}",
            path in "[a-zA-Zäß ]{1,30}(/[a-z ]{1,30}){0,4}",
            participant in "[a-zA-Zäß# ]{1,64}",
        ) {
            let room: RoomName = room.parse().expect("a room");
            let document = DocumentResource { room: room.clone(), path: path.parse().expect("a path") };
            prop_assert_eq!(document.to_string().parse(), Ok(document.clone()));
            prop_assert_eq!(room_of(&document.to_string()), Ok(room.clone()));
            let subscribed = SubscribedResource::Document(document.room.clone(), document.path.clone());
            prop_assert_eq!(document.to_string().parse(), Ok(subscribed));
            let participant = participant.parse().expect("a participant");
            let participant = ParticipantPath { room: room.clone(), participant };
            prop_assert_eq!(participant.to_string().parse(), Ok(participant.clone()));
            prop_assert_eq!(room_of(&participant.to_string()), Ok(room));
        }

        #[test]
        fn what_is_subscribed_to_survives_its_text(rest in "(/(messages|ephemeral|participants|documents/[a-z/.]{1,9}))?") {
            let text = format!("rooms/a{rest}");
            if let Ok(subscribed) = text.parse::<SubscribedResource>() {
                prop_assert_eq!(subscribed.to_string(), text.clone());
                prop_assert_eq!(Ok(subscribed.room().clone()), room_of(&text));
            } else {
                prop_assert!(rest.starts_with("/documents/"), "{text}");
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text: String) {
            if let Ok(path) = text.parse::<QueuePath>() {
                prop_assert_eq!(path.to_string(), text.clone());
            }
            if let Ok(path) = text.parse::<RoomPath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }

    #[test]
    fn a_wrong_form_and_a_wrong_name_are_told_apart() {
        for form in ["", "rooms", "room/a", "queues/a", "/rooms/a"] {
            assert!(matches!(form.parse::<RoomPath>(), Err(ResourceError::Form { .. })), "{form}");
        }
        for form in ["rooms/a", "rooms/a/", "rooms/a/documents/b", "rooms/a/queues"] {
            assert!(matches!(form.parse::<QueuePath>(), Err(ResourceError::Form { .. })), "{form}");
        }
        assert!(matches!("rooms/a/queues/b".parse::<RoomPath>(), Err(ResourceError::Form { .. })));
        assert!(matches!("rooms/A".parse::<RoomPath>(), Err(ResourceError::Name(_))));
        assert!(matches!("rooms/".parse::<RoomPath>(), Err(ResourceError::Name(_))));
        assert!(matches!("rooms/a/queues/b/c".parse::<QueuePath>(), Err(ResourceError::Name(_))));
        for name in ["rooms/a/documents/", "rooms/a/documents//b", "rooms/a/documents/b/", "rooms/a/documents/b/../c"] {
            assert!(matches!(name.parse::<DocumentResource>(), Err(ResourceError::Name(_))), "{name}");
            assert!(matches!(name.parse::<SubscribedResource>(), Err(ResourceError::Name(_))), "{name}");
        }
        for form in ["rooms/a", "rooms/a/documents", "rooms/a/queues/b"] {
            assert!(matches!(form.parse::<DocumentResource>(), Err(ResourceError::Form { .. })), "{form}");
        }
        for form in ["", "rooms", "rooms/a/", "rooms/a/messages/", "rooms/a/queues", "rooms/a/participants/b"] {
            assert!(matches!(form.parse::<SubscribedResource>(), Err(ResourceError::Form { .. })), "{form}");
        }
        for name in ["rooms/a/queues/", "rooms/a/queues/b/c"] {
            assert!(matches!(name.parse::<SubscribedResource>(), Err(ResourceError::Name(_))), "{name}");
        }
        assert!(matches!("rooms/a/participants/b/c".parse::<ParticipantPath>(), Err(ResourceError::Name(_))));
    }
}
