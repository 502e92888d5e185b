//! What a document holds, as JSON, and which documents there are.

use std::sync::Arc;

use conclave_auth::Claims;
use conclave_proto::time::timestamp;
use conclave_proto::v1;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{DocumentView, read};
use conclave_types::limits::MAX_UNARY_BYTES;
use conclave_types::{DocumentPath, RoomName};

use super::find;
use super::join::{Whole, unreadable};
use crate::admit;
use crate::faults::Fault;
use crate::reads::InRoom;
use crate::shard::{Shard, broken};

/// Documents read at once while a page is gathered.
const LIST_STEP: usize = 1_000;

/// A document as JSON, made on the workers: it has to be loaded for that.
pub async fn describe(
    shard: Arc<Shard>,
    at: InRoom,
    path: DocumentPath,
    request: v1::DescribeDocumentRequest,
) -> Result<Body, Fault> {
    shard.ready_to_read(request.consistency).await?;
    let found = find(&shard, at.uid, &path)?.ok_or_else(|| Fault::document_not_found(path.as_str()))?;
    let whole = Whole { view: shard.snapshot(), group: shard.group_id(), room: at.uid, document: found.number };
    let bytes = whole.header()?.bytes();
    shard.workers().load(bytes, move || described(&whole, &at.name)).await?
}

fn described(whole: &Whole, room: &RoomName) -> Result<Body, Fault> {
    let header = whole.header()?;
    let (base, updates) = whole.content(&header)?;
    let updates: Vec<_> = updates.into_iter().map(|stored| stored.update).collect();
    let json = conclave_document::to_json(base.as_deref(), &updates).map_err(|reason| unreadable(&reason))?.to_string();
    if json.len() > MAX_UNARY_BYTES {
        return Err(Fault::too_large("json", MAX_UNARY_BYTES, json.len()));
    }
    let document = Some(resource(room, &header.document));
    Ok(Body::DescribeDocument(v1::DescribeDocumentResponse { document, json, revision: header.revision.0 }))
}

/// One page of the documents that the claims allow. Those between that they do not allow are passed over, so a page costs
/// at most the room's documents; the next page's token names nothing that was not listed.
pub async fn list(
    shard: Arc<Shard>,
    at: InRoom,
    claims: Arc<Claims>,
    request: v1::ListDocumentsRequest,
) -> Result<Body, Fault> {
    shard.ready_to_read(request.consistency).await?;
    let size = admit::page_size(request.page_size)?;
    let mut after = match request.page_token.as_str() {
        "" => None,
        token => Some(
            token
                .parse::<DocumentPath>()
                .map_err(|_| Fault::field_invalid("page_token", "is not one that a list returned"))?,
        ),
    };
    let view = shard.snapshot();
    let tables = crate::tables::EngineTables(&*view);
    let mut listed = Vec::new();
    loop {
        let step = read::list_documents(&tables, shard.group_id(), at.uid, after, LIST_STEP).map_err(broken)?;
        let is_last = step.len() < LIST_STEP;
        after = step.last().map(|document| document.path.clone());
        listed.extend(step.into_iter().filter(|document| claims.may_open(&document.path)));
        if is_last || listed.len() > size {
            break;
        }
    }
    let more = listed.len() > size;
    listed.truncate(size);
    let next_page_token = match listed.last() {
        Some(last) if more => last.path.to_string(),
        _ => String::new(),
    };
    let documents = listed.iter().map(|document| resource(&at.name, document)).collect();
    let revision = read::revision(&tables, shard.group_id(), at.uid).map_err(broken)?.unwrap_or_default().0;
    Ok(Body::ListDocuments(v1::ListDocumentsResponse { documents, next_page_token, revision }))
}

fn resource(room: &RoomName, document: &DocumentView) -> v1::Document {
    v1::Document {
        name: format!("rooms/{room}/documents/{}", document.path),
        create_time: Some(timestamp(document.create_time)),
        update_time: Some(timestamp(document.update_time)),
        revision: document.revision.0,
        update_count: document.updates,
        update_bytes: document.bytes,
    }
}
