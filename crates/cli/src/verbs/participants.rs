//! `conclave room participants …`

use anyhow::{Context, Result};
use conclave_client::{Client, Session};
use conclave_proto::v1;
use conclave_types::RoomName;
use serde_json::json;

use super::events::{self, RECONNECT_FOR};
use super::{print, rooms};
use crate::flags::{AttachArgs, Output, ParticipantsCommand};
use crate::roles::told_to_stop;

pub async fn run(client: &Client, output: Output, command: ParticipantsCommand) -> Result<()> {
    match command {
        ParticipantsCommand::List { room } => list(client, output, &room).await,
        ParticipantsCommand::Watch { room, end } => {
            let request = v1::WatchParticipantsRequest { parent: rooms::name(&room) };
            let mut stream = client.watch_participants(request).await?.reconnecting(RECONNECT_FOR);
            events::print_all(output, &end, async || stream.next().await).await
        }
        ParticipantsCommand::Attach(attach) => run_attach(client, output, attach).await,
    }
}

pub async fn list(client: &Client, output: Output, room: &RoomName) -> Result<()> {
    let mut participants = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListParticipantsRequest { parent: rooms::name(room), page_token, ..Default::default() };
        let page = client.list_participants(request).await?;
        participants.extend(page.participants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return print_participants(output, &participants);
        }
    }
}

/// Holds a session, which keeps the participant attached; its orderly end takes the participant out.
async fn run_attach(client: &Client, output: Output, attach: AttachArgs) -> Result<()> {
    let session = Session::open(client, &rooms::name(&attach.room)).await?;
    let request = v1::AttachParticipantRequest {
        parent: rooms::name(&attach.room),
        participant: attach.name.unwrap_or_default(),
        role: attach.role.unwrap_or_default(),
        attributes: attach.attributes.into_iter().collect(),
        lease: Some(attach.lease.try_into()?),
        replace: attach.replace,
        ..Default::default()
    };
    let attached = session.attach_participant(request).await?;
    print_participants(output, &[attached.participant.context("the answer has no participant")?])?;
    let held = tokio::select! {
        stop = told_to_stop() => stop,
        lost = session.detached() => Err(lost.into()),
    };
    session.close().await;
    held
}

fn print_participants(output: Output, participants: &[v1::Participant]) -> Result<()> {
    let record = |participant: &v1::Participant| {
        let since = participant.create_time.map(|time| time.to_string());
        vec![
            json!(events::short_name(participant)),
            json!(participant.identity),
            json!(participant.role),
            json!(participant.attributes),
            json!(since),
            json!(participant.uid),
        ]
    };
    let columns = ["name", "identity", "role", "attributes", "attached", "uid"];
    print::records(output, &columns, &participants.iter().map(record).collect::<Vec<_>>())
}
