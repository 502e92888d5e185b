//! What may be pushed, and what is answered.

use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason};
use conclave_types::limits::MAX_UPDATE_BYTES;

use super::{NOTES, TEXT, lab, push_request, replica};
use crate::calls::{Stream, refusal};
use crate::cluster::{Cluster, THREE_HOSTS};

impl Stream {
    async fn pushed(&mut self, sequence: u64) -> u64 {
        match self.reply(sequence).await {
            Body::PushUpdate(response) => response.revision,
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }
}

fn push(document: &str, update: bytes::Bytes) -> Asked {
    Asked::PushUpdate(push_request(document, update))
}

#[tokio::test]
async fn an_update_that_builds_on_what_is_missing_is_refused_until_that_is_there() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(1);
    let first = author.insert(TEXT, 0, "a").unwrap();
    let second = author.insert(TEXT, 1, "b").unwrap();
    assert_eq!(refusal(ada.push(NOTES, second.clone()).await), ErrorReason::NeedSync);
    let before = ada.push(NOTES, first).await.unwrap();
    assert!(ada.push(NOTES, second).await.unwrap() > before);
    assert_eq!(ada.read_document(NOTES).await.text(TEXT), "ab");
}

#[tokio::test]
async fn a_session_goes_on_after_a_gap() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(1);
    let updates: Vec<_> = (0..4).map(|at| author.insert(TEXT, at, "x").unwrap()).collect();
    let mut session = ada.begin("lab").await.unwrap();
    for (sequence, update) in [(1, 0), (2, 2), (3, 3), (4, 1), (5, 2), (6, 3)] {
        session.ask(sequence, push(NOTES, updates[update].clone()));
    }
    session.pushed(1).await;
    assert_eq!(session.refused(2).await, ErrorReason::NeedSync);
    assert_eq!(session.refused(3).await, ErrorReason::NeedSync);
    for sequence in 4..=6 {
        session.pushed(sequence).await;
    }
    assert_eq!(ada.read_document(NOTES).await.text(TEXT), "xxxx");
}

#[tokio::test]
async fn what_the_document_holds_already_is_acknowledged_and_not_stored_again() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(1);
    let update = author.insert(TEXT, 0, "once").unwrap();
    let revision = ada.push(NOTES, update.clone()).await.unwrap();
    assert_eq!(ada.push(NOTES, update).await.unwrap(), revision);
    assert_eq!(ada.describe(NOTES).await.unwrap().document.unwrap().update_count, 1);
}

#[tokio::test]
async fn an_update_that_only_deletes_is_kept() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(1);
    let before = ada.push(NOTES, author.insert(TEXT, 0, "keep drop").unwrap()).await.unwrap();
    assert!(ada.push(NOTES, author.delete(TEXT, 4, 5).unwrap()).await.unwrap() > before);
    assert_eq!(ada.read_document(NOTES).await.text(TEXT), "keep");
}

#[tokio::test]
async fn a_thousand_updates_in_flight_are_applied_in_their_order() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut author = replica(1);
    let mut session = ada.begin("lab").await.unwrap();
    let mut text = String::new();
    for sequence in 1..=1_000 {
        let letter = char::from(b'a' + (sequence % 26) as u8).to_string();
        let update = author.insert(TEXT, text.len() as u32, &letter).unwrap();
        text.push_str(&letter);
        session.ask(sequence, push(NOTES, update));
    }
    let mut last = 0;
    for sequence in 1..=1_000 {
        let revision = session.pushed(sequence).await;
        assert!(revision > last, "{revision} after {last}");
        last = revision;
    }
    assert_eq!(ada.read_document(NOTES).await.text(TEXT), text);
}

#[tokio::test]
async fn a_missing_document_is_made_only_by_who_wants_that() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(1);
    let update = author.insert(TEXT, 0, "a").unwrap();
    let request = v1::PushUpdateRequest { create: Some(false), ..push_request(NOTES, update.clone()) };
    let pushed = ada.documents().push_update(ada.request(request)).await;
    assert_eq!(refusal(pushed), ErrorReason::DocumentNotFound);
    let later = author.insert(TEXT, 1, "b").unwrap();
    let request = v1::PushUpdateRequest { create: Some(false), ..push_request(NOTES, later) };
    let pushed = ada.documents().push_update(ada.request(request)).await;
    assert_eq!(refusal(pushed), ErrorReason::DocumentNotFound);
    let request = v1::OpenDocumentRequest { name: NOTES.into(), create: Some(false), ..Default::default() };
    assert_eq!(refusal(ada.open_document(request).await), ErrorReason::DocumentNotFound);
    ada.push(NOTES, update).await.unwrap();
}

#[tokio::test]
async fn a_session_pushes_into_its_own_room_only() {
    let (_cluster, ada) = lab().await;
    let mut session = ada.begin("lab").await.unwrap();
    let update = replica(1).insert(TEXT, 0, "a").unwrap();
    session.ask(1, push("rooms/office/documents/notes", update.clone()));
    assert_eq!(session.refused(1).await, ErrorReason::OtherRoom);
    session.ask(2, push(NOTES, update));
    session.pushed(2).await;
}

#[tokio::test]
async fn an_update_over_its_limit_is_refused_and_one_below_is_not() {
    let (_cluster, ada) = lab().await;
    let text = "x".repeat(MAX_UPDATE_BYTES);
    let mut author = replica(1);
    assert_eq!(refusal(ada.push(NOTES, author.insert(TEXT, 0, &text).unwrap()).await), ErrorReason::TooLarge);
    let mut author = replica(2);
    ada.push(NOTES, author.insert(TEXT, 0, &text[64..]).unwrap()).await.unwrap();
}
