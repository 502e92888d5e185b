//! Leases ready items to a receiver, by priority and oldest first.
//!
//! The same receive sent again gets what it still holds, with the same attempts: nothing is delivered twice because a
//! reply was lost. A receive is known by its session and sequence, or by its request id; one with a request id is
//! always looked up, because its outcome (which holds bodies) is not kept elsewhere.
//! Invariant: an item has at most one lease, and each lease of it a higher attempt.
//!
//! A receive that takes (at most once) leases nothing: what it is given is gone.

use conclave_types::limits::MAX_BATCH_ITEMS;
use conclave_types::{DeliveryId, QueueName, RoomUid};

use super::{InFlight, Item, Past, Queue, QueueState};
use crate::codec::Record;
use crate::keys::{Keys, QueueTimer};
use crate::state::State;
use crate::{DeliveredItem, Outcome, Receiver, TableError, TableReads};

/// Bytes of items after which a lease takes no more: the reply has to fit a session frame of 1 MiB. A single item fits
/// always.
const MAX_LEASE_BYTES: usize = 704 << 10;
/// Items whose life is over that one lease removes on its way; the rest is the timer's.
const MAX_EXPIRED: usize = 256;

/// What a receive asks for.
pub(crate) struct Lease {
    pub room: RoomUid,
    pub queue: QueueName,
    pub create: bool,
    pub max_items: u32,
    /// 0 for the queue's.
    pub lease_ms: u64,
    pub consumer: String,
    pub receiver: Receiver,
    pub again: bool,
    pub take: bool,
    /// Most that the consumer may hold; 0 for no such bound.
    pub window: u32,
}

impl Lease {
    pub fn apply(self, state: &mut State<'_>) -> Result<Outcome, TableError> {
        let queue = match Queue::find_for(state, self.room, &self.queue, self.create)? {
            Ok(queue) => queue,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let deliveries = if self.may_hold_some() { self.held(state, &queue)? } else { Vec::new() };
        if !deliveries.is_empty() {
            return self.unchanged(state, deliveries);
        }
        match self.most(state, &queue)? {
            0 if !queue.is_new => self.unchanged(state, Vec::new()),
            0 => Ok(Outcome::Leased { deliveries: Vec::new(), revision: queue.store(state)? }),
            most => self.take(state, queue, most),
        }
    }

    fn may_hold_some(&self) -> bool {
        match self.receiver {
            Receiver::Unnamed | Receiver::Consumer { .. } => false,
            Receiver::Session { .. } => self.again,
            Receiver::Request { .. } => true,
        }
    }

    /// How many it may be given.
    fn most(&self, state: &State<'_>, queue: &Queue) -> Result<usize, TableError> {
        let settings = &queue.header.settings;
        if settings.state != QueueState::Active {
            return Ok(0);
        }
        let mut most = queue.header.ready().min(u64::from(self.max_items)).min(MAX_BATCH_ITEMS as u64);
        if self.take {
            return Ok(most as usize);
        }
        most = most.min(u64::from(settings.max_in_flight).saturating_sub(queue.header.leased));
        let bounds = [self.window, settings.max_in_flight_per_consumer];
        if let Some(bound) = bounds.into_iter().filter(|bound| *bound > 0).min()
            && most > 0
        {
            most = most.min(u64::from(bound).saturating_sub(queue.held_by(state, &self.consumer)?));
        }
        Ok(most as usize)
    }

    /// The reply of a lease that participants cannot see: the room's revision stays.
    fn unchanged(&self, state: &mut State<'_>, deliveries: Vec<DeliveredItem>) -> Result<Outcome, TableError> {
        let revision = state.revision(self.room)?;
        Ok(Outcome::Leased { deliveries, revision })
    }

    /// What this receiver leased before and has not lost. Looks through the records in flight, of which there are few.
    fn held(&self, state: &State<'_>, queue: &Queue) -> Result<Vec<DeliveredItem>, TableError> {
        if queue.header.leased == 0 {
            return Ok(Vec::new());
        }
        let range = Keys::items_from(state.keys.in_flight(self.room, queue.number, queue.header.leased_from));
        let mut held = Vec::new();
        for pair in state.overlay.scan(&range.start, &range.end) {
            let (key, value) = pair?;
            let in_flight = InFlight::decode(value)?;
            if in_flight.receiver == self.receiver && !in_flight.is_over(state.clock()) {
                let item = Keys::parse_item(&key)?;
                held.push(delivered(item, queue.item(state, item)?, &in_flight));
            }
        }
        Ok(held)
    }

    fn take(self, state: &mut State<'_>, mut queue: Queue, most: usize) -> Result<Outcome, TableError> {
        let (clock, revision) = (state.clock(), state.next_revision(self.room)?);
        let lease_ms = if self.lease_ms == 0 { queue.header.settings.lease_ms } else { self.lease_ms };
        let deadline = if self.take { clock } else { clock.plus_ms(lease_ms) };
        let mut deliveries = Vec::with_capacity(most);
        for (item, past, record) in choose(state, &mut queue, most)? {
            let past = Past { attempts: past.attempts.saturating_add(1), ..past };
            let in_flight = InFlight {
                deadline,
                consumer: self.consumer.clone(),
                receiver: self.receiver.clone(),
                is_special: record.is_special(),
                bytes: record.item.len() as u64,
                past,
            };
            if self.take {
                queue.remove(state, item, &record)?;
            } else {
                state.overlay.put(state.keys.in_flight(self.room, queue.number, item), in_flight.encode());
                let header = &mut queue.header;
                header.leased_from =
                    if header.leased == 0 && deliveries.is_empty() { item } else { header.leased_from.min(item) };
            }
            deliveries.push(delivered(item, record, &in_flight));
        }
        let taken = deliveries.len() as u64;
        queue.header.totals.delivered += taken;
        queue.header.meter.at(clock).delivered += taken;
        if self.take {
            queue.header.totals.acked += taken;
            queue.header.meter.at(clock).acked += taken;
        } else if taken > 0 {
            queue.consumer_took(state, &self.consumer, taken)?;
            queue.watch(state, QueueTimer::Leases, deadline.plus_ms(1));
        }
        queue.store_at(state, revision)?;
        Ok(Outcome::Leased { deliveries, revision })
    }
}

/// Takes the next items out of their place, up to the bounds on their number and bytes. What has outlived its time goes.
fn choose(state: &mut State<'_>, queue: &mut Queue, most: usize) -> Result<Vec<(u64, Past, Item)>, TableError> {
    let (mut chosen, mut bytes, mut expired) = (Vec::with_capacity(most), 0, 0);
    while chosen.len() < most && queue.header.ready() > 0 {
        for spot in queue.ready_items(state, most - chosen.len(), MAX_LEASE_BYTES)? {
            let record = queue.item_at(state, &spot)?;
            if record.is_over(state.clock()) {
                queue.take_ready(state, &spot)?;
                queue.remove(state, spot.number, &record)?;
                queue.header.totals.expired += 1;
                expired += 1;
                if record.group.is_some() {
                    // The next of its group may stand before what was read.
                    break;
                }
                continue;
            }
            bytes += record.item.len();
            if bytes > MAX_LEASE_BYTES && !chosen.is_empty() {
                return Ok(chosen);
            }
            queue.take_ready(state, &spot)?;
            chosen.push((spot.number, spot.past, record));
        }
        // One more look for what stood behind what is over; a group's next item became ready meanwhile, too.
        if expired == 0 {
            break;
        }
        if expired > MAX_EXPIRED {
            // Something may be left for whoever looks again.
            queue.wake();
            break;
        }
    }
    Ok(chosen)
}

pub(crate) fn delivered(item: u64, record: Item, in_flight: &InFlight) -> DeliveredItem {
    DeliveredItem {
        delivery: DeliveryId { item, attempt: in_flight.attempt() },
        item: record.item,
        sender: record.sender,
        send_time: record.send_time,
        revision: record.revision,
        deadline: in_flight.deadline,
        priority: record.priority,
        group: record.group,
        dead: record.dead,
    }
}
