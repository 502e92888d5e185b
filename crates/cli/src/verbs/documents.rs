//! `conclave room sync …`

use anyhow::{Context, Result, bail};
use conclave_client::{Client, ClientError, UpdateKind};
use conclave_proto::v1;
use conclave_types::RoomName;
use serde_json::{Value, json};

use super::events::{self, RECONNECT_FOR};
use super::{print, rooms};
use crate::flags::{DocumentArgs, FollowArgs, Output, SyncCommand};

pub async fn run(client: &Client, output: Output, command: SyncCommand) -> Result<()> {
    match command {
        SyncCommand::List { room } => list(client, output, &room).await,
        SyncCommand::Show(target) => show(client, output, &target).await,
        SyncCommand::Create(target) => create(client, output, &target).await,
        SyncCommand::Push { target, update_file, no_create } => {
            let mut pushed = Vec::new();
            for path in &update_file {
                let update = std::fs::read(path).with_context(|| path.display().to_string())?.into();
                let create = Some(!no_create);
                let request = v1::PushUpdateRequest { name: name(&target), update, create, ..Default::default() };
                let response = client.push_update(request).await.with_context(|| path.display().to_string())?;
                pushed.push(vec![json!(path.display().to_string()), json!(response.revision)]);
            }
            print::records(output, &["update", "revision"], &pushed)
        }
        SyncCommand::Follow { target, follow } => run_follow(client, output, &target, &follow).await,
        SyncCommand::Rename { target, new_document } => {
            let new_name = format!("{}/documents/{new_document}", rooms::name(&target.room));
            let request = v1::RenameDocumentRequest { name: name(&target), new_name, ..Default::default() };
            let revision = client.rename_document(request).await?.revision;
            print_changed(output, new_document.as_str(), revision)
        }
        SyncCommand::Delete(target) => {
            let request = v1::DeleteDocumentRequest { name: name(&target), ..Default::default() };
            let revision = client.delete_document(request).await?.revision;
            print_changed(output, target.document.as_str(), revision)
        }
    }
}

async fn list(client: &Client, output: Output, room: &RoomName) -> Result<()> {
    let mut documents = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListDocumentsRequest { parent: rooms::name(room), page_token, ..Default::default() };
        let page = client.list_documents(request).await?;
        documents.extend(page.documents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return print_documents(output, &documents);
        }
    }
}

async fn show(client: &Client, output: Output, target: &DocumentArgs) -> Result<()> {
    let described = describe(client, target).await?;
    let contents: Value = serde_json::from_str(&described.json).context("the document's JSON cannot be read")?;
    let shown = match output {
        Output::Table => contents,
        Output::Json => {
            let document = described.document.unwrap_or_default();
            json!({"document": path(&document), "revision": document.revision, "contents": contents})
        }
    };
    print::line(&serde_json::to_string_pretty(&shown)?)
}

/// Opening a document makes it; there is nothing to push.
async fn create(client: &Client, output: Output, target: &DocumentArgs) -> Result<()> {
    let request = v1::OpenDocumentRequest { name: name(target), create: Some(true), ..Default::default() };
    let mut stream = client.open_document(request).await?;
    loop {
        match stream.next().await.transpose()? {
            Some(update) if matches!(update.kind, UpdateKind::Live(_)) => break,
            Some(_) => {}
            None => bail!("the document was closed before it was there"),
        }
    }
    let document = describe(client, target).await?.document.context("the answer has no document")?;
    print_documents(output, &[document])
}

async fn run_follow(client: &Client, output: Output, target: &DocumentArgs, follow: &FollowArgs) -> Result<()> {
    let request = v1::OpenDocumentRequest {
        name: name(target),
        after_revision: follow.after_revision,
        create: Some(false),
        ..Default::default()
    };
    let mut stream = client.open_document(request).await?.reconnecting(RECONNECT_FOR);
    events::print_all(output, &follow.end, async || stream.next().await).await
}

async fn describe(client: &Client, target: &DocumentArgs) -> Result<v1::DescribeDocumentResponse, ClientError> {
    client.describe_document(v1::DescribeDocumentRequest { name: name(target), ..Default::default() }).await
}

fn print_documents(output: Output, documents: &[v1::Document]) -> Result<()> {
    let record = |document: &v1::Document| {
        let changed = document.update_time.map(|time| time.to_string());
        let counts = [document.revision, document.update_count, document.update_bytes].map(|count| json!(count));
        [vec![json!(path(document))], counts.to_vec(), vec![json!(changed)]].concat()
    };
    let columns = ["document", "revision", "update_count", "update_bytes", "update_time"];
    print::records(output, &columns, &documents.iter().map(record).collect::<Vec<_>>())
}

fn print_changed(output: Output, path: &str, revision: u64) -> Result<()> {
    print::records(output, &["document", "revision"], &[vec![json!(path), json!(revision)]])
}

fn name(target: &DocumentArgs) -> String {
    format!("{}/documents/{}", rooms::name(&target.room), target.document)
}

/// The path without its room.
fn path(document: &v1::Document) -> &str {
    document.name.split_once("/documents/").map_or(document.name.as_str(), |(_, path)| path)
}
