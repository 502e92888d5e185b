//! Sends items to the plain queue: batches, by a session for some turns and by calls with a request id for others.

use conclave_proto::v1::{NewItem, SendItemsRequest, SendItemsResponse};

use super::actor::Actor;
use super::queue_name;
use super::queues::PLAIN;
use super::reply::Told;
use crate::history::{Answer, Call, Value};

/// Most items of one send.
const BATCH: usize = 4;
/// Turns by a session before as many by calls.
const TURNS: usize = 50;

fn request(queue: &str, values: &[Value], request_id: String) -> SendItemsRequest {
    SendItemsRequest { parent: queue.to_owned(), items: items(values), request_id, ..Default::default() }
}

/// Items that ask for nothing.
pub fn items(values: &[Value]) -> Vec<NewItem> {
    values.iter().map(|value| NewItem { body: value.body(), ..Default::default() }).collect()
}

/// What a send's answer says.
pub fn sent(response: &SendItemsResponse) -> (u64, Answer) {
    let SendItemsResponse { first_item, revision, duplicates } = response;
    (*revision, Answer::Sent { first_item: *first_item, duplicates: duplicates.clone() })
}

pub async fn send(mut actor: Actor) {
    let mut values = Values { writer: actor.recorder.next_writer(), serial: 0 };
    let name = queue_name(&actor.name, PLAIN);
    loop {
        let Some(attached) = actor.attach().await else { return };
        for _ in 0..TURNS {
            if !actor.turn().await {
                break;
            }
            let batch = values.next(&mut actor);
            let send = || attached.session.send_items(request(&name, &batch, String::new()));
            let call = Call::Send { queue: PLAIN, values: batch.clone(), options: Vec::new() };
            if matches!(actor.ask(Some(attached.number), call, send, sent).await, Told::Unknown) {
                break;
            }
        }
        attached.close().await;
        for _ in 0..TURNS {
            if !actor.turn().await {
                break;
            }
            let batch = values.next(&mut actor);
            let request = request(&name, &batch, format!("send-{}", batch[0]));
            let call = Call::Send { queue: PLAIN, values: batch, options: Vec::new() };
            // Its outcome is recorded, and the next batch is another matter.
            let _ = actor.ask(None, call, || actor.client.send_items(request), sent).await;
        }
    }
}

struct Values {
    writer: u32,
    serial: u32,
}

impl Values {
    /// The next batch.
    fn next(&mut self, actor: &mut Actor) -> Vec<Value> {
        let first = self.serial + 1;
        self.serial += 1 + actor.dice.roll(BATCH) as u32;
        (first..=self.serial).map(|serial| Value { writer: self.writer, serial }).collect()
    }
}
