//! Keys of queues and their items.

use std::ops::Range;

use conclave_types::{QueueName, RoomUid, Timestamp};

use super::{Keys, Tag, escape, parse_last, take, unescape};
use crate::TableError;
use crate::codec::{Record, damaged};

/// A queue's number inside its room, from 1 in order of creation; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueNumber(pub u32);

/// Ready items are ordered from it down to 0, the default.
const HIGHEST_PRIORITY: u8 = 9;

impl Keys {
    pub fn queue_directory(&self, room: RoomUid, queue: &QueueName) -> Vec<u8> {
        let mut key = self.room(room, Tag::QueueDirectory, 130);
        escape(queue.as_bytes(), &mut key);
        key
    }

    pub fn queue_directory_all(&self, room: RoomUid) -> Range<Vec<u8>> {
        self.all_of(room, Tag::QueueDirectory)
    }

    pub fn queue_headers(&self, room: RoomUid) -> Range<Vec<u8>> {
        self.all_of(room, Tag::QueueHeader)
    }

    /// The name in a key of [`Self::queue_directory_all`].
    pub fn parse_queue_name(&self, key: &[u8]) -> Result<QueueName, TableError> {
        parse_last(self, key)?.ok_or_else(|| damaged("queue directory", "key"))
    }

    fn queue(&self, room: RoomUid, tag: Tag, queue: QueueNumber, capacity: usize) -> Vec<u8> {
        let mut key = self.room(room, tag, 4 + capacity);
        key.extend_from_slice(&queue.0.to_be_bytes());
        key
    }

    pub fn queue_header(&self, room: RoomUid, queue: QueueNumber) -> Vec<u8> {
        self.queue(room, Tag::QueueHeader, queue, 0)
    }

    fn queue_item(&self, room: RoomUid, tag: Tag, queue: QueueNumber, item: u64) -> Vec<u8> {
        let mut key = self.queue(room, tag, queue, 8);
        key.extend_from_slice(&item.to_be_bytes());
        key
    }

    pub fn item(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        self.queue_item(room, Tag::Item, queue, item)
    }

    pub fn in_flight(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        self.queue_item(room, Tag::InFlight, queue, item)
    }

    pub fn acked(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        self.queue_item(room, Tag::Acked, queue, item)
    }

    /// By priority, the highest first.
    pub fn ready(&self, room: RoomUid, queue: QueueNumber, priority: u8, item: u64) -> Vec<u8> {
        let mut key = self.queue(room, Tag::Ready, queue, 9);
        key.push(HIGHEST_PRIORITY.saturating_sub(priority));
        key.extend_from_slice(&item.to_be_bytes());
        key
    }

    /// All ready items of a queue, in the order of delivery.
    pub fn all_ready(&self, room: RoomUid, queue: QueueNumber) -> Range<Vec<u8>> {
        self.all_of_queue(room, Tag::Ready, queue)
    }

    pub fn all_in_flight(&self, room: RoomUid, queue: QueueNumber) -> Range<Vec<u8>> {
        self.all_of_queue(room, Tag::InFlight, queue)
    }

    pub fn delayed_until(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        self.queue_item(room, Tag::DelayedUntil, queue, item)
    }

    pub fn delayed(&self, room: RoomUid, queue: QueueNumber, due: Timestamp, item: u64) -> Vec<u8> {
        self.time_and_item(room, Tag::Delayed, queue, due, item)
    }

    /// Delayed items whose time comes then or later.
    pub fn delayed_from(&self, room: RoomUid, queue: QueueNumber, due: Timestamp) -> Range<Vec<u8>> {
        self.delayed(room, queue, due, 0)..self.all_delayed(room, queue).end
    }

    pub fn all_delayed(&self, room: RoomUid, queue: QueueNumber) -> Range<Vec<u8>> {
        self.all_of_queue(room, Tag::Delayed, queue)
    }

    pub fn expiry(&self, room: RoomUid, queue: QueueNumber, expires: Timestamp, item: u64) -> Vec<u8> {
        self.time_and_item(room, Tag::Expiry, queue, expires, item)
    }

    /// Ends of lives, then or later.
    pub fn expiries_from(&self, room: RoomUid, queue: QueueNumber, expires: Timestamp) -> Range<Vec<u8>> {
        self.expiry(room, queue, expires, 0)..self.all_of_queue(room, Tag::Expiry, queue).end
    }

    fn time_and_item(&self, room: RoomUid, tag: Tag, queue: QueueNumber, time: Timestamp, item: u64) -> Vec<u8> {
        let mut key = self.queue(room, tag, queue, 16);
        key.extend_from_slice(&time.0.to_be_bytes());
        key.extend_from_slice(&item.to_be_bytes());
        key
    }

    /// The end of a key made by [`Self::delayed`] or [`Self::expiry`].
    pub fn parse_time_and_item(key: &[u8]) -> Result<(Timestamp, u64), TableError> {
        let end = key.last_chunk::<16>().ok_or_else(|| damaged("queue", "key of time"))?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok((Timestamp(number(&end[..8])), number(&end[8..])))
    }

    pub fn sent_message(&self, room: RoomUid, queue: QueueNumber, message: &[u8]) -> Vec<u8> {
        let mut key = self.queue(room, Tag::SentMessage, queue, message.len() + 2);
        escape(message, &mut key);
        key
    }

    pub fn forget_message(&self, room: RoomUid, queue: QueueNumber, at: Timestamp, message: &[u8]) -> Vec<u8> {
        let mut key = self.queue(room, Tag::ForgetMessage, queue, message.len() + 10);
        key.extend_from_slice(&at.0.to_be_bytes());
        escape(message, &mut key);
        key
    }

    /// Messages that are forgotten then or later.
    pub fn forget_messages(&self, room: RoomUid, queue: QueueNumber, at: Timestamp) -> Range<Vec<u8>> {
        let mut from = self.queue(room, Tag::ForgetMessage, queue, 8);
        from.extend_from_slice(&at.0.to_be_bytes());
        from..self.all_of_queue(room, Tag::ForgetMessage, queue).end
    }

    /// The time and the message of a key made by [`Self::forget_message`].
    pub fn parse_forget_message(&self, key: &[u8]) -> Result<(Timestamp, Vec<u8>), TableError> {
        let broken = || damaged("messages to forget", "key");
        let (_, mut rest) = self.parse_room_data(key)?;
        let [_, _, _, _] = take::<4>(&mut rest).ok_or_else(broken)?;
        let at = Timestamp(u64::from_be_bytes(take(&mut rest).ok_or_else(broken)?));
        let message = unescape(&mut rest).filter(|_| rest.is_empty()).ok_or_else(broken)?;
        Ok((at, message))
    }

    pub fn item_group(&self, room: RoomUid, queue: QueueNumber, group: &[u8]) -> Vec<u8> {
        let mut key = self.queue(room, Tag::ItemGroup, queue, group.len() + 2);
        escape(group, &mut key);
        key
    }

    /// An item behind its group's head.
    pub fn grouped(&self, room: RoomUid, queue: QueueNumber, group: &[u8], item: u64) -> Vec<u8> {
        let mut key = self.queue(room, Tag::Grouped, queue, group.len() + 10);
        escape(group, &mut key);
        key.extend_from_slice(&item.to_be_bytes());
        key
    }

    pub fn all_grouped(&self, room: RoomUid, queue: QueueNumber) -> Range<Vec<u8>> {
        self.all_of_queue(room, Tag::Grouped, queue)
    }

    pub fn consumer(&self, room: RoomUid, queue: QueueNumber, consumer: &str) -> Vec<u8> {
        let mut key = self.queue(room, Tag::Consumer, queue, consumer.len() + 2);
        escape(consumer.as_bytes(), &mut key);
        key
    }

    pub fn consumers(&self, room: RoomUid, queue: QueueNumber) -> Range<Vec<u8>> {
        self.all_of_queue(room, Tag::Consumer, queue)
    }

    /// The consumer in a key of [`Self::consumers`].
    pub fn parse_consumer(&self, key: &[u8]) -> Result<String, TableError> {
        let broken = || damaged(crate::queue::item::ConsumerRecord::NAME, "key");
        let (_, mut rest) = self.parse_room_data(key)?;
        let [_, _, _, _] = take::<4>(&mut rest).ok_or_else(broken)?;
        let name = unescape(&mut rest).filter(|_| rest.is_empty()).ok_or_else(broken)?;
        String::from_utf8(name).map_err(|_| broken())
    }

    fn all_of_queue(&self, room: RoomUid, tag: Tag, queue: QueueNumber) -> Range<Vec<u8>> {
        let from = self.queue(room, tag, queue, 0);
        let to = match queue.0.checked_add(1) {
            Some(next) => self.queue(room, tag, QueueNumber(next), 0),
            None => self.all_of(room, tag).end,
        };
        from..to
    }

    /// Keys of a queue from an item on that end with the item: [`Self::ready`], [`Self::in_flight`], [`Self::acked`],
    /// [`Self::grouped`].
    pub fn items_from(first: Vec<u8>) -> Range<Vec<u8>> {
        let mut end = first[..first.len() - 8].to_vec();
        end.extend_from_slice(&[0xff; 9]);
        first..end
    }

    /// The item at the end of such a key.
    pub fn parse_item(key: &[u8]) -> Result<u64, TableError> {
        let item = key.last_chunk::<8>().ok_or_else(|| damaged("queue", "item key"))?;
        Ok(u64::from_be_bytes(*item))
    }
}
