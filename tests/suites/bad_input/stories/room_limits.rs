//! What a room may hold: documents, and bytes in one.

use anyhow::{Context, Result, ensure};
use conclave_client::Session;
use conclave_proto::v1::{DescribeDocumentRequest, ErrorReason as Reason, OpenDocumentRequest};
use conclave_types::limits::{MAX_DOCUMENT_BYTES, MAX_DOCUMENTS_PER_ROOM, MAX_UPDATE_BYTES};
use tonic::Code;

use super::Story;
use crate::calls::documents::{delete, push};
use crate::expected::refused;
use crate::place::{Place, make_room};
use crate::updates;

/// Room for what surrounds an update's content.
const ENVELOPE_BYTES: usize = 64;

pub fn all(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    vec![
        ("more documents than a room may hold", Box::pin(too_many_documents(place))),
        ("a document over 32 MiB", Box::pin(document_too_large(place))),
    ]
}

async fn too_many_documents(place: &Place) -> Result<()> {
    let room = "rooms/library";
    make_room(&place.client, room).await?;
    let name = |number: u32| format!("{room}/documents/books/{number}");
    let session = Session::open(&place.client, room).await?;
    let mut replies = Vec::new();
    for number in 0..MAX_DOCUMENTS_PER_ROOM {
        session.ready().await;
        replies.push(session.push_update(push(&name(number), updates::letter(1))));
    }
    for reply in replies {
        reply.await?;
    }
    let limit = refused(Code::ResourceExhausted, Reason::DocumentLimit);
    let one_more = name(MAX_DOCUMENTS_PER_ROOM);
    let pushed = session.push_update(push(&one_more, updates::letter(1))).await;
    limit.check(&pushed.err().context("pushed into one too many")?)?;
    let open = OpenDocumentRequest { name: one_more.clone(), ..Default::default() };
    let mut opened = place.client.open_document(open).await?;
    limit.check(&opened.next().await.context("no answer")?.err().context("opened one too many")?)?;
    // Those that are there may be edited, and where one goes another comes.
    session.push_update(push(&name(0), updates::letter(2))).await?;
    session.delete_document(delete(&name(1))).await?;
    session.push_update(push(&one_more, updates::letter(1))).await?;
    session.close().await;
    Ok(())
}

async fn document_too_large(place: &Place) -> Result<()> {
    let document = "rooms/elsewhere/documents/large";
    let content = MAX_UPDATE_BYTES - ENVELOPE_BYTES;
    let fit = MAX_DOCUMENT_BYTES / MAX_UPDATE_BYTES as u64;
    let session = Session::open(&place.client, "rooms/elsewhere").await?;
    for client in 1..=fit {
        let pushed = session.push_update(push(document, updates::binary(client, content))).await;
        pushed.with_context(|| format!("half a mebibyte, number {client}"))?;
    }
    let limit = refused(Code::ResourceExhausted, Reason::DocumentTooLarge).with("limit", MAX_DOCUMENT_BYTES);
    let limit = limit.telling("actual");
    let over = session.push_update(push(document, updates::binary(fit + 1, content))).await;
    limit.check(&over.err().context("no end of it")?)?;
    // What still fits is taken.
    session.push_update(push(document, updates::letter(fit + 2))).await?;
    session.close().await;
    // As JSON it is larger than an answer may be, which is said.
    let describe = DescribeDocumentRequest { name: document.into(), ..Default::default() };
    let described = place.client.describe_document(describe).await.err().context("described")?;
    ensure!(described.reason == Some(Reason::TooLarge), "{described:?}");
    place.client.delete_document(delete(document)).await?;
    Ok(())
}
