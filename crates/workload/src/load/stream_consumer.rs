//! Consumes the rich queue by a stream of deliveries, under one name for the whole run: who comes back gets what it holds.

use conclave_client::{ClientError, EventStream, Update, UpdateKind};
use conclave_proto::v1::ConsumeItemsRequest;
use conclave_proto::v1::event::Kind;
use tokio::time::timeout;

use super::actor::{ANSWER_WITHIN, Actor};
use super::consumer::{LEASE, delivery, received_one};
use super::fate::Fates;
use super::queue_name;
use super::queues::RICH;
use super::recorder::Consuming;
use crate::history::Handed;

/// Deliveries that it holds at once.
const WINDOW: u32 = 6;
/// Turns of a hundred after which the stream is dropped and asked for anew.
const LEAVING: usize = 4;

pub async fn consume(mut actor: Actor) {
    let consuming = actor.recorder.consume(actor.number, actor.room, RICH, LEASE);
    let mut fates = Fates::default();
    while actor.turn().await {
        let asked = actor.recorder.now();
        let opened = timeout(ANSWER_WITHIN, actor.client.consume_items(request(&actor))).await;
        let Ok(Ok(mut stream)) = opened else { continue };
        while next(&mut actor, &mut stream, &consuming, asked, &mut fates).await {}
    }
}

fn request(actor: &Actor) -> ConsumeItemsRequest {
    ConsumeItemsRequest {
        parent: queue_name(&actor.name, RICH),
        consumer: format!("stream-{}", actor.number),
        window: WINDOW,
        lease: LEASE.try_into().ok(),
    }
}

/// Takes what comes until a turn, and settles then; false when the stream is over.
async fn next(
    actor: &mut Actor,
    stream: &mut EventStream<ConsumeItemsRequest>,
    consuming: &Consuming,
    asked: u64,
    fates: &mut Fates,
) -> bool {
    tokio::select! {
        is_turn = actor.turn() => {
            if !is_turn {
                return false;
            }
            // What came of it is recorded; what nobody knows of comes back.
            fates.settle(actor, None).await;
            actor.dice.roll(100) >= LEAVING
        }
        told = stream.next() => take(actor, told, consuming, asked, fates),
    }
}

/// Takes what a stream told; false when it has ended.
fn take(
    actor: &mut Actor,
    told: Option<Result<Update, ClientError>>,
    consuming: &Consuming,
    asked: u64,
    fates: &mut Fates,
) -> bool {
    let Some(Ok(update)) = told else { return false };
    let UpdateKind::Events(batch) = update.kind else { return true };
    // What cannot be read is never acknowledged, and its queue is not empty in the end.
    let Ok(events) = batch.events() else { return false };
    for event in events {
        let Some(Kind::Delivery(delivered)) = event.kind else { continue };
        let (at, received) = (actor.recorder.now(), received_one(&delivered));
        let revision = (event.revision > 0).then_some(event.revision);
        actor.recorder.hand(consuming, Handed { asked, at, revision, received });
        fates.decide(actor, delivery(&delivered));
    }
    true
}
