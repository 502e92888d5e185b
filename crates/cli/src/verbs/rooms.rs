//! `conclave rooms …`

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use conclave_client::Client;
use conclave_proto::v1;
use conclave_types::RoomName;
use serde_json::{Value, json};

use super::print;
use crate::flags::{Labels, Output, RoomsCommand};

const COLUMNS: [&str; 6] = ["name", "uid", "etag", "revision", "metadata", "annotations"];

pub async fn run(client: &Client, output: Output, command: RoomsCommand) -> Result<()> {
    let rooms = match command {
        RoomsCommand::Create { room, labels } => vec![create(client, &room, labels).await?],
        RoomsCommand::Get { room } => {
            let request = v1::GetRoomRequest { name: name(&room), ..Default::default() };
            vec![client.get_room(request).await?.room.context("the answer has no room")?]
        }
        RoomsCommand::List { page_size } => list(client, page_size).await?,
        RoomsCommand::Update { room, labels, etag } => vec![update(client, &room, labels, etag).await?],
        RoomsCommand::Delete { room, etag } => {
            let etag = etag.unwrap_or_default();
            client.delete_room(v1::DeleteRoomRequest { name: name(&room), etag, ..Default::default() }).await?;
            return Ok(());
        }
    };
    print::records(output, &COLUMNS, &rooms.iter().map(record).collect::<Vec<_>>())
}

async fn create(client: &Client, room: &RoomName, labels: Labels) -> Result<v1::Room> {
    let request = v1::CreateRoomRequest {
        name: name(room),
        metadata: labels.metadata.into_iter().collect(),
        annotations: labels.annotations.into_iter().collect(),
        ..Default::default()
    };
    client.create_room(request).await?.room.context("the answer has no room")
}

async fn list(client: &Client, page_size: u32) -> Result<Vec<v1::Room>> {
    let mut rooms = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListRoomsRequest { page_size, page_token, ..Default::default() };
        let page = client.list_rooms(request).await?;
        rooms.extend(page.rooms);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(rooms);
        }
    }
}

/// Replaces only the labels that were given.
async fn update(client: &Client, room: &RoomName, labels: Labels, etag: Option<String>) -> Result<v1::Room> {
    let given = |labels: &Vec<(String, String)>, path: &str| (!labels.is_empty()).then(|| path.to_owned());
    let paths = given(&labels.metadata, "metadata").into_iter().chain(given(&labels.annotations, "annotations"));
    let request = v1::UpdateRoomRequest {
        name: name(room),
        update_mask: Some(prost_types::FieldMask { paths: paths.collect() }),
        metadata: labels.metadata.into_iter().collect::<BTreeMap<_, _>>(),
        annotations: labels.annotations.into_iter().collect::<BTreeMap<_, _>>(),
        etag: etag.unwrap_or_default(),
        ..Default::default()
    };
    client.update_room(request).await?.room.context("the answer has no room")
}

pub fn name(room: &RoomName) -> String {
    format!("rooms/{room}")
}

fn record(room: &v1::Room) -> Vec<Value> {
    vec![
        json!(room.name),
        json!(room.uid),
        json!(room.etag),
        json!(room.revision),
        json!(room.metadata),
        json!(room.annotations),
    ]
}
