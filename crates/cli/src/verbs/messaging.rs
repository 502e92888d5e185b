//! `conclave room messaging …`

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use conclave_client::{Client, Session};
use conclave_proto::v1;
use conclave_types::RoomName;
use serde_json::json;

use super::events::{self, RECONNECT_FOR};
use super::payload::{self, Content};
use super::{participants, print, rooms};
use crate::flags::{EndArgs, FollowArgs, MessageArgs, MessagingCommand, Output};
use crate::roles::told_to_stop;

pub async fn run(client: &Client, output: Output, command: MessagingCommand) -> Result<()> {
    match command {
        MessagingCommand::Post { room, message } => post(client, output, &room, message).await,
        MessagingCommand::Follow { room, follow } => run_follow(client, output, &room, &follow).await,
        MessagingCommand::Send { room, to, message } => send(client, output, &room, to, message).await,
        MessagingCommand::Broadcast { room, message } => send(client, output, &room, Vec::new(), message).await,
        MessagingCommand::Listen { room, participant, limit } => {
            listen(client, output, &room, participant, limit).await
        }
        MessagingCommand::List { room } => participants::list(client, output, &room).await,
    }
}

async fn post(client: &Client, output: Output, room: &RoomName, message: MessageArgs) -> Result<()> {
    let mut posted = Vec::new();
    for message in messages(message)? {
        let request =
            v1::PostMessageRequest { parent: rooms::name(room), message: Some(message), ..Default::default() };
        let response = client.post_message(request).await.with_context(|| failed_after(posted.len()))?;
        posted.push(vec![json!(response.revision), json!(events::lane(response.lane()))]);
    }
    print::records(output, &["revision", "lane"], &posted)
}

async fn run_follow(client: &Client, output: Output, room: &RoomName, follow: &FollowArgs) -> Result<()> {
    let request = v1::FollowMessagesRequest { parent: rooms::name(room), after_revision: follow.after_revision };
    let mut stream = client.follow_messages(request).await?.reconnecting(RECONNECT_FOR);
    events::print_all(output, &follow.end, async || stream.next().await).await
}

/// To those named, or to all if nobody is.
async fn send(client: &Client, output: Output, room: &RoomName, to: Vec<String>, message: MessageArgs) -> Result<()> {
    let mut sent = Vec::new();
    for message in messages(message)? {
        let request = v1::SendEphemeralRequest { parent: rooms::name(room), message: Some(message), to: to.clone() };
        let response = client.send_ephemeral(request).await.with_context(|| failed_after(sent.len()))?;
        let lane = events::lane(response.lane());
        sent.push(vec![json!(lane), json!(response.receiver_count), json!(response.missing)]);
    }
    print::records(output, &["lane", "receivers", "missing"], &sent)
}

/// A session, because it keeps the participant attached and itself connected.
async fn listen(
    client: &Client,
    output: Output,
    room: &RoomName,
    participant: Option<String>,
    limit: Option<u64>,
) -> Result<()> {
    let session = Session::open(client, &rooms::name(room)).await?;
    if let Some(participant) = participant {
        let request = v1::AttachParticipantRequest { parent: rooms::name(room), participant, ..Default::default() };
        session.attach_participant(request).await?;
    }
    let resource = format!("{}/ephemeral", rooms::name(room));
    let mut messages = session.subscribe(v1::Subscribe { resource, ..Default::default() }).await?;
    let end = EndArgs { limit, until_live: false };
    let printed = tokio::select! {
        printed = events::print_all(output, &end, async || messages.next().await) => printed,
        stop = told_to_stop() => stop,
        lost = session.detached() => Err(lost.into()),
    };
    drop(messages);
    session.close().await;
    printed
}

fn messages(message: MessageArgs) -> Result<Vec<v1::NewMessage>> {
    let headers: BTreeMap<_, _> = message.headers.into_iter().collect();
    let new = |Content { body, content_type }| v1::NewMessage {
        r#type: message.kind.clone(),
        body,
        content_type: content_type.to_owned(),
        headers: headers.clone(),
    };
    Ok(payload::read(message.payload)?.into_iter().map(new).collect())
}

fn failed_after(taken: usize) -> String {
    format!("message {} of those given", taken + 1)
}
