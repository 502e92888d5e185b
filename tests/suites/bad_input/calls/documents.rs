//! Documents: updates and state vectors that harm, paths, cursors, and what is not there.

use bytes::Bytes;
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::{
    DeleteDocumentRequest, DescribeDocumentRequest, ListDocumentsRequest, OpenDocumentRequest, PushUpdateRequest,
    RenameDocumentRequest, SendAwarenessRequest,
};
use conclave_types::limits::{MAX_AWARENESS_BYTES, MAX_UNARY_BYTES, MAX_UPDATE_BYTES};
use prost::Message;
use tonic::Code;

use super::{Call, call};
use crate::expected::{
    ahead, all_too_large, bad_name, invalid, need_sync, no_document, no_update, other_room, refused, too_large,
};
use crate::place::{DOCUMENT, OTHER_ROOM, ROOM};
use crate::updates;

pub const OPEN: &str = "DocumentService/OpenDocument";
pub const PUSH: &str = "DocumentService/PushUpdate";
pub const DESCRIBE: &str = "DocumentService/DescribeDocument";
pub const LIST_DOCUMENTS: &str = "DocumentService/ListDocuments";
pub const RENAME: &str = "DocumentService/RenameDocument";
pub const DELETE_DOCUMENT: &str = "DocumentService/DeleteDocument";
pub const SEND_AWARENESS: &str = "DocumentService/SendAwareness";

const MISSING: &str = "rooms/here/documents/nothing";

/// Not in canonical form, or over 512 bytes.
const CROOKED: [(&str, &str); 9] = [
    ("an empty path", ""),
    ("a path that begins with a slash", "/a"),
    ("a path that ends with a slash", "a/"),
    ("a path with two slashes", "a//b"),
    ("a path of a dot", "."),
    ("a path with a dot between", "a/./b"),
    ("a path that leads out", "../../elsewhere/documents/a"),
    ("a path with a line end", "a\nb"),
    ("a path with a NUL", "a\0"),
];

pub fn open(name: &str) -> OpenDocumentRequest {
    OpenDocumentRequest { name: name.into(), ..Default::default() }
}

pub fn push(name: &str, update: Bytes) -> PushUpdateRequest {
    PushUpdateRequest { name: name.into(), update, ..Default::default() }
}

pub fn describe(name: &str) -> DescribeDocumentRequest {
    DescribeDocumentRequest { name: name.into(), ..Default::default() }
}

pub fn rename(name: &str, new_name: &str) -> RenameDocumentRequest {
    RenameDocumentRequest { name: name.into(), new_name: new_name.into(), ..Default::default() }
}

pub fn delete(name: &str) -> DeleteDocumentRequest {
    DeleteDocumentRequest { name: name.into(), ..Default::default() }
}

pub fn awareness(name: &str, payload: Bytes) -> SendAwarenessRequest {
    SendAwarenessRequest { name: name.into(), payload }
}

/// What would harm who reads it.
pub fn attacks() -> Vec<Call> {
    let pushed = |(name, update): (&'static str, Bytes)| call(name, PUSH, push(DOCUMENT, update), no_update("update"));
    let asked = |(name, state_vector): (&'static str, Bytes)| {
        call(name, OPEN, OpenDocumentRequest { state_vector, ..open(DOCUMENT) }, no_update("state_vector"))
    };
    let over = push(DOCUMENT, vec![0; MAX_UPDATE_BYTES + 1].into());
    let huge = push(DOCUMENT, vec![0; MAX_UNARY_BYTES].into());
    let huge_bytes = huge.encoded_len();
    let mut all: Vec<Call> = updates::refused().into_iter().map(pushed).collect();
    all.extend(updates::refused_vectors().into_iter().map(asked));
    all.extend([
        call("an update over 512 KiB", PUSH, over, too_large("update", MAX_UPDATE_BYTES, MAX_UPDATE_BYTES + 1)),
        call("an update over 4 MiB", PUSH, huge, all_too_large("request", MAX_UNARY_BYTES, huge_bytes)),
        call("an update whose parent is missing", PUSH, push(DOCUMENT, updates::orphan(77, 3)), need_sync()),
    ]);
    all
}

pub fn names() -> Vec<Call> {
    let at = |path: &str| format!("{ROOM}/documents/{path}");
    let bad = || bad_name("document");
    let crooked = at("a/../b");
    let resource = |name, method, request| call(name, method, request, bad_name("resource"));
    let mut all: Vec<Call> =
        CROOKED.map(|(name, path)| call(name, PUSH, push(&at(path), updates::letter(9)), bad())).into();
    all.extend([
        call("a path of 513 bytes", PUSH, push(&at(&"p".repeat(513)), updates::letter(9)), bad()),
        call("a crooked path to open", OPEN, open(&crooked), bad()),
        call("a crooked path to describe", DESCRIBE, describe(&crooked), bad()),
        call("a crooked path to rename", RENAME, rename(&crooked, DOCUMENT), bad()),
        call("a crooked path to rename to", RENAME, rename(DOCUMENT, &crooked), bad()),
        call("a crooked path to delete", DELETE_DOCUMENT, delete(&crooked), bad()),
        call("a crooked path to show oneself in", SEND_AWARENESS, awareness(&crooked, Bytes::new()), bad()),
        resource("a push to a room", PUSH, push(ROOM, updates::letter(9))),
        resource("a push to a queue", PUSH, push("rooms/here/queues/jobs", updates::letter(9))),
        call("a room to open", OPEN, open(ROOM), bad_name("resource")),
        call("a document to list", LIST_DOCUMENTS, list(DOCUMENT, 0, ""), bad_name("resource")),
    ]);
    all
}

pub fn fields() -> Vec<Call> {
    let page = |name, size, token: &str, field| call(name, LIST_DOCUMENTS, list(ROOM, size, token), invalid(field));
    let after = |after_revision| OpenDocumentRequest { after_revision, ..open(DOCUMENT) };
    let awareness_over = awareness(DOCUMENT, vec![0; MAX_AWARENESS_BYTES + 1].into());
    let request_id = |request_id: String| PushUpdateRequest { request_id, ..push(DOCUMENT, updates::letter(9)) };
    vec![
        page("a page of 1,001 documents", 1_001, "", "page_size"),
        page("a page of 2^32 documents", u32::MAX, "", "page_size"),
        page("a page token of documents that is none", 0, "/", "page_token"),
        call("a document after a later revision", OPEN, after(1 << 40), ahead(1 << 40)),
        call("a document after the last revision", OPEN, after(u64::MAX), ahead(u64::MAX)),
        call(
            "an awareness over 4 KiB",
            SEND_AWARENESS,
            awareness_over,
            too_large("payload", MAX_AWARENESS_BYTES, MAX_AWARENESS_BYTES + 1),
        ),
        call("a request id of a push of 65 bytes", PUSH, request_id("i".repeat(65)), too_large("request_id", 64, 65)),
    ]
}

pub fn missing() -> Vec<Call> {
    let letter = || updates::letter(9);
    let nowhere = "rooms/nowhere/documents/a";
    let there = "rooms/elsewhere/documents/a";
    let no_room = || refused(Code::NotFound, Reason::RoomNotFound);
    let exists = || refused(Code::AlreadyExists, Reason::DocumentExists);
    let push_there = PushUpdateRequest { create: Some(false), ..push(MISSING, letter()) };
    let orphan = PushUpdateRequest { create: Some(false), ..push(MISSING, updates::orphan(9, 3)) };
    let open_there = OpenDocumentRequest { create: Some(false), ..open(MISSING) };
    vec![
        call("a push to a missing document", PUSH, push_there, no_document()),
        call("a late push to a missing document", PUSH, orphan, no_document()),
        call("a missing document to open", OPEN, open_there, no_document()),
        call("a missing document to describe", DESCRIBE, describe(MISSING), no_document()),
        call("a missing document to rename", RENAME, rename(MISSING, "rooms/here/documents/new"), no_document()),
        call("a missing document to delete", DELETE_DOCUMENT, delete(MISSING), no_document()),
        call("awareness in a missing document", SEND_AWARENESS, awareness(MISSING, Bytes::new()), no_document()),
        call("a renaming onto another document", RENAME, rename(DOCUMENT, "rooms/here/documents/other"), exists()),
        call("a renaming into another room", RENAME, rename(DOCUMENT, there), other_room()),
        call("a push in an unknown room", PUSH, push(nowhere, letter()), no_room()),
        call("a document of an unknown room to open", OPEN, open(nowhere), no_room()),
        call("a document of an unknown room to describe", DESCRIBE, describe(nowhere), no_room()),
        call("documents of an unknown room", LIST_DOCUMENTS, list("rooms/nowhere", 0, ""), no_room()),
        call("a renaming in an unknown room", RENAME, rename(nowhere, nowhere), no_room()),
        call("a deletion in an unknown room", DELETE_DOCUMENT, delete(nowhere), no_room()),
        call("awareness in an unknown room", SEND_AWARENESS, awareness(nowhere, Bytes::new()), no_room()),
        call("a document that only another room has", DESCRIBE, describe(&there_of(OTHER_ROOM)), no_document()),
    ]
}

/// The path of [`DOCUMENT`] in another room.
fn there_of(room: &str) -> String {
    DOCUMENT.replacen(ROOM, room, 1)
}

pub fn list(parent: &str, page_size: u32, page_token: &str) -> ListDocumentsRequest {
    ListDocumentsRequest { parent: parent.into(), page_size, page_token: page_token.into(), ..Default::default() }
}
