//! Participants who want to be others, and more of them than fit.

use anyhow::{Context, Result, ensure};
use conclave_auth::Rights;
use conclave_client::ClientError;
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::server_frame::Body as Reply;
use conclave_proto::v1::{
    AttachParticipantRequest, ErrorReason as Reason, ListParticipantsRequest, Participant, SendEphemeralRequest,
};
use conclave_tests::raw::{RawClient, RawSession};
use conclave_types::limits::MAX_PARTICIPANTS;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::Code;

use super::{Story, hello, served};
use crate::calls::messages::{RECEIVE_EPHEMERAL, ephemeral, listen, message};
use crate::calls::participants::{ATTACH, DETACH, attach, detach};
use crate::expected::{Expected, invalid, nobody, refused};
use crate::place::{Place, ROOM, make_room};

pub fn all(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    vec![
        ("a participant name that is held", Box::pin(name_held(place))),
        ("a participant of another identity", Box::pin(another_identity(place))),
        ("more participants than a room takes", Box::pin(too_many(place))),
    ]
}

fn held(name: &str) -> Expected {
    refused(Code::AlreadyExists, Reason::ParticipantNameHeld).with("participant", name)
}

async fn name_held(place: &Place) -> Result<()> {
    let name = "admin#desk";
    let (mut holder, _) = place.admin.attach(hello(ROOM, &[])).await?;
    let attached = attached(&mut holder, 1, name).await?;
    ensure!(attached.identity == "admin", "{attached:?}");

    let (mut other, _) = place.admin.attach(hello(ROOM, &[])).await?;
    other.ask(1, Body::AttachParticipant(attach(name)));
    held(name).check(&other.reply(1).await?.err().context("one name for two sessions")?)?;
    let unary = place.client.attach_participant(attach(name)).await.err().context("one name for two")?;
    held(name).check(&unary)?;
    // Another session's participant is not this one's to take out either.
    let path = format!("{ROOM}/participants/{name}");
    other.ask(2, Body::DetachParticipant(detach(&path, "")));
    nobody(name).check(&other.reply(2).await?.err().context("taken out")?)?;

    still_reached(place, name).await?;
    holder.ask(2, Body::DetachParticipant(detach(&path, "")));
    served(&mut holder, 2).await?;
    // Free now.
    other.ask(3, Body::AttachParticipant(attach(name)));
    served(&mut other, 3).await
}

async fn another_identity(place: &Place) -> Result<()> {
    let name = "admin#phone";
    let attached = place.client.attach_participant(attach(name)).await?.participant.context("no participant")?;
    let thief = place.with("thief", Rights::admin())?;
    let own = AttachParticipantRequest { uid: attached.uid.clone(), ..attach("thief") };
    invalid("uid").check(&refusal(&thief, ATTACH, own).await?)?;
    let replacing = AttachParticipantRequest { replace: true, ..attach(name) };
    invalid("participant").check(&refusal(&thief, ATTACH, replacing).await?)?;
    let out = detach(&attached.name, &attached.uid);
    nobody(name).check(&refusal(&thief, DETACH, out).await?)?;
    let listening = listen(ROOM, &attached.uid);
    nobody(&attached.uid).check(&refusal(&thief, RECEIVE_EPHEMERAL, listening).await?)?;

    still_reached(place, name).await?;
    place.client.detach_participant(detach(&attached.name, &attached.uid)).await?;
    let gone = place.client.detach_participant(detach(&attached.name, &attached.uid)).await;
    nobody(name).check(&gone.err().context("taken out twice")?)
}

async fn too_many(place: &Place) -> Result<()> {
    let room = "rooms/full";
    make_room(&place.client, room).await?;
    let one = |number: usize| AttachParticipantRequest { parent: room.into(), ..attach(&format!("admin#{number}")) };
    let all = stream::iter(0..MAX_PARTICIPANTS).map(|number| place.client.attach_participant(one(number)));
    all.buffer_unordered(64).try_for_each(|_| async { Ok(()) }).await?;
    let limit = refused(Code::ResourceExhausted, Reason::ParticipantLimit).with("limit", MAX_PARTICIPANTS);
    let error = place.client.attach_participant(one(MAX_PARTICIPANTS)).await.err().context("one too many")?;
    limit.check(&error)?;
    let list = ListParticipantsRequest { parent: room.into(), page_size: 1_000, ..Default::default() };
    let listed = place.client.list_participants(list).await?;
    ensure!(listed.participants.len() == MAX_PARTICIPANTS, "{} are there", listed.participants.len());
    // Who is there already may still change.
    let renewed = AttachParticipantRequest { uid: listed.participants[0].uid.clone(), role: "first".into(), ..one(0) };
    place.client.attach_participant(renewed).await?;
    Ok(())
}

async fn attached(session: &mut RawSession, sequence: u64, name: &str) -> Result<Participant> {
    session.ask(sequence, Body::AttachParticipant(attach(name)));
    match session.reply(sequence).await?? {
        Reply::AttachParticipant(attached) => attached.participant.context("no participant"),
        other => anyhow::bail!("{other:?}"),
    }
}

/// A message to this name finds its participant.
async fn still_reached(place: &Place, name: &str) -> Result<()> {
    let request: SendEphemeralRequest = ephemeral(ROOM, message("still there?"), &[name]);
    let sent = place.client.send_ephemeral(request).await.context("the holder was harmed")?;
    ensure!(sent.missing.is_empty(), "{sent:?}");
    Ok(())
}

async fn refusal(client: &RawClient, method: &str, request: impl Message) -> Result<ClientError> {
    let answer = client.first(method, vec![request.encode_to_vec().into()]).await;
    Ok(answer.err().with_context(|| format!("{method} succeeded"))?.into())
}
