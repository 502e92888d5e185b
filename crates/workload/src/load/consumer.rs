//! Takes items out of queues: most are acknowledged at once, some never (their lease ends), some too late.

use std::collections::VecDeque;
use std::time::Duration;

use conclave_proto::v1::ack_deliveries_response::Result as Acknowledged;
use conclave_proto::v1::{
    AckDeliveriesRequest, AckDeliveriesResponse, DeliveryId, ReceiveItemsRequest, ReceiveItemsResponse,
};
use tokio::time::Instant;

use super::actor::{Actor, Attached};
use super::reply::Told;
use super::{QUEUES, queue_name};
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
const LATE_AFTER: Duration = Duration::from_secs(7);
/// Turns of a hundred in which a consumer goes away with all that it holds.
const LEAVING: usize = 2;

pub async fn consume(mut actor: Actor) {
    let mut late: VecDeque<(Instant, u16, Delivery)> = VecDeque::new();
    while let Some(attached) = actor.attach().await {
        while actor.turn().await {
            let queue = actor.dice.roll(usize::from(QUEUES)) as u16;
            let Told::Done(received) = receive(&actor, &attached, queue).await else { break };
            let mut deliveries = Vec::new();
            for delivery in received.deliveries.iter().filter_map(|delivery| delivery.id) {
                let delivery = Delivery { item: delivery.item, attempt: delivery.attempt };
                match actor.dice.roll(100) {
                    roll if roll < FORGOTTEN => {}
                    roll if roll < FORGOTTEN + LATE => late.push_back((Instant::now() + LATE_AFTER, queue, delivery)),
                    _ => deliveries.push(delivery),
                }
            }
            let mut lost = !deliveries.is_empty()
                && matches!(ack(&actor, Some(&attached), queue, deliveries).await, Told::Unknown);
            if let Some((_, queue, delivery)) = late.pop_front_if(|(due, ..)| *due <= Instant::now()) {
                lost |= matches!(ack(&actor, Some(&attached), queue, vec![delivery]).await, Told::Unknown);
            }
            if lost || actor.dice.roll(100) < LEAVING {
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
    let deliveries = response.deliveries.iter().map(|delivery| {
        let id = delivery.id.unwrap_or_default();
        Received {
            delivery: Delivery { item: id.item, attempt: id.attempt },
            value: Value::of_body(&delivery.body),
            sent_revision: delivery.revision,
        }
    });
    (response.revision, Answer::Received { deliveries: deliveries.collect() })
}

/// Acknowledges by a session, or by a call with a request id.
pub async fn ack(
    actor: &Actor,
    attached: Option<&Attached>,
    queue: u16,
    deliveries: Vec<Delivery>,
) -> Told<AckDeliveriesResponse> {
    let ids = deliveries.iter().map(|Delivery { item, attempt }| DeliveryId { item: *item, attempt: *attempt });
    let mut request = AckDeliveriesRequest {
        parent: queue_name(&actor.name, queue),
        deliveries: ids.collect(),
        ..Default::default()
    };
    let call = Call::Ack { queue, deliveries };
    match attached {
        Some(Attached { session, number }) => {
            actor.ask(Some(*number), call, || session.ack_deliveries(request), acked).await
        }
        None => {
            let first = request.deliveries.first().copied().unwrap_or_default();
            request.request_id = format!("ack-{}-{}-{}", actor.number, first.item, first.attempt);
            actor.ask(None, call, || actor.client.ack_deliveries(request), acked).await
        }
    }
}

fn acked(response: &AckDeliveriesResponse) -> (u64, Answer) {
    let results = response.results().map(|result| match result {
        Acknowledged::Acked => AckResult::Acked,
        Acknowledged::AlreadyAcked => AckResult::AlreadyAcked,
        Acknowledged::Stale => AckResult::Stale,
        Acknowledged::Unspecified => AckResult::Unspecified,
    });
    (response.revision, Answer::Acked { results: results.collect() })
}
