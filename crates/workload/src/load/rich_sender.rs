//! Sends items with wishes: groups, delays, priorities, and message ids that are sent a second time.

use std::time::Duration;

use conclave_proto::v1::{NewItem, SendItemsRequest};

use super::actor::Actor;
use super::queue_name;
use super::queues::RICH;
use super::reply::Told;
use super::sender::sent;
use crate::history::{Call, ItemOptions, Value};

/// Most new items of one send.
const BATCH: usize = 3;
/// Turns by a session before as many by calls.
const TURNS: usize = 50;
/// Sends of a hundred that bring what was sent just before once more.
const AGAIN: usize = 20;
/// Items of a hundred that have each of these; of those that have a group none has a delay.
const GROUPED: usize = 40;
const DELAYED: usize = 15;
const PRIORITISED: usize = 30;
const NAMED: usize = 60;
const GROUPS: usize = 3;
/// Longest delay: well beyond what a lease may be off, far below the length of a run.
const DELAY: Duration = Duration::from_secs(5);

type Batch = Vec<(Value, ItemOptions)>;

pub async fn send(mut actor: Actor) {
    let mut items = Items { writer: actor.recorder.next_writer(), serial: 0, sends: 0, last: Vec::new() };
    loop {
        let Some(attached) = actor.attach().await else { return };
        for _ in 0..TURNS {
            if !actor.turn().await {
                break;
            }
            let batch = items.next(&mut actor);
            let request = request(&actor.name, &batch, String::new());
            let send = || attached.session.send_items(request);
            if matches!(actor.ask(Some(attached.number), call(&batch), send, sent).await, Told::Unknown) {
                break;
            }
        }
        attached.close().await;
        for _ in 0..TURNS {
            if !actor.turn().await {
                break;
            }
            let batch = items.next(&mut actor);
            // Of the send, not of its items: what is sent again is another request.
            let request_id = format!("rich-{}-{}", items.writer, items.sends);
            let request = request(&actor.name, &batch, request_id);
            // Its outcome is recorded, and the next batch is another matter, also where it repeats this one.
            let _ = actor.ask(None, call(&batch), || actor.client.send_items(request), sent).await;
        }
    }
}

fn call(batch: &Batch) -> Call {
    let (values, options) = batch.iter().copied().unzip();
    Call::Send { queue: RICH, values, options }
}

fn request(room: &str, batch: &Batch, request_id: String) -> SendItemsRequest {
    let items = batch.iter().map(|(value, options)| NewItem {
        body: value.body(),
        priority: options.priority.into(),
        delay: (options.delay_ms > 0).then(|| Duration::from_millis(options.delay_ms).try_into().ok()).flatten(),
        group: options.group.map(|group| format!("group-{group}")).unwrap_or_default(),
        message_id: if options.named { value.to_string() } else { String::new() },
        ..Default::default()
    });
    SendItemsRequest { parent: queue_name(room, RICH), items: items.collect(), request_id, ..Default::default() }
}

struct Items {
    writer: u32,
    serial: u32,
    sends: u32,
    /// What the last send brought that had a message id.
    last: Batch,
}

impl Items {
    fn next(&mut self, actor: &mut Actor) -> Batch {
        self.sends += 1;
        let mut batch = Vec::new();
        if actor.dice.roll(100) < AGAIN {
            batch.extend(self.last.iter().map(|(value, options)| (*value, ItemOptions { again: true, ..*options })));
        }
        // One that repeats something may bring nothing new.
        let fewest = usize::from(batch.is_empty());
        for _ in 0..fewest + actor.dice.roll(BATCH) {
            self.serial += 1;
            batch.push((Value { writer: self.writer, serial: self.serial }, options(actor)));
        }
        self.last = batch.iter().copied().filter(|(_, options)| options.named && !options.again).collect();
        batch
    }
}

fn options(actor: &mut Actor) -> ItemOptions {
    let mut has = |of_hundred| actor.dice.roll(100) < of_hundred;
    let (is_grouped, is_delayed, is_prioritised) = (has(GROUPED), has(DELAYED), has(PRIORITISED));
    let named = has(NAMED);
    ItemOptions {
        priority: if is_prioritised { 1 + actor.dice.roll(9) as u8 } else { 0 },
        delay_ms: if is_delayed && !is_grouped { 1 + actor.dice.time(DELAY).as_millis() as u64 } else { 0 },
        group: is_grouped.then(|| actor.dice.roll(GROUPS) as u16),
        named,
        again: false,
    }
}
