//! Runs the rarer errands, on rooms of their own that come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use conclave_client::{ClientError, EventStream, UpdateKind};
use conclave_document::{Edit, Replica};
use conclave_proto::v1::{
    AttachParticipantRequest, CreateRoomRequest, DeleteDocumentRequest, DeleteRoomRequest, DetachParticipantRequest,
    ErrorReason, GetRoomRequest, ListParticipantsRequest, ListRoomsRequest, NewMessage, PushUpdateRequest,
    ReceiveEphemeralRequest, RenameDocumentRequest, Room, SendAwarenessRequest, SendEphemeralRequest,
    UpdateRoomRequest, WatchParticipantsRequest, WatchRoomRequest,
};
use conclave_types::YjsClient;
use tokio::time::timeout;

use super::actor::{ANSWER_WITHIN, Actor};
use super::reply::outcome_of;
use crate::history::{ErrandCall, ErrandTold, Outcome};
use crate::news::ROOT;

/// Rooms that come and go.
const ROOMS: u16 = 2;
/// Metadata that says who wrote the room's present state.
const LABEL: &str = "label";
/// Yjs clients of scratch documents, apart from all others.
const SCRATCH_CLIENTS: u64 = 1 << 41;
/// How long a stream is listened to.
const LISTENS_FOR: Duration = Duration::from_millis(300);

/// What an actor has read of a room, for the next condition.
#[derive(Clone)]
struct Seen {
    label: u32,
    etag: String,
}

/// One actor's errands. `base`: a room that stays, for what needs one.
pub async fn run(mut actor: Actor, base: String) {
    let (number, mut serial) = (actor.number, 0);
    let mut seen: Vec<Option<Seen>> = vec![None; usize::from(ROOMS)];
    while actor.turn().await {
        let room = actor.dice.roll(usize::from(ROOMS)) as u16;
        let name = format!("rooms/{base}-{room}");
        serial += 1;
        // Labels of two actors never meet.
        let label = number * 1_000_000 + serial;
        match actor.dice.roll(12) {
            0 | 1 => create(&actor, room, name, label).await,
            2..=4 => {
                let read = get(&actor, room, name).await;
                seen[usize::from(room)] = read.or(seen[usize::from(room)].take());
            }
            5 | 6 => {
                let condition = seen[usize::from(room)].clone().filter(|_| actor.dice.roll(4) > 0);
                update(&actor, room, name, label, condition).await;
            }
            7 => delete(&actor, room, name).await,
            8 => {
                let request = ListRoomsRequest::default();
                actor.errand(ErrandCall::ListRooms, actor.client.list_rooms(request)).await;
            }
            9 => documents(&actor, &base, serial).await,
            10 => people(&actor, &base).await,
            _ => listen(&actor, &base).await,
        }
    }
}

async fn create(actor: &Actor, room: u16, name: String, label: u32) {
    let metadata = labelled(label);
    let request = CreateRoomRequest { name, metadata, request_id: format!("create-{label}"), ..Default::default() };
    let call = ErrandCall::CreateRoom { room, label };
    actor.told(call, actor.client.create_room(request), |_| ErrandTold::Done).await;
}

async fn get(actor: &Actor, room: u16, name: String) -> Option<Seen> {
    let request = GetRoomRequest { name, ..Default::default() };
    let seen = |room: &Option<Room>| {
        let room = room.as_ref()?;
        Some(Seen { label: room.metadata.get(LABEL)?.parse().ok()?, etag: room.etag.clone() })
    };
    let told = |seen: Option<Seen>| match seen {
        Some(seen) => ErrandTold::Label(seen.label),
        None => ErrandTold::Refused("a room without a label".to_owned()),
    };
    let call = ErrandCall::GetRoom { room };
    let answer = actor.told(call, actor.client.get_room(request), |answer| told(seen(&answer.room))).await;
    answer.and_then(|answer| seen(&answer.room))
}

async fn update(actor: &Actor, room: u16, name: String, label: u32, condition: Option<Seen>) {
    let call = ErrandCall::UpdateRoom { room, label, expected: condition.as_ref().map(|seen| seen.label) };
    let etag = condition.map(|seen| seen.etag).unwrap_or_default();
    let metadata = labelled(label);
    let request =
        UpdateRoomRequest { name, metadata, etag, request_id: format!("update-{label}"), ..Default::default() };
    actor.told(call, actor.client.update_room(request), |_| ErrandTold::Done).await;
}

async fn delete(actor: &Actor, room: u16, name: String) {
    let request = DeleteRoomRequest { name, ..Default::default() };
    actor.told(ErrandCall::DeleteRoom { room }, actor.client.delete_room(request), |_| ErrandTold::Done).await;
}

fn labelled(label: u32) -> BTreeMap<String, String> {
    [(LABEL.to_owned(), label.to_string())].into()
}

/// A document is typed into, seen to, renamed and deleted.
async fn documents(actor: &Actor, base: &str, serial: u32) {
    let name = |suffix: &str| format!("rooms/{base}/documents/scratch-{}-{serial}{suffix}", actor.number);
    let client = YjsClient(SCRATCH_CLIENTS + (u64::from(actor.number) << 20) + u64::from(serial));
    let mut replica = Replica::new(client);
    let Ok(update) = replica.edit(ROOT, &[Edit { at: 0, delete: 0, insert: "scratch".to_owned() }]) else { return };
    let push = PushUpdateRequest { name: name(""), update, ..Default::default() };
    if !matches!(timeout(ANSWER_WITHIN, actor.client.push_update(push)).await, Ok(Ok(_))) {
        return;
    }
    let awareness = SendAwarenessRequest { name: name(""), payload: "here".into() };
    actor.errand(ErrandCall::SendAwareness, actor.client.send_awareness(awareness)).await;
    let rename = RenameDocumentRequest { name: name(""), new_name: name("-renamed"), ..Default::default() };
    actor.errand(ErrandCall::RenameDocument, actor.client.rename_document(rename)).await;
    let delete = DeleteDocumentRequest { name: name("-renamed"), ..Default::default() };
    actor.errand(ErrandCall::DeleteDocument, actor.client.delete_document(delete)).await;
}

/// The participant comes, looks who is there, says something, and goes.
async fn people(actor: &Actor, base: &str) {
    let parent = format!("rooms/{base}");
    let attach = AttachParticipantRequest { parent: parent.clone(), replace: true, ..Default::default() };
    let attached = actor.errand(ErrandCall::AttachParticipant, actor.client.attach_participant(attach)).await;
    let list = ListParticipantsRequest { parent: parent.clone(), ..Default::default() };
    actor.errand(ErrandCall::ListParticipants, actor.client.list_participants(list)).await;
    let message = Some(NewMessage { r#type: "errand".into(), body: "passing by".into(), ..Default::default() });
    let say = SendEphemeralRequest { parent: parent.clone(), message, ..Default::default() };
    actor.errand(ErrandCall::SendEphemeral, actor.client.send_ephemeral(say)).await;
    if let Some(participant) = attached.and_then(|attached| attached.participant) {
        let detach = DetachParticipantRequest { name: participant.name, uid: participant.uid };
        actor.errand(ErrandCall::DetachParticipant, actor.client.detach_participant(detach)).await;
    }
}

/// Each stream of a room is opened and listened to for a moment.
async fn listen(actor: &Actor, base: &str) {
    let name = format!("rooms/{base}");
    let receive = ReceiveEphemeralRequest { parent: name.clone(), ..Default::default() };
    let stream = actor.errand(ErrandCall::ReceiveEphemeral, actor.client.receive_ephemeral(receive)).await;
    hear(stream).await;
    let watch = WatchParticipantsRequest { parent: name.clone() };
    let stream = actor.errand(ErrandCall::WatchParticipants, actor.client.watch_participants(watch)).await;
    hear(stream).await;
    let watch = WatchRoomRequest { name, ..Default::default() };
    let stream = actor.errand(ErrandCall::WatchRoom, actor.client.watch_room(watch)).await;
    hear(stream).await;
}

async fn hear<R: conclave_client::StreamRequest>(stream: Option<EventStream<R>>) {
    let Some(mut stream) = stream else { return };
    let listening = async {
        while let Some(Ok(update)) = stream.next().await {
            if matches!(update.kind, UpdateKind::Live(_)) {
                return;
            }
        }
    };
    // Whether it was live by then is the stream's matter.
    let _ = timeout(LISTENS_FOR, listening).await;
}

impl Actor {
    /// An errand that is only to be answered.
    async fn errand<T>(&self, call: ErrandCall, asked: impl Future<Output = Result<T, ClientError>>) -> Option<T> {
        self.told(call, asked, |_| ErrandTold::Done).await
    }

    /// An errand and what its answer says.
    async fn told<T>(
        &self,
        call: ErrandCall,
        asked: impl Future<Output = Result<T, ClientError>>,
        says: impl FnOnce(&T) -> ErrandTold,
    ) -> Option<T> {
        let open = self.recorder.set_out(self.number, call);
        let answer = timeout(ANSWER_WITHIN, asked).await;
        let told = match &answer {
            Err(_late) => ErrandTold::Unknown("no answer in time".to_owned()),
            Ok(Ok(answer)) => says(answer),
            Ok(Err(error)) => refusal(error),
        };
        self.recorder.come_back(open, told);
        answer.ok().and_then(Result::ok)
    }
}

fn refusal(error: &ClientError) -> ErrandTold {
    match error.reason {
        Some(ErrorReason::RoomNotFound) => ErrandTold::Absent,
        Some(ErrorReason::RoomExists) => ErrandTold::Present,
        Some(ErrorReason::EtagMismatch) => ErrandTold::Mismatch,
        _ => match outcome_of(error) {
            Outcome::Refused { reason } => ErrandTold::Refused(reason),
            _ => ErrandTold::Unknown(error.to_string()),
        },
    }
}
