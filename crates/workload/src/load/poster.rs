//! Posts to the room's log: in bursts by a session, and by calls with a request id that are made again.

use conclave_client::ClientError;
use conclave_proto::v1::{GetRoomRequest, GetRoomResponse, NewMessage, PostMessageRequest, PostMessageResponse};
use tonic::Code;

use super::actor::{Actor, Attached};
use super::reply::Told;
use crate::history::{Answer, Call, Value};

/// Posts in flight at once.
const BURST: usize = 3;
/// Turns of a hundred in which a session is ended and another one begun.
const LEAVING: usize = 2;
/// Calls of a hundred that are made again although they were acknowledged.
const AGAIN: usize = 10;
/// How often a call whose outcome is unknown is made again with its request id.
const ATTEMPTS: usize = 3;

fn request(room: &str, value: Value, request_id: String) -> PostMessageRequest {
    let message = Some(NewMessage { r#type: "load".into(), body: value.body(), ..Default::default() });
    PostMessageRequest { parent: room.to_owned(), message, request_id }
}

fn posted(response: &PostMessageResponse) -> (u64, Answer) {
    (response.revision, Answer::Done)
}

/// Bursts of posts by a session, and reads between them that must see them.
pub async fn post_in_session(mut actor: Actor) {
    let (writer, mut serial) = (actor.recorder.next_writer(), 0);
    while let Some(attached) = actor.attach().await {
        while actor.turn().await {
            let burst = 1 + actor.dice.roll(BURST) as u32;
            let values = (serial + 1..=serial + burst).map(|serial| Value { writer, serial });
            serial += burst;
            let replies = values.map(|value| post(&actor, &attached, value));
            let told = futures::future::join_all(replies).await;
            let lost = told.iter().any(|told| matches!(told, Told::Unknown));
            if lost || matches!(get_room(&actor, &attached).await, Told::Unknown) {
                break;
            }
            if actor.dice.roll(100) < LEAVING {
                attached.close().await;
                break;
            }
        }
    }
}

async fn post(actor: &Actor, attached: &Attached, value: Value) -> Told<PostMessageResponse> {
    let send = || attached.session.post_message(request(&actor.name, value, String::new()));
    actor.ask(Some(attached.number), Call::Post { value, again: false }, send, posted).await
}

async fn get_room(actor: &Actor, attached: &Attached) -> Told<GetRoomResponse> {
    let request = GetRoomRequest { name: actor.name.clone(), ..Default::default() };
    let send = || attached.session.get_room(request);
    actor.ask(Some(attached.number), Call::GetRoom, send, |read: &GetRoomResponse| (read.revision, Answer::Done)).await
}

/// Calls with a request id. One that got no answer is made again and stays one operation; one that was acknowledged is
/// sometimes made again as another, and must get the same answer.
pub async fn post_by_calls(mut actor: Actor) {
    let (writer, mut serial) = (actor.recorder.next_writer(), 0);
    while actor.turn().await {
        serial += 1;
        let value = Value { writer, serial };
        let again = actor.dice.roll(100) < AGAIN;
        let told = actor.ask(None, Call::Post { value, again: false }, || call(&actor, value), posted).await;
        if again && matches!(told, Told::Done(_)) {
            // Its answer is recorded; there is nothing to do about it here.
            let _ = actor.ask(None, Call::Post { value, again: true }, || call(&actor, value), posted).await;
        }
    }
}

/// The first answer that is one. If none is, the first error: what came of that attempt decides whether the write may
/// have happened.
async fn call(actor: &Actor, value: Value) -> Result<PostMessageResponse, ClientError> {
    let request = || request(&actor.name, value, format!("post-{value}"));
    let first = match actor.client.post_message(request()).await {
        Err(error) if error.code == Code::Unavailable => error,
        answer => return answer,
    };
    for _ in 1..ATTEMPTS {
        if let Ok(answer) = actor.client.post_message(request()).await {
            return Ok(answer);
        }
    }
    Err(first)
}

/// Posts so many messages at once, each by a call of its own.
pub async fn flood(actor: Actor, posts: u32) {
    let writer = actor.recorder.next_writer();
    let post = async |serial: u32| {
        let value = Value { writer, serial };
        let request = request(&actor.name, value, format!("flood-{value}"));
        let call = Call::Post { value, again: false };
        // Its outcome is recorded; most are refused, which is what a flood is for.
        let _ = actor.ask(None, call, || actor.client.post_message(request), posted).await;
    };
    futures::future::join_all((1..=posts).map(post)).await;
}
