//! The `api` grant of a token as JSON, as MeshAgent's tokens carry it, and our section `rooms` beside it.
//!
//! A section that is absent is denied; inside one that is present a list of names that is absent or null means all.
//! Sections of features that this version does not have are passed over.

use std::collections::BTreeSet;

use conclave_types::QueueName;
use serde::{Deserialize, Serialize};

use crate::claims::{QueueRights, Queues, Rights, RoomRights};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ApiScope {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    rooms: Option<RoomsSection>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    queues: Option<QueuesSection>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    admin: Option<AdminSection>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RoomsSection {
    #[serde(default = "granted")]
    read: bool,
    #[serde(default)]
    write: bool,
    #[serde(default = "granted")]
    list: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct QueuesSection {
    #[serde(default)]
    send: Option<Vec<String>>,
    #[serde(default)]
    receive: Option<Vec<String>>,
    #[serde(default = "granted")]
    list: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct AdminSection {}

fn granted() -> bool {
    true
}

impl ApiScope {
    /// None when a queue's name is not one: such a token was made wrongly, and guessing would widen or narrow it.
    pub(crate) fn rights(&self) -> Option<Rights> {
        let rooms = self.rooms.as_ref().map(|section| RoomRights {
            read: section.read,
            write: section.write,
            list: section.list,
        });
        let queues = match &self.queues {
            None => QueueRights::default(),
            Some(section) => QueueRights {
                send: queues_of(section.send.as_deref())?,
                receive: queues_of(section.receive.as_deref())?,
                list: section.list,
            },
        };
        Some(Rights { admin: self.admin.is_some(), rooms: rooms.unwrap_or_default(), queues })
    }

    pub(crate) fn of(rights: &Rights) -> ApiScope {
        let RoomRights { read, write, list } = rights.rooms;
        ApiScope {
            rooms: Some(RoomsSection { read, write, list }),
            queues: (rights.queues != QueueRights::default()).then(|| QueuesSection {
                send: names_of(&rights.queues.send),
                receive: names_of(&rights.queues.receive),
                list: rights.queues.list,
            }),
            admin: rights.admin.then_some(AdminSection {}),
        }
    }
}

fn queues_of(names: Option<&[String]>) -> Option<Queues> {
    match names {
        None => Some(Queues::All),
        Some([]) => Some(Queues::None),
        Some(names) => {
            let parsed: Result<BTreeSet<QueueName>, _> = names.iter().map(|name| name.parse()).collect();
            parsed.ok().map(Queues::Only)
        }
    }
}

fn names_of(queues: &Queues) -> Option<Vec<String>> {
    match queues {
        Queues::All => None,
        Queues::None => Some(Vec::new()),
        Queues::Only(names) => Some(names.iter().map(QueueName::to_string).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(json: &str) -> Rights {
        let scope: ApiScope = serde_json::from_str(json).expect("a scope");
        scope.rights().expect("valid names")
    }

    #[test]
    fn an_absent_section_is_denied_and_an_empty_one_has_its_defaults() {
        assert_eq!(rights("{}"), Rights::default());
        let rooms = rights(r#"{"rooms": {}}"#);
        assert_eq!(rooms.rooms, RoomRights { read: true, write: false, list: true });
        assert_eq!(rooms.queues, QueueRights::default());
        let queues = rights(r#"{"queues": {}}"#);
        assert_eq!(queues.queues, QueueRights { send: Queues::All, receive: Queues::All, list: true });
        assert!(rights(r#"{"admin": {"config": true}}"#).admin);
    }

    #[test]
    fn lists_of_names_bound_a_section() {
        let rights =
            rights(r#"{"queues": {"send": ["a", "b"], "receive": [], "list": false}, "messaging": {"send": 1}}"#);
        let names = ["a", "b"].map(|name| name.parse().expect("a queue"));
        assert_eq!(rights.queues.send, Queues::Only(BTreeSet::from(names)));
        assert_eq!((rights.queues.receive, rights.queues.list), (Queues::None, false));
    }

    #[test]
    fn a_scope_with_an_impossible_name_is_none() {
        let scope: ApiScope = serde_json::from_str(r#"{"queues": {"send": ["a/b"]}}"#).expect("a scope");
        assert_eq!(scope.rights(), None);
    }
}
