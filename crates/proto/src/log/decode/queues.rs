//! What queues do beside sending, leasing and acknowledging.

use conclave_room::{Configure, ItemOptions, NotBefore, Operation, Overflow, QueueState, Receiver, SettingsPatch};
use conclave_types::Timestamp;

use super::{Decoded, Decoder, RoomFields, acked, u32_of, unknown};
use crate::wire::{Fields, Malformed};

impl Decoder<'_> {
    /// With the index of the item.
    pub(super) fn item_options(&self, body: &[u8]) -> Decoded<(u32, ItemOptions)> {
        let (mut index, mut options) = (0, ItemOptions::default());
        for field in Fields::of(body) {
            match field? {
                (1, value) => index = u32_of(value)?,
                (2, value) => {
                    let priority = u8::try_from(value.uint()?).ok().filter(|priority| *priority <= 9);
                    options.priority = priority.ok_or(Malformed("a priority is over 9"))?;
                }
                (3, value) => options.not_before = NotBefore::After(value.uint()?),
                (4, value) => options.not_before = NotBefore::At(Timestamp(value.uint()?)),
                (5, value) => options.ttl_ms = Some(value.uint()?),
                (6, value) => options.group = Some(self.shared(value)?),
                (7, value) => options.message_id = Some(self.shared(value)?),
                (number, _) => return Err(unknown("ItemOptions", number)),
            }
        }
        Ok((index, options))
    }

    pub(super) fn consumer_receiver(&mut self, body: &[u8]) -> Decoded<Receiver> {
        let mut participant = "";
        for field in Fields::of(body) {
            match field? {
                (1, value) => participant = value.text()?,
                (number, _) => return Err(unknown("ConsumerReceiver", number)),
            }
        }
        Ok(Receiver::Consumer { participant: self.participant(participant)? })
    }

    pub(super) fn nack_deliveries(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut deliveries) = (RoomFields::default(), "", Vec::with_capacity(1));
        let (mut delay_ms, mut reject, mut reason) = (None, false, "");
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => deliveries.push(acked(value.bytes()?)?),
                (5, value) => delay_ms = Some(value.uint()?),
                (6, value) => reject = value.flag()?,
                (7, value) => reason = value.text()?,
                (number, _) => return Err(unknown("NackDeliveriesOperation", number)),
            }
        }
        let (room, queue, reason) = (room.uid()?, self.queue(queue)?, reason.to_owned());
        Ok(Operation::NackDeliveries { room, queue, deliveries, delay_ms, reject, reason })
    }

    pub(super) fn extend_leases(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut deliveries) = (RoomFields::default(), "", Vec::with_capacity(1));
        let mut lease_ms = 0;
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => deliveries.push(acked(value.bytes()?)?),
                (5, value) => lease_ms = value.uint()?,
                (number, _) => return Err(unknown("ExtendLeasesOperation", number)),
            }
        }
        Ok(Operation::ExtendLeases { room: room.uid()?, queue: self.queue(queue)?, deliveries, lease_ms })
    }

    pub(super) fn configure_queue(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut create) = (RoomFields::default(), "", false);
        let mut settings = SettingsPatch::default();
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => create = value.flag()?,
                (5, value) => settings.state = Some(state(value.uint()?)?),
                (6, value) => settings.lease_ms = Some(value.uint()?),
                (7, value) => settings.max_attempts = Some(u32_of(value)?),
                (8, value) => settings.backoff_ms = Some(value.uint()?),
                (9, value) => settings.max_backoff_ms = Some(value.uint()?),
                (10, value) => settings.deduplication_window_ms = Some(value.uint()?),
                (11, value) => settings.max_items = Some(value.uint()?),
                (12, value) => settings.max_bytes = Some(value.uint()?),
                (13, value) => settings.overflow = Some(overflow(value.uint()?)?),
                (14, value) => settings.retention_ms = Some(Some(value.uint()?).filter(|retention| *retention > 0)),
                (15, value) => settings.max_in_flight = Some(u32_of(value)?),
                (16, value) => settings.max_in_flight_per_consumer = Some(u32_of(value)?),
                (17, value) => {
                    let name = value.text()?;
                    let name = if name.is_empty() { None } else { Some(name.parse()?) };
                    settings.dead_letter_queue = Some(name);
                }
                (number, _) => return Err(unknown("ConfigureQueueOperation", number)),
            }
        }
        let how = if create { Configure::Create } else { Configure::Update };
        Ok(Operation::ConfigureQueue { room: room.uid()?, queue: self.queue(queue)?, how, settings })
    }

    pub(super) fn cancel_items(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut items) = (RoomFields::default(), "", Vec::new());
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => items = value.packed()?.collect::<Result<_, _>>()?,
                (number, _) => return Err(unknown("CancelItemsOperation", number)),
            }
        }
        Ok(Operation::CancelItems { room: room.uid()?, queue: self.queue(queue)?, items })
    }

    pub(super) fn move_items(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut to, mut max_items) = (RoomFields::default(), "", "", 0);
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => to = value.text()?,
                (5, value) => max_items = u32_of(value)?,
                (number, _) => return Err(unknown("MoveItemsOperation", number)),
            }
        }
        let to = if to.is_empty() { None } else { Some(to.parse()?) };
        Ok(Operation::MoveItems { room: room.uid()?, queue: self.queue(queue)?, to, max_items })
    }

    pub(super) fn purge_items(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut max_items) = (RoomFields::default(), "", 0);
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => max_items = u32_of(value)?,
                (number, _) => return Err(unknown("PurgeItemsOperation", number)),
            }
        }
        Ok(Operation::PurgeItems { room: room.uid()?, queue: self.queue(queue)?, max_items })
    }
}

fn state(number: u64) -> Decoded<QueueState> {
    match number {
        1 => Ok(QueueState::Active),
        2 => Ok(QueueState::Paused),
        3 => Ok(QueueState::Closed),
        _ => Err(Malformed("a queue has no such state").into()),
    }
}

fn overflow(number: u64) -> Decoded<Overflow> {
    match number {
        1 => Ok(Overflow::Reject),
        2 => Ok(Overflow::DropOldest),
        _ => Err(Malformed("a queue has no such overflow").into()),
    }
}
