//! Sends items to queues: batches, by a session for some turns and by calls with a request id for others.

use conclave_proto::v1::{NewItem, SendItemsRequest, SendItemsResponse};

use super::actor::Actor;
use super::reply::Told;
use super::{QUEUES, queue_name};
use crate::history::{Answer, Call, Value};

/// Most items of one send.
const BATCH: usize = 4;
/// Turns by a session before as many by calls.
const TURNS: usize = 50;

fn request(queue: &str, values: &[Value], request_id: String) -> SendItemsRequest {
    let items = values.iter().map(|value| NewItem { body: value.body(), ..Default::default() }).collect();
    SendItemsRequest { parent: queue.to_owned(), items, request_id, ..Default::default() }
}

fn sent(response: &SendItemsResponse) -> (u64, Answer) {
    (response.revision, Answer::Sent { first_item: response.first_item })
}

pub async fn send(mut actor: Actor) {
    let mut values = Values { writer: actor.recorder.next_writer(), serial: 0 };
    loop {
        let Some(attached) = actor.attach().await else { return };
        for _ in 0..TURNS {
            if !actor.turn().await {
                break;
            }
            let (queue, name, batch) = values.next(&mut actor);
            let send = || attached.session.send_items(request(&name, &batch, String::new()));
            let call = Call::Send { queue, values: batch.clone() };
            if matches!(actor.ask(Some(attached.number), call, send, sent).await, Told::Unknown) {
                break;
            }
        }
        attached.close().await;
        for _ in 0..TURNS {
            if !actor.turn().await {
                break;
            }
            let (queue, name, batch) = values.next(&mut actor);
            let request = request(&name, &batch, format!("send-{}", batch[0]));
            let call = Call::Send { queue, values: batch };
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
    /// A queue, its name, and the batch for it.
    fn next(&mut self, actor: &mut Actor) -> (u16, String, Vec<Value>) {
        let queue = actor.dice.roll(usize::from(QUEUES)) as u16;
        let first = self.serial + 1;
        self.serial += 1 + actor.dice.roll(BATCH) as u32;
        let values = (first..=self.serial).map(|serial| Value { writer: self.writer, serial }).collect();
        (queue, queue_name(&actor.name, queue), values)
    }
}
