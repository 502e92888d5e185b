//! Documents that sessions have open, and that a room's followers see.

use bytes::{Bytes, BytesMut};
use conclave_document::Replica;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::document_change::Kind as Happened;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason};
use conclave_types::YjsClient;
use tokio::time::timeout;

use super::rooms::{name, watched};
use crate::calls::Stream;
use crate::cluster::{Cluster, ONE_HOST, PATIENCE};

const PLAN: &str = "notes/plan";
const TEXT: &str = "text";

fn push(path: &str, update: impl Into<Bytes>) -> Asked {
    Asked::PushUpdate(v1::PushUpdateRequest { name: name(path), update: update.into(), ..Default::default() })
}

/// The revision of a push, whose reply must be next.
async fn pushed(stream: &mut Stream, sequence: u64) -> u64 {
    match stream.reply(sequence).await {
        Body::PushUpdate(response) => response.revision,
        other => panic!("frame {sequence} was answered with {other:?}"),
    }
}

/// Merges what events bring, parts put together.
struct Merging {
    replica: Replica,
    parts: BytesMut,
    states: usize,
    most_parts: u32,
}

impl Merging {
    fn new() -> Merging {
        Merging { replica: Replica::new(YjsClient(u32::MAX.into())), parts: BytesMut::new(), states: 0, most_parts: 0 }
    }

    fn take(&mut self, events: Vec<v1::Event>) {
        for event in events {
            let Some(Kind::DocumentUpdate(update)) = event.kind else { continue };
            if update.part == 0 {
                self.parts.clear();
            }
            self.most_parts = self.most_parts.max(update.part + 1);
            self.parts.extend_from_slice(&update.update);
            if !update.more {
                self.states += usize::from(update.state);
                self.replica.apply(&self.parts).expect("what the host sends can be merged");
            }
        }
    }

    fn has(&self, author: &Replica) -> bool {
        self.replica.text(TEXT) == author.text(TEXT)
    }
}

/// Pushes texts that fill the document, and waits for each few.
async fn write(stream: &mut Stream, author: &mut Replica, sequences: std::ops::RangeInclusive<u64>, bytes: usize) {
    for sequence in sequences {
        let update = author.insert(TEXT, 0, &"x".repeat(bytes)).expect("an update");
        stream.ask_acknowledging(sequence, sequence - 1, push(PLAN, update));
        pushed(stream, sequence).await;
    }
}

#[tokio::test]
async fn a_slow_reader_of_a_document_comes_to_the_same_text() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut author_stream = ada.begin("lab").await.unwrap();
    let mut author = Replica::new(YjsClient(1));
    let [mut slow, mut quick] = [ada.begin("lab").await.unwrap(), ada.begin("lab").await.unwrap()];
    let mut merging = [Merging::new(), Merging::new()];
    slow.follow(1, 1, &name(PLAN), 0).await;
    quick.follow(1, 1, &name(PLAN), 0).await;
    // More than the ring of a channel and all buffers on the way hold; one of them in parts.
    write(&mut author_stream, &mut author, 1..=1, 400_000).await;
    write(&mut author_stream, &mut author, 2..=300, 30_000).await;
    for (stream, merging) in [&mut quick, &mut slow].into_iter().zip(&mut merging) {
        while !merging.has(&author) {
            match stream.next().await.unwrap().body.unwrap() {
                Body::EventBatch(batch) => merging.take(batch.events().unwrap()),
                // No gap either: what was missed comes from storage.
                other => panic!("{other:?}"),
            }
        }
        assert!(merging.most_parts > 1, "a large update comes in parts");
    }
}

#[tokio::test]
async fn a_room_is_caught_up_with_through_a_documents_base() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut stream = ada.begin("lab").await.unwrap();
    let mut author = Replica::new(YjsClient(1));
    stream.ask(1, push(PLAN, author.insert(TEXT, 0, "begin").unwrap()));
    let first = pushed(&mut stream, 1).await;
    write(&mut stream, &mut author, 2..=12, 60_000).await;
    for after in [0, first] {
        let through_base = async {
            loop {
                let mut merging = Merging::new();
                if after > 0 {
                    merging.replica.apply(&first_update()).unwrap();
                }
                merging.take(watched(&ada, after).await.0);
                assert!(merging.has(&author));
                if merging.states > 0 {
                    return merging;
                }
            }
        };
        let merging = timeout(PATIENCE, through_base).await.expect("the document is never compacted");
        assert!(merging.most_parts > 1, "a large base comes in parts");
        write(&mut stream, &mut author, 13 + after.min(1)..=13 + after.min(1), 10).await;
    }
}

/// As the test's author made it.
fn first_update() -> Bytes {
    Replica::new(YjsClient(1)).insert(TEXT, 0, "begin").unwrap()
}

#[tokio::test]
async fn an_open_document_stays_open_when_it_is_renamed_and_ends_when_it_is_deleted() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let [mut own, mut other] = [ada.begin("lab").await.unwrap(), ada.begin("lab").await.unwrap()];
    let mut author = Replica::new(YjsClient(1));
    own.follow(1, 1, &name(PLAN), 0).await;
    other.follow(1, 9, &name(PLAN), 0).await;

    let renaming = v1::RenameDocumentRequest { name: name(PLAN), new_name: name("notes/done"), ..Default::default() };
    own.ask(2, Asked::RenameDocument(renaming));
    let renamed = own.next().await.unwrap();
    assert!(matches!(renamed.body, Some(Body::RenameDocument(_))), "{renamed:?}");
    own.ask(3, push("notes/done", author.insert(TEXT, 0, "x").unwrap()));
    let pushed = pushed(&mut own, 3).await;
    let told = other.events_until(9, pushed).await;
    let [renamed, updated] = &told[..] else { panic!("{told:?}") };
    let Some(Kind::DocumentChange(change)) = &renamed.kind else { panic!("{renamed:?}") };
    assert_eq!((change.kind(), change.document.as_str()), (Happened::Renamed, PLAN));
    let Some(Kind::DocumentUpdate(update)) = &updated.kind else { panic!("{updated:?}") };
    assert_eq!(update.document, "notes/done");

    let deleting = v1::DeleteDocumentRequest { name: name("notes/done"), ..Default::default() };
    own.ask(4, Asked::DeleteDocument(deleting));
    let deleted = loop {
        match own.next().await.unwrap() {
            v1::ServerFrame { revision, body: Some(Body::DeleteDocument(_)), .. } => break revision,
            // Told before the reply of its revision.
            frame => assert_eq!((frame.reply_to, frame.subscription), (0, 1), "{frame:?}"),
        }
    };
    let told = other.events_until(9, deleted).await;
    let Some(Kind::DocumentChange(change)) = &told[0].kind else { panic!("{told:?}") };
    assert_eq!(change.kind(), Happened::Deleted);
    assert_eq!(other.ended(9).await, ErrorReason::DocumentNotFound);

    // The number is free again.
    let subscribe = v1::Subscribe { resource: name("notes/done"), create: Some(false), ..Default::default() };
    other.ask_of(5, 9, Asked::Subscribe(subscribe));
    assert_eq!(other.refused(5).await, ErrorReason::DocumentNotFound);
    other.follow(6, 9, &name("notes/new"), 0).await;
}
