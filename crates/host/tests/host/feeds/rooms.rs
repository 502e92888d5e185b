//! A room's transcript: what followers are told live, and what storage tells those who come later, is the same.

use std::collections::BTreeMap;

use conclave_auth::{Claims, PathPattern, Rights, SyncPath, SyncRights};
use conclave_document::Replica;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason, watch_room_response};
use conclave_types::YjsClient;
use tokio::time::timeout;

use super::{JOBS, LAB, post};
use crate::calls::{Caller, Stream, refusal, send};
use crate::cluster::{Cluster, ONE_HOST, PATIENCE};

const STEPS: u64 = 400;

/// Documents of the room as their author sees them.
#[derive(Default)]
struct Author {
    documents: BTreeMap<String, Replica>,
    made: u64,
}

impl Author {
    /// Something at random, and the frame for it.
    fn step(&mut self, random: &mut impl FnMut(u64) -> u64) -> Asked {
        let known = self.documents.keys().nth(random(self.documents.len().max(1) as u64) as usize).cloned();
        match (random(10), known) {
            (0 | 1, _) => post(format!("message {}", random(1_000))),
            (2, _) => send(JOBS, "work"),
            (3, Some(path)) if random(4) == 0 => {
                let replica = self.documents.remove(&path);
                drop(replica);
                Asked::DeleteDocument(v1::DeleteDocumentRequest { name: name(&path), ..Default::default() })
            }
            (3 | 4, Some(path)) => {
                self.made += 1;
                let to = format!("renamed/{}", self.made);
                let replica = self.documents.remove(&path);
                self.documents.extend(replica.map(|replica| (to.clone(), replica)));
                let (name, new_name) = (name(&path), name(&to));
                Asked::RenameDocument(v1::RenameDocumentRequest { name, new_name, ..Default::default() })
            }
            (5..=8, Some(path)) => self.push(&path, random(40) as usize + 1),
            _ => {
                self.made += 1;
                self.push(&format!("made/{}", self.made), 5)
            }
        }
    }

    fn push(&mut self, path: &str, letters: usize) -> Asked {
        let client = YjsClient(self.made);
        let replica = self.documents.entry(path.to_owned()).or_insert_with(|| Replica::new(client));
        let update = replica.insert("text", 0, &"x".repeat(letters)).expect("an update");
        Asked::PushUpdate(v1::PushUpdateRequest { name: name(path), update, ..Default::default() })
    }
}

pub fn name(path: &str) -> String {
    format!("{LAB}/documents/{path}")
}

/// What remains of a transcript for somebody who reads it later: the newest state of each queue, and nothing of what was
/// in documents that are gone.
fn as_history(events: &[v1::Event]) -> Vec<v1::Event> {
    let mut history: Vec<v1::Event> = Vec::new();
    for event in events {
        match &event.kind {
            Some(Kind::QueueChange(_)) => {
                history.retain(|earlier| !matches!(earlier.kind, Some(Kind::QueueChange(_))));
                // Storage knows the sizes, not who changed them when.
                history.push(v1::Event { revision: event.revision, kind: event.kind.clone(), ..Default::default() });
            }
            Some(Kind::ParticipantSnapshot(_)) => {}
            _ => history.push(event.clone()),
        }
    }
    let mut gone = Vec::new();
    for event in history.iter().rev() {
        if let Some(Kind::DocumentChange(change)) = &event.kind {
            match change.kind() {
                v1::document_change::Kind::Deleted => gone.push(change.document.clone()),
                v1::document_change::Kind::Renamed if gone.contains(&change.new_document) => {
                    gone.push(change.document.clone());
                }
                _ => {}
            }
        }
    }
    // A path is never used twice here.
    history.retain(|event| match &event.kind {
        Some(Kind::DocumentUpdate(update)) => !gone.contains(&update.document),
        _ => true,
    });
    history
}

pub async fn watched(ada: &Caller, after: u64) -> (Vec<v1::Event>, u64) {
    let request = v1::WatchRoomRequest { name: LAB.into(), after_revision: after, ..Default::default() };
    let mut stream = ada.rooms().watch_room(ada.request(request)).await.unwrap().into_inner();
    let (mut events, mut cursor) = (Vec::new(), after);
    loop {
        let element = timeout(PATIENCE, stream.message()).await.expect("the host is silent").unwrap().unwrap();
        assert!(element.revision >= cursor, "a cursor went back");
        cursor = element.revision;
        match element.body.unwrap() {
            watch_room_response::Body::EventBatch(batch) => {
                let batch = batch.events().unwrap();
                assert!(batch.iter().all(|event| event.revision == 0 || event.revision > after));
                events.extend(batch);
            }
            watch_room_response::Body::Live(live) => return (events, live.revision),
            other => panic!("{other:?}"),
        }
    }
}

async fn live_transcript(mut reader: Stream, upto: u64) -> Vec<v1::Event> {
    reader.events_until(1, upto).await
}

/// Numbers below a bound that look random, the same for the same seed.
fn random(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below.max(1)
    }
}

#[tokio::test]
async fn the_transcript_of_a_room_is_its_history_from_wherever_one_begins() {
    for seed in 1..=5 {
        let cluster = Cluster::start(ONE_HOST).await;
        let (_, _, ada) = cluster.with_room("lab", "ada").await;
        let mut reader = ada.begin("lab").await.unwrap();
        reader.follow(1, 1, LAB, 0).await;
        let revisions = act(ada.begin("lab").await.unwrap(), random(seed)).await;
        let last = *revisions.last().unwrap();
        let live = live_transcript(reader, last).await;
        assert!(live.is_sorted_by_key(|event| event.revision));

        for from in [0, 1, STEPS as usize / 3, STEPS as usize / 2, STEPS as usize - 2] {
            let after = if from == 0 { 0 } else { revisions[from - 1] };
            let (history, reached) = watched(&ada, after).await;
            assert_eq!(reached, last);
            let expected: Vec<_> = live.iter().filter(|event| event.revision > after).cloned().collect();
            assert_eq!(as_history(&history), as_history(&expected), "seed {seed} after {after}");
        }
    }
}

/// Does things at random and returns the revision of each.
async fn act(mut stream: Stream, mut random: impl FnMut(u64) -> u64) -> Vec<u64> {
    let mut author = Author::default();
    let mut revisions = Vec::new();
    for sequence in 1..=STEPS {
        stream.ask_acknowledging(sequence, sequence - 1, author.step(&mut random));
        let frame = stream.next().await.unwrap();
        assert_eq!(frame.reply_to, sequence);
        assert!(!matches!(frame.body, Some(Body::Status(_))), "{frame:?}");
        revisions.push(frame.revision);
    }
    revisions
}

#[tokio::test]
async fn a_watcher_sees_what_its_token_allows_and_a_document_whole_once_it_comes_into_view() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    let public = SyncPath { pattern: PathPattern::Prefix("public/".into()), read_only: true };
    let rights = Rights { sync: SyncRights::Paths(vec![public]), ..Rights::default() };
    let guest = ada.claiming(Claims { rights, ..cluster.claims("guest") });
    let mut live = guest.begin("lab").await.unwrap();
    assert!(live.follow(1, 1, LAB, 0).await.is_empty());

    let mut authors = [Replica::new(YjsClient(1)), Replica::new(YjsClient(2))];
    let mut write = |author: usize, path: &str| {
        let update = authors[author].insert("text", 0, "x").expect("an update");
        Asked::PushUpdate(v1::PushUpdateRequest { name: name(path), update, ..Default::default() })
    };
    let rename = v1::RenameDocumentRequest { name: name("mine/a"), new_name: name("public/a"), ..Default::default() };
    let asked = [
        write(0, "mine/a"),
        post("not for guests"),
        write(1, "public/b"),
        send(JOBS, "not for guests"),
        write(0, "mine/a"),
        Asked::RenameDocument(rename),
        write(0, "public/a"),
    ];
    let mut last = 0;
    for (sequence, asked) in (1..).zip(asked) {
        session.ask(sequence, asked);
        last = session.next().await.unwrap().revision;
    }
    let told = live.events_until(1, last).await;
    let stored = watched(&guest, 0).await.0;
    let mut replica = [Replica::new(YjsClient(8)), Replica::new(YjsClient(9))];
    for (events, replica) in [told, stored].into_iter().zip(&mut replica) {
        for event in events {
            match event.kind.unwrap() {
                Kind::DocumentUpdate(update) if update.document == "public/b" => {}
                Kind::DocumentUpdate(update) => drop(replica.apply(&update.update).expect("an update")),
                Kind::DocumentChange(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(replica.text("text"), "xxx");
    }

    let request =
        v1::WatchRoomRequest { name: LAB.into(), topics: vec![v1::Topic::Messages.into()], after_revision: 0 };
    let refused = guest.rooms().watch_room(guest.request(request)).await;
    assert_eq!(refusal(refused), ErrorReason::ScopeMissing);
}
