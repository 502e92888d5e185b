//! Bytes that were made to harm a host.

use conclave_proto::v1::{self, ErrorReason};

use super::{NOTES, TEXT, lab, replica};
use crate::calls::refusal;

/// One insertion of client 1 into the root `text`, whose content is the given bytes.
fn inserting(content: &[u8]) -> Vec<u8> {
    // One section of one block; an `Any` without neighbours, its parent a root by name.
    let mut update = vec![1, 1, 1, 0, 0x08, 1, 4];
    update.extend_from_slice(b"text");
    update.extend_from_slice(content);
    update.push(0);
    update
}

/// Arrays, each in the one before.
fn nested(depth: usize) -> Vec<u8> {
    let mut content = vec![1];
    content.extend([117, 1].repeat(depth));
    content.push(126);
    inserting(&content)
}

fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let varint_2_31 = [0x80, 0x80, 0x80, 0x80, 0x08];
    let with = |before: &[u8], number: &[u8]| [before, number].concat();
    vec![
        ("no bytes", vec![]),
        ("nested beyond any stack", nested(100_000)),
        ("nested beyond the limit", nested(65)),
        ("2^31 clients", varint_2_31.to_vec()),
        ("2^31 blocks", with(&[1], &varint_2_31)),
        ("2^31 bytes of a string", with(&[1, 1, 1, 0, 0x04, 1, 4, b't', b'e', b'x', b't'], &varint_2_31)),
        ("2^31 elements of an array", inserting(&with(&[1, 117], &varint_2_31))),
        ("2^31 deleted ranges", with(&[0, 1, 1], &varint_2_31)),
        ("a number without an end", vec![0xff; 40]),
        ("bytes behind the end", vec![0, 0, 0]),
        ("a run of skipped clocks", with(&[1, 1, 1, 0, 10], &varint_2_31)),
    ]
}

#[tokio::test]
async fn attacks_are_refused_and_nobody_else_notices() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(7);
    for (attack, bytes) in attacks() {
        let reason = refusal(ada.push(NOTES, bytes).await);
        assert_eq!(reason, ErrorReason::UpdateInvalid, "{attack}");
        ada.push(NOTES, author.insert(TEXT, 0, "x").unwrap()).await.unwrap();
    }
    assert_eq!(ada.read_document(NOTES).await.text(TEXT), "x".repeat(attacks().len()));
}

#[tokio::test]
async fn what_is_nested_within_the_limit_is_taken() {
    let (_cluster, ada) = lab().await;
    ada.push(NOTES, nested(60)).await.unwrap();
    let json = ada.describe(NOTES).await.unwrap().json;
    assert_eq!(json, format!(r#"{{"text":[{}null{}]}}"#, "[".repeat(60), "]".repeat(60)));
}

#[tokio::test]
async fn updates_whose_parents_are_missing_leave_nothing_behind() {
    let (_cluster, ada) = lab().await;
    ada.push(NOTES, replica(1).insert(TEXT, 0, "x").unwrap()).await.unwrap();
    for client in 1_000..1_200 {
        let mut author = replica(client);
        author.insert(TEXT, 0, "missing").unwrap();
        assert_eq!(refusal(ada.push(NOTES, author.insert(TEXT, 7, "y").unwrap()).await), ErrorReason::NeedSync);
    }
    assert_eq!(ada.describe(NOTES).await.unwrap().document.unwrap().update_count, 1);
}

#[tokio::test]
async fn a_mutated_update_is_refused_or_harmless() {
    let (_cluster, ada) = lab().await;
    let mut author = replica(1);
    let first = author.insert(TEXT, 0, "some text to begin with").unwrap();
    ada.push(NOTES, first).await.unwrap();
    let valid = author.insert(TEXT, 5, "more ").unwrap();
    for at in 0..valid.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut mutated = valid.to_vec();
            mutated[at] ^= flip;
            // Into a document of its own, so that one that is accepted does not hide the next.
            let document = format!("rooms/lab/documents/mutated/{at}-{flip}");
            let _ = ada.push(&document, mutated).await;
        }
    }
    ada.push(NOTES, valid).await.unwrap();
    assert_eq!(ada.read_document(NOTES).await.text(TEXT), "some more text to begin with");
}

#[tokio::test]
async fn a_state_vector_that_claims_2_27_clients_is_refused() {
    let (_cluster, ada) = lab().await;
    for vector in [&[0x80, 0x80, 0x80, 0x40, 1, 1][..], &[1], &[0xff; 20], &[2, 1, 1, 1, 1]] {
        let request =
            v1::OpenDocumentRequest { name: NOTES.into(), state_vector: vector.to_vec().into(), ..Default::default() };
        assert_eq!(refusal(ada.open_document(request).await), ErrorReason::UpdateInvalid, "{vector:?}");
    }
    ada.read_document(NOTES).await;
}
