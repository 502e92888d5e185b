//! Begins a stream: from Hello to Welcome.
//!
//! A new session needs no command; its record is made by its first durable frame. Taking up a session is a command that
//! is committed before Welcome, because it fences every older stream of the session.

use std::sync::Arc;

use conclave_auth::{Claims, ResumeToken};
use conclave_proto::resource::{QueuePath, RoomPath};
use conclave_proto::{time, v1};
use conclave_room::{Command, Operation, Origin, Outcome, Refusal};
use conclave_types::limits::{
    MAX_BATCH_ITEMS, MAX_FRAME_BYTES, MAX_ITEM_BYTES, MAX_MESSAGE_BYTES, MAX_SUBSCRIPTIONS, MAX_UNACKNOWLEDGED_BYTES,
    MAX_UNACKNOWLEDGED_FRAMES, MAX_UPDATE_BYTES, SESSION_EXPIRY_MS,
};
use conclave_types::{AttachmentNumber, QueueName, RoomName, RoomUid, Sequence, SessionId};

use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::reads::InRoom;
use crate::secrets::Secrets;
use crate::shard::Shard;

/// Whose stream this is, and in which room.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub room: RoomUid,
    pub room_name: RoomName,
    pub session: SessionId,
    pub attachment: AttachmentNumber,
    /// The highest sequence that earlier streams of the session had sent.
    pub sent: Sequence,
}

impl Attachment {
    /// A request on this stream may name only this room.
    pub fn same_room(&self, name: &str) -> Result<(), Fault> {
        let RoomPath { room } = name.parse::<RoomPath>()?;
        if room == self.room_name { Ok(()) } else { Err(Fault::other_room()) }
    }

    pub fn in_room(&self) -> InRoom {
        InRoom { uid: self.room, name: self.room_name.clone() }
    }

    pub fn queue(&self, name: &str) -> Result<QueueName, Fault> {
        let QueuePath { room, queue } = name.parse::<QueuePath>()?;
        if room == self.room_name { Ok(queue) } else { Err(Fault::other_room()) }
    }
}

/// Attaches the stream that began with `hello` and returns what to welcome it with.
pub async fn attach(
    shard: &Shard,
    leading: &Arc<Leading>,
    claims: &Claims,
    secrets: &Secrets,
    room_name: RoomName,
    room: RoomUid,
    hello: v1::Hello,
) -> Result<(Attachment, v1::Welcome), Fault> {
    let now = leading.time.stamp();
    let (session, attachment, resumed) = match hello.resume_token.is_empty() {
        true => (secrets.new_session()?, AttachmentNumber(1), false),
        false => {
            let token = secrets.open_resume_token(&hello.resume_token)?;
            if token.room != room || token.participant != claims.participant || token.project != claims.project {
                return Err(Fault::resume_token_invalid());
            }
            resume(leading, secrets, &token, hello.unanswered).await?
        }
    };
    let token = ResumeToken {
        session,
        attachment,
        room,
        project: claims.project.clone(),
        participant: claims.participant.clone(),
        issued: now,
    };
    let welcome = v1::Welcome {
        resume_token: secrets.seal_resume_token(&token).into(),
        room_uid: room.to_string(),
        revision: shard.room_revision(room)?.0,
        limits: Some(limits()),
        resumed,
    };
    let sent = Sequence(if resumed { hello.sent_sequence } else { 0 });
    Ok((Attachment { room, room_name, session, attachment, sent }, welcome))
}

/// Takes up a session, or begins a new one when nothing of the old is at stake.
async fn resume(
    leading: &Leading,
    secrets: &Secrets,
    token: &ResumeToken,
    unanswered: bool,
) -> Result<(SessionId, AttachmentNumber, bool), Fault> {
    let operation = Operation::AttachSession {
        room: token.room,
        session: token.session,
        owner: token.participant.clone(),
        presented: token.attachment,
        issued: token.issued,
        unacknowledged: unanswered,
    };
    let origin = Origin::Call { participant: token.participant.clone() };
    match leading.proposer.propose_in_turn(Command { origin, operation }).await.map_err(faults::unproposed)? {
        Outcome::Attached { attachment } => Ok((token.session, attachment, true)),
        Outcome::SessionUnknown => Ok((secrets.new_session()?, AttachmentNumber(1), false)),
        Outcome::Refused(Refusal::SessionForeign) => Err(Fault::resume_token_invalid()),
        Outcome::Refused(refusal) => Err(refusal.into()),
        other => Err(faults::other_outcome("attach", &other)),
    }
}

fn limits() -> v1::Limits {
    v1::Limits {
        max_frame_bytes: MAX_FRAME_BYTES as u32,
        max_unacknowledged_frames: MAX_UNACKNOWLEDGED_FRAMES as u32,
        max_unacknowledged_bytes: MAX_UNACKNOWLEDGED_BYTES as u32,
        max_item_bytes: MAX_ITEM_BYTES as u32,
        max_batch_items: MAX_BATCH_ITEMS as u32,
        session_expiry: Some(time::duration_of_ms(SESSION_EXPIRY_MS)),
        max_update_bytes: MAX_UPDATE_BYTES as u32,
        max_message_bytes: MAX_MESSAGE_BYTES as u32,
        max_subscriptions: MAX_SUBSCRIPTIONS as u32,
    }
}
