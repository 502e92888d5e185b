//! Sends items: all of them or none, in order, numbered without gaps. An item whose message was sent before is left out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conclave_types::{ParticipantName, QueueName, Revision, RoomUid};

use super::{Item, Overflow, Queue, QueueState};
use crate::command::{ItemOptions, NotBefore};
use crate::state::State;
use crate::{Outcome, Refusal, TableError};

/// Items that one send may put out of the queue to make room.
const MAX_DROPS: usize = 1_024;

pub(crate) struct NewItems {
    pub room: RoomUid,
    pub queue: QueueName,
    pub create: bool,
    pub sender: ParticipantName,
    pub items: Vec<Bytes>,
    pub options: Vec<(u32, ItemOptions)>,
}

impl NewItems {
    pub fn apply(self, state: &mut State<'_>) -> Result<Outcome, TableError> {
        state.act_as(&self.sender);
        let mut queue = match Queue::find_for(state, self.room, &self.queue, self.create)? {
            Ok(queue) => queue,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        if queue.header.settings.state == QueueState::Closed {
            return Ok(Outcome::Refused(Refusal::QueueClosed));
        }
        let NewItems { room, sender, items, options, .. } = self;
        let mut options: BTreeMap<u32, ItemOptions> = options.into_iter().collect();
        let (duplicates, first_of_before) = recognise(state, &queue, &options)?;
        queue.header.totals.duplicates += duplicates.len() as u64;
        if !duplicates.is_empty() && duplicates.len() == items.len() {
            let revision = state.revision(room)?;
            queue.store_unseen(state);
            return Ok(Outcome::Sent { first_item: first_of_before, revision, duplicates });
        }
        let is_new = |index: &u32| duplicates.binary_search(index).is_err();
        let (mut count, mut bytes) = (0, 0);
        for (_, item) in (0..).zip(&items).filter(|(index, _)| is_new(index)) {
            count += 1;
            bytes += item.len() as u64;
        }
        if !queue.make_room(state, count, bytes)? {
            return Ok(Outcome::Refused(Refusal::QueueFull));
        }

        let revision = state.next_revision(room)?;
        let first_item = queue.header.last_item + 1;
        for (index, item) in (0..).zip(items).filter(|(index, _)| is_new(index)) {
            queue.append(state, &sender, revision, item, options.remove(&index).unwrap_or_default())?;
        }
        queue.store_at(state, revision)?;
        Ok(Outcome::Sent { first_item, revision, duplicates })
    }
}

/// The indices of items that were sent before, or earlier in the same send, and the item that the first of them became.
fn recognise(
    state: &State<'_>,
    queue: &Queue,
    options: &BTreeMap<u32, ItemOptions>,
) -> Result<(Vec<u32>, u64), TableError> {
    let (mut duplicates, mut first, mut seen) = (Vec::new(), 0, BTreeSet::new());
    if queue.header.settings.deduplication_window_ms == 0 {
        return Ok((duplicates, first));
    }
    for (index, options) in options {
        let Some(message) = &options.message_id else { continue };
        let before = queue.sent_before(state, message)?;
        if before.is_some() || !seen.insert(message) {
            if duplicates.is_empty() {
                first = before.unwrap_or_default();
            }
            duplicates.push(*index);
        }
    }
    Ok((duplicates, first))
}

impl Queue {
    /// Whether so much more fits as it is.
    pub fn has_room(&self, count: u64, bytes: u64) -> bool {
        let settings = &self.header.settings;
        self.header.items().saturating_add(count) <= settings.max_items
            && (settings.max_bytes == 0 || self.header.bytes.saturating_add(bytes) <= settings.max_bytes)
    }

    /// Puts one more item into the queue, behind all others of its priority.
    pub fn append(
        &mut self,
        state: &mut State<'_>,
        sender: &ParticipantName,
        revision: Revision,
        item: Bytes,
        options: ItemOptions,
    ) -> Result<(), TableError> {
        let clock = state.clock();
        self.header.last_item += 1;
        let number = self.header.last_item;
        let lives_ms = [options.ttl_ms, self.header.settings.retention_ms].into_iter().flatten().min();
        let record = Item {
            sender: sender.clone(),
            send_time: clock,
            revision,
            priority: options.priority,
            expires: lives_ms.map(|lives| clock.plus_ms(lives)),
            group: options.group,
            dead: None,
            is_fresh: false,
            item,
        };
        let not_before = match options.not_before {
            NotBefore::Now => None,
            NotBefore::After(ms) => Some(clock.plus_ms(ms)),
            NotBefore::At(time) => Some(time),
        };
        if let Some(message) = options.message_id {
            self.remember(state, &message, number)?;
        }
        self.header.totals.sent += 1;
        self.header.meter.at(clock).sent += 1;
        self.place(state, number, record, not_before)
    }

    /// Whether so much more fits, after what the queue does to make room.
    pub fn make_room(&mut self, state: &mut State<'_>, count: u64, bytes: u64) -> Result<bool, TableError> {
        if self.header.settings.overflow == Overflow::Reject {
            return Ok(self.has_room(count, bytes));
        }
        for _ in 0..MAX_DROPS {
            if self.has_room(count, bytes) {
                return Ok(true);
            }
            let Some(spot) = self.oldest_of_the_lowest(state)? else { return Ok(false) };
            let item = self.item_at(state, &spot)?;
            self.take_ready(state, &spot)?;
            self.remove(state, spot.number, &item)?;
            self.header.totals.dropped += 1;
        }
        Ok(self.has_room(count, bytes))
    }
}
