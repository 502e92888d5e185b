//! Leases ready items to a receiver, oldest first.
//!
//! The same receive sent again gets what it still holds, with the same attempts: nothing is delivered twice because a
//! reply was lost. A receive is known by its session and sequence, or by its request id; one with a request id is
//! always looked up, because its outcome (which holds bodies) is not kept elsewhere.
//! Invariant: an item has at most one lease, and each lease of it a higher attempt.

use conclave_types::limits::{DEFAULT_MAX_IN_FLIGHT, MAX_BATCH_ITEMS};
use conclave_types::{DeliveryId, QueueName, RoomUid};

use super::{InFlight, Item, Queue, Ready};
use crate::codec::{Record, damaged};
use crate::keys::Keys;
use crate::state::{State, load};
use crate::{DeliveredItem, Outcome, Receiver, TableError, TableReads, Tables};

/// Bytes of items after which a lease takes no more: the reply has to fit a session frame of 1 MiB. A single item fits
/// always.
const MAX_LEASE_BYTES: usize = 704 << 10;

/// What a receive asks for.
pub(crate) struct Lease {
    pub room: RoomUid,
    pub queue: QueueName,
    pub create: bool,
    pub max_items: u32,
    pub lease_ms: u64,
    pub consumer: String,
    pub receiver: Receiver,
    pub again: bool,
}

impl Lease {
    pub fn apply(self, state: &mut State<'_>) -> Result<Outcome, TableError> {
        let found = if self.create {
            Queue::find_or_begin(state, self.room, &self.queue)?
        } else {
            Queue::find(state, self.room, &self.queue)?
        };
        let queue = match found {
            Ok(queue) => queue,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let deliveries = if self.may_hold_some() { self.held(state, &queue)? } else { Vec::new() };
        if !deliveries.is_empty() {
            return self.unchanged(state, deliveries);
        }
        let most = u64::from(self.max_items)
            .min(MAX_BATCH_ITEMS as u64)
            .min(u64::from(DEFAULT_MAX_IN_FLIGHT).saturating_sub(queue.header.leased))
            .min(queue.header.ready);
        match most {
            0 if !queue.is_new => self.unchanged(state, Vec::new()),
            0 => Ok(Outcome::Leased { deliveries: Vec::new(), revision: queue.store(state)? }),
            most => self.take(state, queue, most as usize),
        }
    }

    fn may_hold_some(&self) -> bool {
        match self.receiver {
            Receiver::Unnamed => false,
            Receiver::Session { .. } => self.again,
            Receiver::Request { .. } => true,
        }
    }

    /// The reply of a lease that participants cannot see: the room's revision stays.
    fn unchanged(&self, state: &mut State<'_>, deliveries: Vec<DeliveredItem>) -> Result<Outcome, TableError> {
        let revision = state.room(self.room)?.map(|header| header.revision).unwrap_or_default();
        Ok(Outcome::Leased { deliveries, revision })
    }

    /// What this receiver leased before and has not lost. Looks through at most `DEFAULT_MAX_IN_FLIGHT` records.
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
                held.push(delivered(item, load_item(state, queue, item)?, &in_flight));
            }
        }
        Ok(held)
    }

    fn take(self, state: &mut State<'_>, mut queue: Queue, most: usize) -> Result<Outcome, TableError> {
        let deadline = state.clock().plus_ms(self.lease_ms);
        let mut deliveries = Vec::with_capacity(most);
        for (item, attempts, record) in choose(state, &queue, most)? {
            let in_flight = InFlight {
                deadline,
                attempt: attempts.saturating_add(1),
                consumer: self.consumer.clone(),
                receiver: self.receiver.clone(),
            };
            state.overlay.delete(state.keys.ready(self.room, queue.number, item));
            state.overlay.put(state.keys.in_flight(self.room, queue.number, item), in_flight.encode());
            deliveries.push(delivered(item, record, &in_flight));
        }
        let (Some(first), Some(last)) = (deliveries.first(), deliveries.last()) else {
            return Err(damaged("ready index", "it holds less than its queue's header says"));
        };
        let (first, last, taken) = (first.delivery.item, last.delivery.item, deliveries.len() as u64);
        let header = &mut queue.header;
        header.leased_from = if header.leased == 0 { first } else { header.leased_from.min(first) };
        header.leased += taken;
        header.ready -= taken;
        header.ready_from = last + 1;
        queue.watch_lease(state, deadline.plus_ms(1));
        Ok(Outcome::Leased { deliveries, revision: queue.store(state)? })
    }
}

/// The oldest ready items with their attempts so far: up to `most`, and up to the byte limit.
fn choose(state: &State<'_>, queue: &Queue, most: usize) -> Result<Vec<(u64, u32, Item)>, TableError> {
    let range = Keys::items_from(state.keys.ready(queue.room, queue.number, queue.header.ready_from));
    let (mut chosen, mut bytes) = (Vec::with_capacity(most), 0);
    for pair in state.overlay.scan(&range.start, &range.end).take(most) {
        let (key, value) = pair?;
        let item = Keys::parse_item(&key)?;
        let record = load_item(state, queue, item)?;
        bytes += record.item.len();
        if bytes > MAX_LEASE_BYTES && !chosen.is_empty() {
            return Ok(chosen);
        }
        chosen.push((item, Ready::decode(value)?.attempts, record));
    }
    if chosen.len() < most {
        return Err(damaged("ready index", "it holds less than its queue's header says"));
    }
    Ok(chosen)
}

fn load_item(state: &State<'_>, queue: &Queue, item: u64) -> Result<Item, TableError> {
    let record = load(&state.overlay, &state.keys.item(queue.room, queue.number, item))?;
    record.ok_or_else(|| damaged(Item::NAME, "missing for an item that is ready or in flight"))
}

fn delivered(item: u64, record: Item, in_flight: &InFlight) -> DeliveredItem {
    DeliveredItem {
        delivery: DeliveryId { item, attempt: in_flight.attempt },
        item: record.item,
        sender: record.sender,
        send_time: record.send_time,
        revision: record.revision,
        deadline: in_flight.deadline,
    }
}
