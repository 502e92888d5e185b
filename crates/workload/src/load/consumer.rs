//! Takes items out of queues by receives: most are acknowledged at once, some never (their lease ends), some too late. Of
//! the rich queue each has its fate.

use std::collections::VecDeque;
use std::time::Duration;

use conclave_proto::v1::ack_deliveries_response::Result as Acknowledged;
use conclave_proto::v1::{
    AckDeliveriesRequest, AckDeliveriesResponse, Delivery as Delivered, DeliveryId, ReceiveItemsRequest,
    ReceiveItemsResponse,
};
use tokio::time::Instant;

use super::actor::{Actor, Attached};
use super::fate::Fates;
use super::queue_name;
use super::queues::{PLAIN, RICH};
use super::reply::Told;
use crate::history::{AckResult, Answer, Call, Delivery, Received, Value};

/// Most items of one receive.
const RECEIVE_ITEMS: usize = 6;
/// Long against the way to the acknowledgement, short enough that many leases end in a run.
pub const LEASE: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_millis(500);
/// Deliveries of a hundred that are forgotten, and that are acknowledged only after their lease has ended.
const FORGOTTEN: usize = 4;
const LATE: usize = 4;
/// When a late acknowledgement leaves, counted from its delivery.
pub const LATE_AFTER: Duration = Duration::from_secs(7);
/// Turns of a hundred in which a consumer goes away with all that it holds.
const LEAVING: usize = 2;

pub async fn consume(mut actor: Actor) {
    let mut late: VecDeque<(Instant, Delivery)> = VecDeque::new();
    while let Some(attached) = actor.attach().await {
        while actor.turn().await {
            let Told::Done(received) = receive(&actor, &attached, PLAIN).await else { break };
            let mut deliveries = Vec::new();
            for delivery in received.deliveries.iter().map(delivery) {
                match actor.dice.roll(100) {
                    roll if roll < FORGOTTEN => {}
                    roll if roll < FORGOTTEN + LATE => late.push_back((Instant::now() + LATE_AFTER, delivery)),
                    _ => deliveries.push(delivery),
                }
            }
            let mut lost = !deliveries.is_empty() && !ack(&actor, Some(&attached), PLAIN, deliveries).await.is_known();
            if let Some((_, delivery)) = late.pop_front_if(|(due, _)| *due <= Instant::now()) {
                lost |= !ack(&actor, Some(&attached), PLAIN, vec![delivery]).await.is_known();
            }
            if lost || actor.dice.roll(100) < LEAVING {
                break;
            }
        }
        attached.close().await;
    }
}

/// A consumer of the rich queue.
pub async fn consume_rich(mut actor: Actor) {
    let mut fates = Fates::default();
    while let Some(attached) = actor.attach().await {
        while actor.turn().await {
            let Told::Done(received) = receive(&actor, &attached, RICH).await else { break };
            for delivered in &received.deliveries {
                fates.decide(&mut actor, delivery(delivered));
            }
            if !fates.settle(&mut actor, Some(&attached)).await || actor.dice.roll(100) < LEAVING {
                break;
            }
        }
        attached.close().await;
    }
}

async fn receive(actor: &Actor, attached: &Attached, queue: u16) -> Told<ReceiveItemsResponse> {
    let request = receive_request(&actor.name, queue, 1 + RECEIVE_ITEMS as u32 / 2, WAIT, LEASE);
    let call = Call::Receive { queue, lease_ms: LEASE.as_millis() as u64 };
    actor.ask(Some(attached.number), call, || attached.session.receive_items(request), received).await
}

/// A receive of one of a room's queues.
pub fn receive_request(room: &str, queue: u16, most: u32, wait: Duration, lease: Duration) -> ReceiveItemsRequest {
    ReceiveItemsRequest {
        parent: queue_name(room, queue),
        max_items: most,
        wait: wait.try_into().ok(),
        lease: lease.try_into().ok(),
        ..Default::default()
    }
}

/// What a receive's answer says.
pub fn received(response: &ReceiveItemsResponse) -> (u64, Answer) {
    let deliveries = response.deliveries.iter().map(received_one).collect();
    (response.revision, Answer::Received { deliveries })
}

/// What one delivery says.
pub fn received_one(delivered: &Delivered) -> Received {
    Received {
        delivery: delivery(delivered),
        value: Value::of_body(&delivered.body),
        sent_revision: delivered.revision,
    }
}

pub fn delivery(delivered: &Delivered) -> Delivery {
    let DeliveryId { item, attempt } = delivered.id.unwrap_or_default();
    Delivery { item, attempt }
}

/// Acknowledges by a session, or by a call with a request id.
pub async fn ack(
    actor: &Actor,
    attached: Option<&Attached>,
    queue: u16,
    deliveries: Vec<Delivery>,
) -> Told<AckDeliveriesResponse> {
    let mut request = AckDeliveriesRequest {
        parent: queue_name(&actor.name, queue),
        deliveries: ids(&deliveries),
        ..Default::default()
    };
    let acked = |response: &AckDeliveriesResponse| settled(response.revision, response.results());
    match attached {
        Some(Attached { session, number }) => {
            let call = Call::Ack { queue, deliveries };
            actor.ask(Some(*number), call, || session.ack_deliveries(request), acked).await
        }
        None => {
            request.request_id = request_id(actor, "ack", queue, &deliveries);
            let call = Call::Ack { queue, deliveries };
            actor.ask(None, call, || actor.client.ack_deliveries(request), acked).await
        }
    }
}

pub fn ids(deliveries: &[Delivery]) -> Vec<DeliveryId> {
    deliveries.iter().map(|Delivery { item, attempt }| DeliveryId { item: *item, attempt: *attempt }).collect()
}

/// Of what a consumer says of some deliveries; it says the same of one delivery once. Items are numbered by queue.
pub fn request_id(actor: &Actor, what: &str, queue: u16, deliveries: &[Delivery]) -> String {
    let Delivery { item, attempt } = deliveries.first().copied().unwrap_or_default();
    format!("{what}-{}-{queue}-{item}-{attempt}", actor.number)
}

/// What the answer to an acknowledgement says, or to its like.
pub fn settled(revision: u64, results: impl Iterator<Item = Acknowledged>) -> (u64, Answer) {
    let results = results.map(|result| match result {
        Acknowledged::Acked => AckResult::Acked,
        Acknowledged::AlreadyAcked => AckResult::AlreadyAcked,
        Acknowledged::Stale => AckResult::Stale,
        Acknowledged::Unspecified => AckResult::Unspecified,
    });
    (revision, Answer::Acked { results: results.collect() })
}
