//! Documents: what is pushed is durable and reaches whoever opens them, and nothing else gets in.

mod compaction;
mod hostile;
mod pushing;

use bytes::{Bytes, BytesMut};
use conclave_auth::{Claims, Rights, SyncPath, SyncRights};
use conclave_document::Replica;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::open_document_response::Body;
use conclave_proto::v1::{self, ErrorReason};
use conclave_types::{Clocks, YjsClient};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::calls::{Caller, refusal};
use crate::cluster::{Cluster, ONE_HOST, PATIENCE};

const NOTES: &str = "rooms/lab/documents/notes/plan";
const TEXT: &str = "text";

fn push_request(document: &str, update: impl Into<Bytes>) -> v1::PushUpdateRequest {
    v1::PushUpdateRequest { name: document.into(), update: update.into(), ..Default::default() }
}

impl Caller {
    /// The room's revision with the update.
    async fn push(&self, document: &str, update: impl Into<Bytes>) -> Result<u64, Status> {
        let request = self.request(push_request(document, update));
        Ok(self.documents().push_update(request).await?.into_inner().revision)
    }

    async fn open_document(&self, request: v1::OpenDocumentRequest) -> Result<Opened, Status> {
        let stream = self.documents().open_document(self.request(request)).await?.into_inner();
        Ok(Opened { stream, parts: BytesMut::new(), most_parts: 0, states: 0, updates: 0 })
    }

    /// Brings a replica up to what the host has.
    async fn bring_up(&self, document: &str, replica: &mut Replica) -> v1::Live {
        let request = v1::OpenDocumentRequest {
            name: document.into(),
            state_vector: replica.state_vector(),
            ..Default::default()
        };
        self.open_document(request).await.unwrap().until_live(replica).await
    }

    /// A new replica of all that the host has.
    async fn read_document(&self, document: &str) -> Replica {
        let mut replica = replica(u32::MAX.into());
        self.bring_up(document, &mut replica).await;
        replica
    }

    async fn describe(&self, document: &str) -> Result<v1::DescribeDocumentResponse, Status> {
        let request = v1::DescribeDocumentRequest { name: document.into(), ..Default::default() };
        Ok(self.documents().describe_document(self.request(request)).await?.into_inner())
    }

    async fn list_paths(&self, page_size: u32, page_token: &str) -> (Vec<String>, String) {
        let request = v1::ListDocumentsRequest {
            parent: "rooms/lab".into(),
            page_size,
            page_token: page_token.into(),
            ..Default::default()
        };
        let page = self.documents().list_documents(self.request(request)).await.unwrap().into_inner();
        let path = |document: &v1::Document| document.name.replace("rooms/lab/documents/", "");
        (page.documents.iter().map(path).collect(), page.next_page_token)
    }

    async fn rename(&self, document: &str, to: &str) -> Result<u64, Status> {
        let request = v1::RenameDocumentRequest { name: document.into(), new_name: to.into(), ..Default::default() };
        Ok(self.documents().rename_document(self.request(request)).await?.into_inner().revision)
    }

    async fn delete_document(&self, document: &str) -> Result<u64, Status> {
        let request = v1::DeleteDocumentRequest { name: document.into(), ..Default::default() };
        Ok(self.documents().delete_document(self.request(request)).await?.into_inner().revision)
    }
}

/// An open document's stream.
struct Opened {
    stream: Streaming<v1::OpenDocumentResponse>,
    parts: BytesMut,
    most_parts: u32,
    states: u32,
    updates: u32,
}

impl Opened {
    async fn next(&mut self) -> Result<Body, Status> {
        let next = timeout(PATIENCE, self.stream.message()).await.expect("the host is silent")?;
        Ok(next.expect("the stream goes on").body.expect("an element has a body"))
    }

    async fn until_live(&mut self, replica: &mut Replica) -> v1::Live {
        loop {
            match self.next().await.unwrap() {
                Body::Live(live) => return live,
                Body::EventBatch(batch) => {
                    batch.events().unwrap().into_iter().for_each(|event| self.take(event, replica))
                }
                Body::Gap(gap) => panic!("documents have no gaps: {gap:?}"),
            }
        }
    }

    /// Follows until the replica shows this.
    async fn until_text(&mut self, replica: &mut Replica, text: &str) {
        while replica.text(TEXT) != text {
            let Body::EventBatch(batch) = self.next().await.unwrap() else { continue };
            batch.events().unwrap().into_iter().for_each(|event| self.take(event, replica));
        }
    }

    fn take(&mut self, event: v1::Event, replica: &mut Replica) {
        let Some(Kind::DocumentUpdate(update)) = event.kind else { return };
        if update.part == 0 {
            self.parts.clear();
        }
        self.parts.extend_from_slice(&update.update);
        self.most_parts = self.most_parts.max(update.part + 1);
        if !update.more {
            self.states += u32::from(update.state);
            self.updates += 1;
            replica.apply(&self.parts).expect("what the host sends can be merged");
        }
    }
}

fn replica(client: u64) -> Replica {
    Replica::new(YjsClient(client))
}

fn clocks(state_vector: &[u8]) -> Clocks {
    conclave_document::decode_state_vector(state_vector).expect("the host's vector")
}

/// A cluster of one host, and somebody in its room.
async fn lab() -> (Cluster, Caller) {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    (cluster, ada)
}

#[tokio::test]
async fn two_clients_that_edit_at_once_converge() {
    let (_cluster, ada) = lab().await;
    let (mut one, mut two) = (replica(1), replica(2));
    ada.push(NOTES, one.insert(TEXT, 0, "common ").unwrap()).await.unwrap();
    ada.bring_up(NOTES, &mut two).await;
    ada.push(NOTES, one.insert(TEXT, 7, "one").unwrap()).await.unwrap();

    // The second works on without its connection, and brings its part as one update when it is back.
    for (at, text) in [(7, "t"), (8, "w"), (9, "o")] {
        two.insert(TEXT, at, text).unwrap();
    }
    two.delete(TEXT, 0, 1).unwrap();
    let live = ada.bring_up(NOTES, &mut two).await;
    ada.push(NOTES, two.diff(&clocks(&live.state_vector)).unwrap()).await.unwrap();

    ada.bring_up(NOTES, &mut one).await;
    assert_eq!(one.text(TEXT), two.text(TEXT));
    assert_eq!(ada.read_document(NOTES).await.text(TEXT), one.text(TEXT));
    assert_eq!(one.text(TEXT).len(), "ommon onetwo".len());
}

#[tokio::test]
async fn whoever_has_a_document_open_gets_what_others_push() {
    let (_cluster, ada) = lab().await;
    let (mut author, mut reader) = (replica(1), replica(2));
    let request = v1::OpenDocumentRequest { name: NOTES.into(), ..Default::default() };
    let mut opened = ada.open_document(request).await.unwrap();
    let live = opened.until_live(&mut reader).await;
    assert!(clocks(&live.state_vector).is_empty());
    let mut text = String::new();
    for (index, word) in ["live ", "documents ", "reach ", "readers"].iter().enumerate() {
        ada.push(NOTES, author.insert(TEXT, text.len() as u32, word).unwrap()).await.unwrap();
        text.push_str(word);
        if index % 2 == 1 {
            opened.until_text(&mut reader, &text).await;
        }
    }
}

#[tokio::test]
async fn a_large_document_opens_in_parts() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(1);
    let text = "0123456789abcdef".repeat(25_000);
    ada.push(NOTES, author.insert(TEXT, 0, &text).unwrap()).await.unwrap();
    let mut reader = replica(2);
    let request = v1::OpenDocumentRequest { name: NOTES.into(), ..Default::default() };
    let mut opened = ada.open_document(request).await.unwrap();
    opened.until_live(&mut reader).await;
    assert!(opened.most_parts >= 2, "{} parts", opened.most_parts);
    assert_eq!(reader.text(TEXT), text);
}

#[tokio::test]
async fn a_document_is_described_as_json() {
    let (_cluster, ada) = lab().await;
    assert_eq!(refusal(ada.describe(NOTES).await), ErrorReason::DocumentNotFound);
    let mut author = replica(1);
    ada.push(NOTES, author.insert(TEXT, 0, "say \"hi\"").unwrap()).await.unwrap();
    let revision = ada.push(NOTES, author.delete(TEXT, 0, 4).unwrap()).await.unwrap();
    let described = ada.describe(NOTES).await.unwrap();
    assert_eq!(described.json, r#"{"text":"\"hi\""}"#);
    assert_eq!(described.revision, revision);
    let document = described.document.unwrap();
    assert_eq!((document.name.as_str(), document.update_count, document.revision), (NOTES, 2, revision));
}

#[tokio::test]
async fn documents_are_listed_by_path_renamed_and_deleted() {
    let (_cluster, ada) = lab().await;
    let name = |path: &str| format!("rooms/lab/documents/{path}");
    for path in ["c", "a/b", "a"] {
        ada.push(&name(path), replica(1).insert(TEXT, 0, path).unwrap()).await.unwrap();
    }
    let (first, token) = ada.list_paths(2, "").await;
    assert_eq!(first, ["a", "a/b"]);
    assert_eq!(ada.list_paths(2, &token).await, (vec!["c".to_owned()], String::new()));

    assert_eq!(refusal(ada.rename(&name("a"), &name("c")).await), ErrorReason::DocumentExists);
    assert_eq!(refusal(ada.rename(&name("x"), &name("y")).await), ErrorReason::DocumentNotFound);
    assert_eq!(refusal(ada.rename(&name("a"), "rooms/other/documents/a").await), ErrorReason::OtherRoom);
    ada.rename(&name("a"), &name("z")).await.unwrap();
    assert_eq!(ada.read_document(&name("z")).await.text(TEXT), "a");
    ada.delete_document(&name("c")).await.unwrap();
    assert_eq!(refusal(ada.delete_document(&name("c")).await), ErrorReason::DocumentNotFound);
    assert_eq!(ada.list_paths(0, "").await.0, ["a/b", "z"]);

    // What is made at the path now is another document.
    ada.push(&name("a"), replica(1).insert(TEXT, 0, "new").unwrap()).await.unwrap();
    assert_eq!(ada.read_document(&name("a")).await.text(TEXT), "new");
}

#[tokio::test]
async fn a_token_reaches_only_the_paths_it_names() {
    let (cluster, ada) = lab().await;
    let name = |path: &str| format!("rooms/lab/documents/{path}");
    for path in ["notes/a", "notes/b", "private/a", "shown"] {
        ada.push(&name(path), replica(1).insert(TEXT, 0, path).unwrap()).await.unwrap();
    }
    let granted = |(pattern, read_only): (&str, bool)| SyncPath { pattern: pattern.into(), read_only };
    let sync = SyncRights::Paths([("notes/*", false), ("shown", true)].map(granted).into());
    let bob = ada.claiming(Claims { rights: Rights { sync, ..Default::default() }, ..cluster.claims("bob") });
    let (first, token) = bob.list_paths(2, "").await;
    assert_eq!((first, token.as_str()), (vec!["notes/a".into(), "notes/b".into()], "notes/b"));
    assert_eq!(bob.list_paths(2, &token).await, (vec!["shown".into()], String::new()));

    let update = replica(2).insert(TEXT, 0, "bob ").unwrap();
    bob.push(&name("notes/a"), update.clone()).await.unwrap();
    assert!(bob.describe(&name("shown")).await.is_ok());
    for path in ["shown", "private/a"] {
        assert_eq!(refusal(bob.push(&name(path), update.clone()).await), ErrorReason::ScopeMissing);
        assert_eq!(refusal(bob.delete_document(&name(path)).await), ErrorReason::ScopeMissing);
        assert_eq!(refusal(bob.rename(&name("notes/a"), &name(path)).await), ErrorReason::ScopeMissing);
    }
    assert_eq!(refusal(bob.describe(&name("private/a")).await), ErrorReason::ScopeMissing);
}
