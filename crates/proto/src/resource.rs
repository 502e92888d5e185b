//! Resource names: `rooms/{room}` and `rooms/{room}/queues/{queue}`.

use std::fmt;
use std::str::FromStr;

use conclave_types::{NameError, QueueName, RoomName};

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
        let (room, rest) = split_room(text, QUEUE_FORM)?;
        let queue = rest.and_then(|rest| rest.strip_prefix("queues/"));
        let queue = queue.ok_or(ResourceError::Form { expected: QUEUE_FORM })?.parse()?;
        Ok(QueuePath { room, queue })
    }
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
    }
}
