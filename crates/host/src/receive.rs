//! Receives items for a consumer: leases what is ready, or waits for it.
//!
//! A lease is a command, so it survives this host. The wait is not: it lives in leader memory, and a receive that loses
//! its host is sent again by the gateway. What the first try had leased comes back then, because the lease remembers
//! the receive that took it.

use std::sync::Arc;
use std::time::Duration;

use conclave_faults::{Point, reached};
use conclave_proto::{items, v1};
use conclave_room::{Command, DeliveredItem, Operation, Origin, Outcome, Receiver};
use conclave_types::{ParticipantName, QueueName, Revision, RoomUid, Timestamp};
use tokio::time::Instant;

use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::outlook::{Outlook, Taker};
use crate::shard::Shard;
use crate::waiters::Place;

pub struct Receive {
    pub room: RoomUid,
    pub queue: QueueName,
    pub create: bool,
    pub max_items: u32,
    pub lease_ms: u64,
    pub wait: Duration,
    pub consumer: String,
    pub participant: ParticipantName,
    pub receiver: Receiver,
    /// The receive was sent before: what it leased then is returned first.
    pub again: bool,
    /// At most once: what is delivered is gone.
    pub take: bool,
}

/// Runs a receive to its end: deliveries, an empty reply after the wait, or a fault.
pub async fn receive(
    shard: &Shard,
    leading: &Arc<Leading>,
    request: Receive,
) -> Result<v1::ReceiveItemsResponse, Fault> {
    let until = Instant::now() + request.wait;
    let mut must_ask = request.again || matches!(request.receiver, Receiver::Request { .. });
    let taker = request.taker();
    // Join before looking: a send in between wakes this receive.
    let mut place = leading.waiters.join(request.room, &request.queue);
    loop {
        let outlook = taker.outlook(shard)?;
        if must_ask || outlook == Outlook::Some {
            let leased = lease(leading, &request).await?;
            if !leased.0.is_empty() {
                tell_what_is_left(shard, &taker, &mut place)?;
                return response(leased, leading.time.stamp());
            }
            must_ask = false;
        }
        if outlook == Outlook::ConsumerIsFull {
            // Not in the line: it would only pass on what others can use.
            drop(place);
            if !freed(shard, leading, &taker, until).await? {
                let place = leading.waiters.join(request.room, &request.queue);
                return empty(shard, leading, &request, &taker, place).await;
            }
            place = leading.waiters.join(request.room, &request.queue);
            continue;
        }
        taker.room_is_there(shard)?;
        place.left_nothing();
        tokio::select! {
            biased;
            () = place.woken() => {}
            () = leading.ended.cancelled() => return Err(shard.not_leader()),
            () = tokio::time::sleep_until(until) => return empty(shard, leading, &request, &taker, place).await,
        }
    }
}

/// Waits until the taker's consumer holds less than it may, or the time is over. Returns whether it does.
pub async fn freed(shard: &Shard, leading: &Leading, taker: &Taker, until: Instant) -> Result<bool, Fault> {
    loop {
        let mut full = leading.waiters.while_full(taker.room, &taker.queue, &taker.consumer);
        if taker.outlook(shard)? != Outlook::ConsumerIsFull {
            return Ok(true);
        }
        taker.room_is_there(shard)?;
        tokio::select! {
            biased;
            () = full.freed() => {}
            () = leading.ended.cancelled() => return Err(shard.not_leader()),
            () = tokio::time::sleep_until(until) => return Ok(false),
        }
    }
}

/// The empty answer. It says that nothing was ready, so the leadership is confirmed first, and what came up meanwhile
/// is still taken.
async fn empty(
    shard: &Shard,
    leading: &Leading,
    request: &Receive,
    taker: &Taker,
    mut place: Place<'_>,
) -> Result<v1::ReceiveItemsResponse, Fault> {
    shard.read_barrier().await?;
    let leased = match taker.outlook(shard)? {
        Outlook::Some => lease(leading, request).await?,
        Outlook::Nothing | Outlook::ConsumerIsFull => (Vec::new(), shard.room_revision(request.room)?),
    };
    tell_what_is_left(shard, taker, &mut place)?;
    response(leased, leading.time.stamp())
}

/// The next in line is woken only if more is ready than was taken: who is woken for nothing may look again just after
/// the one behind it took what came.
pub fn tell_what_is_left(shard: &Shard, taker: &Taker, place: &mut Place<'_>) -> Result<(), Fault> {
    match taker.outlook(shard)? {
        // Full: others may not be.
        Outlook::Some | Outlook::ConsumerIsFull => place.left_some(),
        Outlook::Nothing => place.left_nothing(),
    }
    Ok(())
}

impl Receive {
    fn taker(&self) -> Taker {
        Taker {
            room: self.room,
            queue: self.queue.clone(),
            consumer: self.consumer.clone(),
            take: self.take,
            window: 0,
        }
    }
}

async fn lease(leading: &Leading, request: &Receive) -> Result<(Vec<DeliveredItem>, Revision), Fault> {
    let operation = Operation::LeaseItems {
        room: request.room,
        queue: request.queue.clone(),
        create: request.create,
        max_items: request.max_items,
        lease_ms: request.lease_ms,
        consumer: request.consumer.clone(),
        receiver: request.receiver.clone(),
        again: request.again,
        take: request.take,
        window: 0,
    };
    propose_lease(leading, request.participant.clone(), operation).await
}

/// Proposes a lease and waits for what it brings.
pub async fn propose_lease(
    leading: &Leading,
    participant: ParticipantName,
    operation: Operation,
) -> Result<(Vec<DeliveredItem>, Revision), Fault> {
    let origin = Origin::Call { participant };
    match leading.proposer.propose_in_turn(Command { origin, operation }).await.map_err(faults::unproposed)? {
        Outcome::Leased { deliveries, revision } => {
            if !deliveries.is_empty() {
                reached(Point::LeaseCommitted);
            }
            Ok((deliveries, revision))
        }
        Outcome::Refused(refusal) => Err(refusal.into()),
        other => Err(faults::other_outcome("receive", &other)),
    }
}

fn response(
    (deliveries, revision): (Vec<DeliveredItem>, Revision),
    now: Timestamp,
) -> Result<v1::ReceiveItemsResponse, Fault> {
    let deliveries = deliveries.into_iter().map(|delivered| items::delivery(delivered, now));
    let deliveries = deliveries.collect::<Result<_, _>>().map_err(|reason| faults::unreadable(&reason))?;
    Ok(v1::ReceiveItemsResponse { deliveries, revision: revision.0 })
}
