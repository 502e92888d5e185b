//! What consumers of the rich queue do with a delivery: everything that can be done.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use conclave_proto::v1::{ExtendLeasesRequest, ExtendLeasesResponse, NackDeliveriesRequest, NackDeliveriesResponse};
use tokio::time::Instant;

use super::actor::{Actor, Attached};
use super::consumer::{LATE_AFTER, ack, ids, request_id, settled};
use super::queue_name;
use super::queues::RICH;
use super::reply::Told;
use crate::history::{Call, Delivery};

/// Deliveries of a hundred with each fate; the others are acknowledged at once.
const FORGOTTEN: usize = 5;
const LATE: usize = 5;
const GIVEN_BACK: usize = 10;
const REJECTED: usize = 4;
const EXTENDED: usize = 6;
/// Longest wait of what is given back with one.
const DELAY: Duration = Duration::from_secs(5);
/// An extension, and when within it the acknowledgement leaves.
const EXTENSION: Duration = Duration::from_secs(6);
const ACKED_WITHIN: Duration = Duration::from_secs(4);

/// What one consumer is going to do.
#[derive(Default)]
pub struct Fates {
    acked: Vec<Delivery>,
    given_back: Vec<Delivery>,
    rejected: Vec<Delivery>,
    extended: Vec<Delivery>,
    /// Acknowledged later, by time.
    later: VecDeque<(Instant, Delivery)>,
    /// What is in one of these, or was forgotten: it may be handed out again meanwhile.
    decided: BTreeSet<Delivery>,
}

impl Fates {
    /// Decides once what becomes of a delivery.
    pub fn decide(&mut self, actor: &mut Actor, delivery: Delivery) {
        if !self.decided.insert(delivery) {
            return;
        }
        let roll = actor.dice.roll(100);
        let mut below = 0;
        let mut is = |share| {
            below += share;
            roll < below
        };
        if is(FORGOTTEN) {
        } else if is(LATE) {
            self.acknowledge_after(LATE_AFTER, delivery);
        } else if is(GIVEN_BACK) {
            self.given_back.push(delivery);
        } else if is(REJECTED) {
            self.rejected.push(delivery);
        } else if is(EXTENDED) {
            self.extended.push(delivery);
        } else {
            self.acked.push(delivery);
        }
    }

    fn acknowledge_after(&mut self, wait: Duration, delivery: Delivery) {
        let due = Instant::now() + wait;
        let place = self.later.partition_point(|(other, _)| *other <= due);
        self.later.insert(place, (due, delivery));
    }

    /// Does what is due, by a session or by calls. False if it is not known what came of something.
    pub async fn settle(&mut self, actor: &mut Actor, attached: Option<&Attached>) -> bool {
        let mut acked = std::mem::take(&mut self.acked);
        while let Some((_, delivery)) = self.later.pop_front_if(|(due, _)| *due <= Instant::now()) {
            acked.push(delivery);
        }
        let mut is_known = true;
        if !acked.is_empty() {
            is_known &= ack(actor, attached, RICH, acked).await.is_known();
        }
        let given_back = std::mem::take(&mut self.given_back);
        if !given_back.is_empty() {
            let delay = (actor.dice.roll(2) == 0).then(|| actor.dice.time(DELAY));
            is_known &= nack(actor, attached, given_back, delay, false).await.is_known();
        }
        let rejected = std::mem::take(&mut self.rejected);
        if !rejected.is_empty() {
            is_known &= nack(actor, attached, rejected, None, true).await.is_known();
        }
        let extended = std::mem::take(&mut self.extended);
        if !extended.is_empty() {
            extended.iter().for_each(|delivery| self.acknowledge_after(actor.dice.time(ACKED_WITHIN), *delivery));
            is_known &= extend(actor, attached, extended, EXTENSION).await.is_known();
        }
        is_known
    }
}

async fn nack(
    actor: &Actor,
    attached: Option<&Attached>,
    deliveries: Vec<Delivery>,
    delay: Option<Duration>,
    reject: bool,
) -> Told<NackDeliveriesResponse> {
    let request = NackDeliveriesRequest {
        parent: queue_name(&actor.name, RICH),
        deliveries: ids(&deliveries),
        delay: delay.and_then(|delay| delay.try_into().ok()),
        reject,
        reason: "as the dice fell".to_owned(),
        request_id: attached.map_or_else(|| request_id(actor, "nack", RICH, &deliveries), |_| String::new()),
    };
    let delay_ms = delay.map(|delay| delay.as_millis() as u64);
    let call = Call::Nack { queue: RICH, deliveries, delay_ms, reject };
    let answer = |told: &NackDeliveriesResponse| settled(told.revision, told.results());
    match attached {
        Some(Attached { session, number }) => {
            actor.ask(Some(*number), call, || session.nack_deliveries(request), answer).await
        }
        None => actor.ask(None, call, || actor.client.nack_deliveries(request), answer).await,
    }
}

async fn extend(
    actor: &Actor,
    attached: Option<&Attached>,
    deliveries: Vec<Delivery>,
    lease: Duration,
) -> Told<ExtendLeasesResponse> {
    let request = ExtendLeasesRequest {
        parent: queue_name(&actor.name, RICH),
        deliveries: ids(&deliveries),
        lease: lease.try_into().ok(),
        request_id: attached.map_or_else(|| request_id(actor, "extend", RICH, &deliveries), |_| String::new()),
    };
    let call = Call::Extend { queue: RICH, deliveries, lease_ms: lease.as_millis() as u64 };
    let answer = |told: &ExtendLeasesResponse| settled(told.revision, told.results());
    match attached {
        Some(Attached { session, number }) => {
            actor.ask(Some(*number), call, || session.extend_leases(request), answer).await
        }
        None => actor.ask(None, call, || actor.client.extend_leases(request), answer).await,
    }
}
