//! Messages on their way in: the ephemeral ones through the hub alone, the durable ones into the log.
//!
//! An ephemeral message costs one encoding and one place in the ring of the room's channel, however many listen, and for
//! each listener a look at a flag and, if its stream sleeps, a wake. Sketch, for 4,000 messages of 100 bytes a second to
//! 100 listeners: 400,000 flags (some ns each), at most as many wakes, 4,000 encodings of two copies; the copy of 100
//! bytes into each listener's frame happens in the listener's own task. No lock is held while a listener works, and a
//! listener that does not read costs its place in the list.
//!
//! What is named reaches only those who were attached when it was sent; what is stored nowhere needs no order but each
//! sender's, which the session keeps.

use std::sync::Arc;

use conclave_auth::Claims;
use conclave_proto::events::EncodedEvent;
use conclave_proto::messages::encode_given_message;
use conclave_proto::resource::RoomPath;
use conclave_proto::v1;
use conclave_room::Operation;
use conclave_types::limits::MAX_RECEIVERS;
use conclave_types::{ParticipantName, Revision, RoomName, RoomUid, SessionId};

use crate::faults::Fault;
use crate::hub::{About, Audience, Channel, Published};
use crate::leadership::Leading;
use crate::scope;

/// Hands a message to those who listen now: to the participants that it names, or to all. The sending session is not
/// told.
pub fn send(
    leading: &Leading,
    claims: &Claims,
    room: RoomUid,
    room_name: &RoomName,
    from: Option<SessionId>,
    request: v1::SendEphemeralRequest,
) -> Result<v1::SendEphemeralResponse, Fault> {
    let RoomPath { room: named } = request.parent.parse()?;
    if named != *room_name {
        return Err(Fault::other_room());
    }
    match request.to.len() {
        0 => scope::messaging_broadcast(claims)?,
        1..=MAX_RECEIVERS => scope::messaging_send(claims)?,
        named => return Err(Fault::too_large("to", MAX_RECEIVERS, named)),
    }
    let message = encode_given_message(request.message.as_ref())?;
    let (audience, to, missing) = audience(leading, room, request.to)?;
    let time = leading.time.stamp();
    let lane = v1::Lane::Ephemeral;
    let event = EncodedEvent::message(0, time, claims.participant.as_str(), &message, lane, &to);
    let published = Published {
        revision: Revision(0),
        origin: from,
        audience,
        about: About::Ephemeral,
        ends_channel: false,
        event,
    };
    let receivers = leading.hub.publish(room, Channel::Ephemeral, [Arc::new(published)]);
    Ok(v1::SendEphemeralResponse { receiver_count: receivers as u32, lane: lane.into(), missing })
}

/// Who may see a message to these names, the names that somebody is attached under, and the others.
fn audience(
    leading: &Leading,
    room: RoomUid,
    mut names: Vec<String>,
) -> Result<(Audience, Vec<String>, Vec<String>), Fault> {
    let Some(first) = names.first().cloned() else { return Ok((Audience::All, Vec::new(), Vec::new())) };
    let (holders, missing) = leading.presence.resolve(room, &names);
    if holders.is_empty() {
        return Err(Fault::participant_not_found(&first));
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|name| missing.binary_search(name).is_err());
    Ok((Audience::Only(holders.into()), names, missing))
}

/// The operation that posts a message to the room's log.
pub fn admit_post(room: RoomUid, sender: ParticipantName, request: v1::PostMessageRequest) -> Result<Operation, Fault> {
    Ok(Operation::PostMessage { room, sender, message: encode_given_message(request.message.as_ref())? })
}
