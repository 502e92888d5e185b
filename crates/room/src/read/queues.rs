//! Queues: their sizes and settings, their items and consumers.

use bytes::Bytes;
use conclave_types::{GroupId, ParticipantName, QueueName, Revision, RoomUid, Timestamp};

use super::named;
use crate::codec::Record;
use crate::keys::{Keys, QueueNumber};
use crate::queue::bury::dead_letter_name;
use crate::queue::header::METER_MS;
use crate::queue::item::ConsumerRecord;
use crate::queue::lease::delivered;
use crate::queue::{InFlight, Item, Past, QueueHeader};
use crate::state::load;
use crate::{DeadLetter, DeliveredItem, QueueSettings, QueueState, QueueTotals, Receiver, TableError, TableReads};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    pub name: QueueName,
    pub create_time: Timestamp,
    pub settings: QueueSettings,
    /// Items that wait for a receiver.
    pub ready: u64,
    /// Items that a receiver holds.
    pub leased: u64,
    /// Items that wait for their time.
    pub delayed: u64,
    /// Items that wait behind another of their group.
    pub grouped: u64,
    /// Bytes of all items.
    pub bytes: u64,
    pub totals: QueueTotals,
}

impl QueueView {
    fn of(header: QueueHeader) -> Self {
        let ready = header.ready();
        let QueueHeader { name, create_time, settings, leased, delayed, grouped, bytes, totals, .. } = header;
        QueueView { name, create_time, settings, ready, leased, delayed, grouped, bytes, totals }
    }

    /// Whether a receive may take something.
    pub fn hands_out(&self) -> bool {
        self.settings.state == QueueState::Active
            && self.ready > 0
            && self.leased < u64::from(self.settings.max_in_flight)
    }
}

/// What is told of a queue beside its sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStats {
    /// When the oldest item that is ready was sent.
    pub oldest: Option<Timestamp>,
    /// Items a second, over the last whole 10 seconds.
    pub sent_rate: f64,
    pub delivered_rate: f64,
    pub acked_rate: f64,
    /// Where dead letters of the queue go, and how many are there.
    pub dead_letter_queue: QueueName,
    pub dead_letters: u64,
}

/// A consumer that holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerView {
    pub name: String,
    pub leased: u64,
    pub last_lease: Timestamp,
}

/// Which items are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemPlace {
    Ready,
    InFlight,
    Delayed,
    /// Behind another of their group.
    Grouped,
}

/// An item where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemView {
    pub number: u64,
    pub place: ItemPlace,
    /// The item as it was sent.
    pub item: Bytes,
    pub sender: ParticipantName,
    pub send_time: Timestamp,
    pub revision: Revision,
    pub priority: u8,
    pub group: Option<Bytes>,
    pub expires: Option<Timestamp>,
    /// Deliveries so far.
    pub attempts: u32,
    /// Of one that is delayed.
    pub due: Option<Timestamp>,
    /// Of one in flight: who holds it, and until when.
    pub held: Option<(String, Timestamp)>,
    pub dead: Option<DeadLetter>,
}

/// Items, and the position of the last of them.
pub type ItemsPage = (Vec<ItemView>, Option<Vec<u8>>);

/// A queue's sizes, if there is such a queue.
pub fn queue(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
) -> Result<Option<QueueView>, TableError> {
    let keys = Keys::new(group);
    Ok(find(reads, &keys, room, name)?.map(|(_, header)| QueueView::of(header)))
}

fn find(
    reads: &(impl TableReads + ?Sized),
    keys: &Keys,
    room: RoomUid,
    name: &QueueName,
) -> Result<Option<(QueueNumber, QueueHeader)>, TableError> {
    let number: Option<QueueNumber> = load(reads, &keys.queue_directory(room, name))?;
    let Some(number) = number else { return Ok(None) };
    Ok(named(reads, keys, room, &keys.queue_header(room, number))?.map(|header| (number, header)))
}

/// What a queue's sizes do not say. `clock` is the shard's, or later.
pub fn queue_stats(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
    clock: Timestamp,
) -> Result<Option<QueueStats>, TableError> {
    let keys = Keys::new(group);
    let Some((number, header)) = find(reads, &keys, room, name)? else { return Ok(None) };
    let mut oldest: Option<Timestamp> = None;
    for (priority, level) in header.used_levels() {
        let range = Keys::items_from(keys.ready(room, number, priority, level.from));
        if let Some(pair) = reads.scan(&range.start, &range.end).next() {
            let item: Option<Item> = load(reads, &keys.item(room, number, Keys::parse_item(&pair?.0)?))?;
            let sent = item.map(|item| item.send_time);
            oldest = oldest.into_iter().chain(sent).min();
        }
    }
    let fresh = fresh_items(reads, &keys, room, (number, &header), None).next().transpose()?;
    oldest = oldest.into_iter().chain(fresh.map(|(_, item)| item.send_time)).min();
    let flow = header.meter.last_at(clock);
    let rate = |count: u64| count as f64 * 1_000.0 / METER_MS as f64;
    let dead_letter_queue = dead_letter_name(&header)?;
    let dead_letters = queue(reads, group, room, &dead_letter_queue)?;
    Ok(Some(QueueStats {
        oldest,
        sent_rate: rate(flow.sent),
        delivered_rate: rate(flow.delivered),
        acked_rate: rate(flow.acked),
        dead_letters: dead_letters.map_or(0, |view| view.ready + view.leased + view.delayed + view.grouped),
        dead_letter_queue,
    }))
}

/// What a consumer holds of a queue.
pub fn held_by(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
    consumer: &str,
) -> Result<u64, TableError> {
    let keys = Keys::new(group);
    let number: Option<QueueNumber> = load(reads, &keys.queue_directory(room, name))?;
    let Some(number) = number else { return Ok(0) };
    let record: Option<ConsumerRecord> = load(reads, &keys.consumer(room, number, consumer))?;
    Ok(record.map_or(0, |record| record.leased))
}

/// Consumers of a queue that hold something, by name; at most `limit`.
pub fn consumers(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
    limit: usize,
) -> Result<Vec<ConsumerView>, TableError> {
    let keys = Keys::new(group);
    let number: Option<QueueNumber> = load(reads, &keys.queue_directory(room, name))?;
    let Some(number) = number else { return Ok(Vec::new()) };
    let range = keys.consumers(room, number);
    let pairs = reads.scan(&range.start, &range.end).take(limit);
    pairs
        .map(|pair| {
            let (key, value) = pair?;
            let ConsumerRecord { leased, last_lease } = ConsumerRecord::decode(value)?;
            Ok(ConsumerView { name: keys.parse_consumer(&key)?, leased, last_lease })
        })
        .collect()
}

/// Items of a queue in one place, in its order, from behind a position on: at most so many, and about so many bytes.
/// Returns them with the position of the last.
pub fn items(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
    place: ItemPlace,
    after: Option<&[u8]>,
    (limit, max_bytes): (usize, usize),
) -> Result<Option<ItemsPage>, TableError> {
    let keys = Keys::new(group);
    let Some((number, header)) = find(reads, &keys, room, name)? else { return Ok(None) };
    let range = match place {
        ItemPlace::Ready => keys.all_ready(room, number),
        ItemPlace::InFlight => keys.all_in_flight(room, number),
        ItemPlace::Delayed => keys.all_delayed(room, number),
        ItemPlace::Grouped => keys.all_grouped(room, number),
    };
    let prefix = range.start.len();
    let from = match (after, place) {
        (Some(position), _) => [&range.start[..], position, &[0]].concat(),
        // Not over what was delivered before.
        (None, ItemPlace::Ready) => match header.used_levels().next() {
            Some((priority, level)) => keys.ready(room, number, priority, level.from),
            None => keys.ready(room, number, 0, 0),
        },
        (None, _) => range.start,
    };
    let mut fresh = match place {
        ItemPlace::Ready => fresh_items(reads, &keys, room, (number, &header), after),
        ItemPlace::InFlight | ItemPlace::Delayed | ItemPlace::Grouped => Box::new(std::iter::empty()),
    }
    .peekable();
    let mut keyed = reads.scan(&from, &range.end).peekable();
    let (mut views, mut bytes, mut position) = (Vec::new(), 0, None);
    while views.len() < limit && bytes < max_bytes {
        // Both are in order; a fresh item stands where its key would stand.
        let fresh_first = match (fresh.peek(), keyed.peek()) {
            (Some(Ok((fresh, _))), Some(Ok((key, _)))) => keys.ready(room, number, 0, *fresh)[..] < key[..],
            (fresh, keyed) => fresh.is_some() && keyed.is_none_or(Result::is_ok),
        };
        let (key, item_number, item, value) = if fresh_first {
            let Some((item_number, item)) = fresh.next().transpose()? else { break };
            let key = Bytes::from(keys.ready(room, number, 0, item_number));
            (key, item_number, item, Past::default().encode())
        } else {
            let Some((key, value)) = keyed.next().transpose()? else { break };
            let item_number = Keys::parse_item(&key)?;
            let Some(item) = named(reads, &keys, room, &keys.item(room, number, item_number))? else { break };
            (key, item_number, item, value)
        };
        bytes += item.item.len();
        position = key.get(prefix..).map(<[u8]>::to_vec);
        views.push(view(item_number, place, item, &key, value)?);
    }
    Ok(Some((views, position)))
}

/// Fresh items of a queue, from behind a position in the order of ready items on.
fn fresh_items<'r>(
    reads: &'r (impl TableReads + ?Sized),
    keys: &Keys,
    room: RoomUid,
    (number, header): (QueueNumber, &QueueHeader),
    after: Option<&[u8]>,
) -> Box<dyn Iterator<Item = Result<(u64, Item), TableError>> + 'r> {
    if header.fresh.count == 0 {
        return Box::new(std::iter::empty());
    }
    // They are of the lowest priority: a position of a higher one is before all of them.
    let lowest = keys.ready(room, number, 0, 0);
    let prefix = keys.all_ready(room, number).start.len();
    let behind = after.and_then(|position| position.strip_prefix(&lowest[prefix..=prefix])?.first_chunk());
    let next = behind.map_or(0, |number| u64::from_be_bytes(*number).saturating_add(1));
    let first = header.fresh.from.max(next);
    let range = Keys::items_from(keys.item(room, number, first));
    let items = reads.scan(&range.start, &range.end).map(|pair| {
        let (key, value) = pair?;
        Ok((Keys::parse_item(&key)?, Item::decode(value)?))
    });
    Box::new(items.filter(|item| item.as_ref().map_or(true, |(_, item)| item.is_fresh)))
}

fn view(number: u64, place: ItemPlace, item: Item, key: &[u8], value: Bytes) -> Result<ItemView, TableError> {
    let (mut attempts, mut due, mut held) = (0, None, None);
    match place {
        ItemPlace::Ready => attempts = Past::decode(value)?.attempts,
        ItemPlace::Delayed => {
            attempts = Past::decode(value)?.attempts;
            due = Some(Keys::parse_time_and_item(key)?.0);
        }
        ItemPlace::InFlight => {
            let in_flight = InFlight::decode(value)?;
            attempts = in_flight.attempt();
            held = Some((in_flight.consumer, in_flight.deadline));
        }
        ItemPlace::Grouped => {}
    }
    let Item { sender, send_time, revision, priority, expires, group, dead, item, .. } = item;
    Ok(ItemView {
        number,
        place,
        item,
        sender,
        send_time,
        revision,
        priority,
        group,
        expires,
        attempts,
        due,
        held,
        dead,
    })
}

/// What a participant's consumer took and still holds, after an item; at most so many bytes, but one at least.
#[expect(clippy::too_many_arguments, reason = "a queue, a consumer, and where to go on")]
pub fn held(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
    participant: &ParticipantName,
    consumer: &str,
    after: u64,
    (limit, max_bytes): (usize, usize),
) -> Result<Vec<DeliveredItem>, TableError> {
    let keys = Keys::new(group);
    let clock = super::clock(reads, group)?;
    let Some((number, _)) = find(reads, &keys, room, name)? else { return Ok(Vec::new()) };
    let range = Keys::items_from(keys.in_flight(room, number, after.saturating_add(1)));
    let receiver = Receiver::Consumer { participant: participant.clone() };
    let (mut held, mut bytes) = (Vec::new(), 0);
    for pair in reads.scan(&range.start, &range.end) {
        if held.len() >= limit || bytes >= max_bytes {
            break;
        }
        let (key, value) = pair?;
        let in_flight = InFlight::decode(value)?;
        if in_flight.receiver != receiver || in_flight.consumer != consumer || in_flight.is_over(clock) {
            continue;
        }
        let item_number = Keys::parse_item(&key)?;
        if let Some(item) = named::<Item>(reads, &keys, room, &keys.item(room, number, item_number))? {
            bytes += item.item.len();
            held.push(delivered(item_number, item, &in_flight));
        }
    }
    Ok(held)
}

/// The attempt that a receiver holds an item by, if one does.
pub fn attempt_in_flight(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    name: &QueueName,
    item: u64,
) -> Result<Option<u32>, TableError> {
    let keys = Keys::new(group);
    let number: Option<QueueNumber> = load(reads, &keys.queue_directory(room, name))?;
    let Some(number) = number else { return Ok(None) };
    let in_flight: Option<InFlight> = load(reads, &keys.in_flight(room, number, item))?;
    Ok(in_flight.map(|in_flight| in_flight.attempt()))
}

/// Queues of a room after a name, ordered by name; at most `limit`.
pub fn list_queues(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    after: Option<QueueName>,
    limit: usize,
) -> Result<Vec<QueueView>, TableError> {
    let keys = Keys::new(group);
    let all = keys.queue_directory_all(room);
    let from = after.as_ref().map_or(all.start, |name| keys.queue_directory(room, name));
    let mut queues = Vec::new();
    for pair in reads.scan(&from, &all.end) {
        if queues.len() >= limit {
            break;
        }
        let (key, value) = pair?;
        if after.as_ref() != Some(&keys.parse_queue_name(&key)?) {
            let header = keys.queue_header(room, QueueNumber::decode(value)?);
            queues.extend(named(reads, &keys, room, &header)?.map(QueueView::of));
        }
    }
    Ok(queues)
}

/// Queues that changed after a revision, each with the revision of its last change, in that order.
pub fn queues_changed(
    reads: &(impl TableReads + ?Sized),
    group: GroupId,
    room: RoomUid,
    after: Revision,
) -> Result<Vec<(Revision, QueueView)>, TableError> {
    let headers = Keys::new(group).queue_headers(room);
    let mut changed = Vec::new();
    for pair in reads.scan(&headers.start, &headers.end) {
        let header = QueueHeader::decode(pair?.1)?;
        if header.changed > after {
            changed.push((header.changed, QueueView::of(header)));
        }
    }
    changed.sort_by_key(|(revision, _)| *revision);
    Ok(changed)
}
