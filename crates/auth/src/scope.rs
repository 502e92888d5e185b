//! The `api` grant of a token as JSON, as MeshAgent's tokens carry it, and beside it our section `rooms` and our right
//! `messaging.read`.
//!
//! A section that is absent is denied; inside one that is present a list of names or paths that is absent or null means
//! all.
//! Sections of features that this version does not have are passed over.

use std::collections::BTreeSet;

use conclave_types::QueueName;
use serde::{Deserialize, Serialize};

use crate::claims::{MessagingRights, QueueRights, Queues, Rights, RoomRights, SyncPath, SyncRights};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ApiScope {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    rooms: Option<RoomsSection>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    queues: Option<QueuesSection>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    messaging: Option<MessagingSection>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sync: Option<SyncSection>,
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
struct MessagingSection {
    #[serde(default = "granted")]
    broadcast: bool,
    #[serde(default = "granted")]
    list: bool,
    #[serde(default = "granted")]
    send: bool,
    #[serde(default = "granted")]
    read: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SyncSection {
    #[serde(default)]
    paths: Option<Vec<PathGrant>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PathGrant {
    path: String,
    #[serde(default)]
    read_only: bool,
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
        let messaging = self.messaging.as_ref().map(|section| MessagingRights {
            broadcast: section.broadcast,
            list: section.list,
            send: section.send,
            read: section.read,
        });
        Some(Rights {
            admin: self.admin.is_some(),
            rooms: rooms.unwrap_or_default(),
            queues,
            messaging: messaging.unwrap_or_default(),
            sync: self.sync.as_ref().map(paths_of).unwrap_or_default(),
        })
    }

    pub(crate) fn of(rights: &Rights) -> ApiScope {
        let RoomRights { read, write, list } = rights.rooms;
        let MessagingRights { broadcast, list: participants, send, read: receive } = rights.messaging;
        ApiScope {
            rooms: Some(RoomsSection { read, write, list }),
            queues: (rights.queues != QueueRights::default()).then(|| QueuesSection {
                send: names_of(&rights.queues.send),
                receive: names_of(&rights.queues.receive),
                list: rights.queues.list,
            }),
            messaging: (rights.messaging != MessagingRights::default()).then_some(MessagingSection {
                broadcast,
                list: participants,
                send,
                read: receive,
            }),
            sync: section_of(&rights.sync),
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

fn paths_of(section: &SyncSection) -> SyncRights {
    let granted = |grant: &PathGrant| SyncPath { pattern: grant.path.as_str().into(), read_only: grant.read_only };
    match &section.paths {
        None => SyncRights::All,
        Some(paths) => SyncRights::Paths(paths.iter().map(granted).collect()),
    }
}

fn section_of(sync: &SyncRights) -> Option<SyncSection> {
    let grant = |granted: &SyncPath| PathGrant { path: granted.pattern.to_string(), read_only: granted.read_only };
    match sync {
        SyncRights::None => None,
        SyncRights::All => Some(SyncSection { paths: None }),
        SyncRights::Paths(paths) => Some(SyncSection { paths: Some(paths.iter().map(grant).collect()) }),
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
        let messaging = rights(r#"{"messaging": {}}"#);
        assert_eq!(messaging.messaging, MessagingRights { broadcast: true, list: true, send: true, read: true });
        assert_eq!(messaging.sync, SyncRights::None);
        for all in [r#"{"sync": {}}"#, r#"{"sync": {"paths": null}}"#] {
            assert_eq!(rights(all), Rights { sync: SyncRights::All, ..Default::default() });
        }
        assert!(rights(r#"{"admin": {"config": true}}"#).admin);
    }

    #[test]
    fn lists_of_names_bound_a_section() {
        let rights =
            rights(r#"{"queues": {"send": ["a", "b"], "receive": [], "list": false}, "storage": {"paths": 1}}"#);
        let names = ["a", "b"].map(|name| name.parse().expect("a queue"));
        assert_eq!(rights.queues.send, Queues::Only(BTreeSet::from(names)));
        assert_eq!((rights.queues.receive, rights.queues.list), (Queues::None, false));
    }

    #[test]
    fn messaging_and_paths_are_read_as_they_are_written() {
        let rights = rights(
            r#"{"messaging": {"broadcast": false, "read": false},
                "sync": {"paths": [{"path": "a", "read_only": true}, {"path": "b/*"}]}}"#,
        );
        assert_eq!(rights.messaging, MessagingRights { broadcast: false, list: true, send: true, read: false });
        let granted = |path: &str, read_only| SyncPath { pattern: path.into(), read_only };
        assert_eq!(rights.sync, SyncRights::Paths(vec![granted("a", true), granted("b/*", false)]));
        assert_eq!(ApiScope::of(&rights).rights(), Some(rights));
    }

    #[test]
    fn every_way_to_grant_documents_survives_its_json() {
        let some = vec![SyncPath { pattern: "a*".into(), read_only: true }];
        for sync in [SyncRights::None, SyncRights::All, SyncRights::Paths(vec![]), SyncRights::Paths(some)] {
            let rights = Rights { sync, ..Default::default() };
            let json = serde_json::to_string(&ApiScope::of(&rights)).expect("plain JSON");
            assert_eq!(self::rights(&json), rights, "{json}");
        }
    }

    #[test]
    fn a_scope_with_an_impossible_name_is_none() {
        let scope: ApiScope = serde_json::from_str(r#"{"queues": {"send": ["a/b"]}}"#).expect("a scope");
        assert_eq!(scope.rights(), None);
    }
}
