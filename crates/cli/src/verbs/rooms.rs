//! `conclave rooms …`

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use conclave_client::Client;
use conclave_proto::v1;
use conclave_types::RoomName;
use conclave_types::limits::{DEFAULT_MAX_LOG_BYTES, DEFAULT_MAX_MESSAGES};
use serde_json::{Value, json};

use super::events::{self, RECONNECT_FOR};
use super::print;
use crate::flags::{FollowArgs, Labels, Output, Retention, RoomsCommand, WatchTopic};

const COLUMNS: [&str; 6] = ["name", "uid", "etag", "revision", "metadata", "annotations"];

pub async fn run(client: &Client, output: Output, command: RoomsCommand) -> Result<()> {
    let rooms = match command {
        RoomsCommand::Create { room, labels } => vec![create(client, &room, labels).await?],
        RoomsCommand::Get { room } => {
            let request = v1::GetRoomRequest { name: name(&room), ..Default::default() };
            vec![client.get_room(request).await?.room.context("the answer has no room")?]
        }
        RoomsCommand::List { page_size } => list(client, page_size).await?,
        RoomsCommand::Update { room, labels, retention, etag } => {
            vec![update(client, &room, labels, &retention, etag).await?]
        }
        RoomsCommand::Delete { room, etag } => {
            let etag = etag.unwrap_or_default();
            client.delete_room(v1::DeleteRoomRequest { name: name(&room), etag, ..Default::default() }).await?;
            return Ok(());
        }
        RoomsCommand::Watch { room, topics, follow } => return watch(client, output, &room, &topics, &follow).await,
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

/// Replaces only what was given.
async fn update(
    client: &Client,
    room: &RoomName,
    labels: Labels,
    retention: &Retention,
    etag: Option<String>,
) -> Result<v1::Room> {
    let message_retention = message_retention(retention)?;
    let given = [
        (!labels.metadata.is_empty(), "metadata"),
        (!labels.annotations.is_empty(), "annotations"),
        (message_retention.is_some(), "message_retention"),
    ];
    let paths = given.into_iter().filter(|(given, _)| *given).map(|(_, path)| path.to_owned());
    let request = v1::UpdateRoomRequest {
        name: name(room),
        update_mask: Some(prost_types::FieldMask { paths: paths.collect() }),
        metadata: labels.metadata.into_iter().collect::<BTreeMap<_, _>>(),
        annotations: labels.annotations.into_iter().collect::<BTreeMap<_, _>>(),
        etag: etag.unwrap_or_default(),
        message_retention,
        ..Default::default()
    };
    client.update_room(request).await?.room.context("the answer has no room")
}

fn message_retention(given: &Retention) -> Result<Option<v1::MessageRetention>> {
    let Retention { max_messages, max_message_bytes, max_message_age } = *given;
    if max_messages.is_none() && max_message_bytes.is_none() && max_message_age.is_none() {
        return Ok(None);
    }
    Ok(Some(v1::MessageRetention {
        max_messages: max_messages.unwrap_or(DEFAULT_MAX_MESSAGES),
        max_bytes: max_message_bytes.unwrap_or(DEFAULT_MAX_LOG_BYTES),
        max_age: max_message_age.map(TryInto::try_into).transpose()?,
    }))
}

async fn watch(
    client: &Client,
    output: Output,
    room: &RoomName,
    topics: &[WatchTopic],
    follow: &FollowArgs,
) -> Result<()> {
    let topic = |topic: &WatchTopic| match topic {
        WatchTopic::Documents => v1::Topic::Documents.into(),
        WatchTopic::Messages => v1::Topic::Messages.into(),
        WatchTopic::Queues => v1::Topic::Queues.into(),
        WatchTopic::Participants => v1::Topic::Participants.into(),
    };
    let request = v1::WatchRoomRequest {
        name: name(room),
        after_revision: follow.after_revision,
        topics: topics.iter().map(topic).collect(),
    };
    let mut stream = client.watch_room(request).await?.reconnecting(RECONNECT_FOR);
    events::print_all(output, &follow.end, async || stream.next().await).await
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
