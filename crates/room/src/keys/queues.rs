//! Keys of queues and their items.

use std::ops::Range;

use conclave_types::{QueueName, RoomUid};

use super::{Keys, Tag, escape, parse_last};
use crate::TableError;
use crate::codec::damaged;

/// A queue's number inside its room, from 1 in order of creation; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueNumber(pub u32);

/// Where in its queue's order an item of the default priority stands: 0 would be first of all, so that the nine
/// priorities above the default have room before it.
const PRIORITY_DEFAULT: u8 = 9;

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

    pub fn ready(&self, room: RoomUid, queue: QueueNumber, item: u64) -> Vec<u8> {
        let mut key = self.queue(room, Tag::Ready, queue, 9);
        key.push(PRIORITY_DEFAULT);
        key.extend_from_slice(&item.to_be_bytes());
        key
    }

    /// Keys of a queue from an item on, made by [`Self::ready`], [`Self::in_flight`] or [`Self::acked`].
    pub fn items_from(first: Vec<u8>) -> Range<Vec<u8>> {
        let mut end = first[..first.len() - 8].to_vec();
        end.extend_from_slice(&[0xff; 9]);
        first..end
    }

    /// The item at the end of a key made by [`Self::ready`], [`Self::in_flight`] or [`Self::acked`].
    pub fn parse_item(key: &[u8]) -> Result<u64, TableError> {
        let item = key.last_chunk::<8>().ok_or_else(|| damaged("queue", "item key"))?;
        Ok(u64::from_be_bytes(*item))
    }
}
