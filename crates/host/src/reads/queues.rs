//! Queues: sizes, settings and rates, items and consumers.

use std::sync::Arc;

use conclave_proto::time::{duration_of_ms, timestamp};
use conclave_proto::v1::queue_settings::{Overflow as ToldOverflow, State as ToldState};
use conclave_proto::v1::server_frame::Body;
use conclave_proto::{items, v1};
use conclave_room::read::{self, ConsumerView, ItemPlace, QueueStats};
use conclave_room::{Overflow, QueueSettings, QueueState, QueueTotals, QueueView, Refusal};
use conclave_types::{QueueName, RoomName};

use super::InRoom;
use crate::admit;
use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::shard::{Shard, broken};

/// Bytes of items after which a page is full.
const PAGE_BYTES: usize = 512 << 10;
/// Consumers that are told of a queue.
const MAX_CONSUMERS: usize = 1_000;

pub async fn get_queue(
    shard: Arc<Shard>,
    at: InRoom,
    name: QueueName,
    request: v1::GetQueueRequest,
) -> Result<Body, Fault> {
    shard.ready_to_read(request.consistency).await?;
    let queue = queue_now(&shard, &at, &name)?.ok_or_else(|| Fault::from(Refusal::QueueNotFound))?;
    let revision = shard.room_revision(at.uid)?.0;
    Ok(Body::GetQueue(v1::GetQueueResponse { queue: Some(queue), revision }))
}

pub async fn list_queues(shard: Arc<Shard>, at: InRoom, request: v1::ListQueuesRequest) -> Result<Body, Fault> {
    shard.ready_to_read(request.consistency).await?;
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(
            token
                .parse::<QueueName>()
                .map_err(|_| Fault::field_invalid("page_token", "is not one that a list returned"))?,
        ),
    };
    let size = admit::page_size(request.page_size)?;
    let mut views = read::list_queues(&shard.tables(), shard.group_id(), at.uid, after, size + 1).map_err(broken)?;
    let more = views.len() > size;
    views.truncate(size);
    let next_page_token = match views.last() {
        Some(last) if more => last.name.to_string(),
        _ => String::new(),
    };
    let queues = views.iter().map(|view| queue(&at.name, view)).collect();
    let revision = shard.room_revision(at.uid)?.0;
    Ok(Body::ListQueues(v1::ListQueuesResponse { queues, next_page_token, revision }))
}

pub async fn get_queue_stats(
    shard: Arc<Shard>,
    leading: Arc<Leading>,
    at: InRoom,
    name: QueueName,
    request: v1::GetQueueStatsRequest,
) -> Result<Body, Fault> {
    shard.ready_to_read(request.consistency).await?;
    let (tables, group, now) = (shard.tables(), shard.group_id(), leading.time.stamp());
    let view = queue_now(&shard, &at, &name)?;
    let stats = read::queue_stats(&tables, group, at.uid, &name, now).map_err(broken)?;
    let (Some(view), Some(stats)) = (view, stats) else { return Err(Refusal::QueueNotFound.into()) };
    let consumers = read::consumers(&tables, group, at.uid, &name, MAX_CONSUMERS).map_err(broken)?;
    let QueueStats { oldest, sent_rate, delivered_rate, acked_rate, dead_letter_queue, dead_letters } = stats;
    let stats = v1::QueueStats {
        oldest_age: oldest.map(|oldest| duration_of_ms(now.since_ms(oldest))),
        sent_rate,
        delivered_rate,
        acked_rate,
        dead_letter_queue: dead_letter_queue.to_string(),
        dead_count: dead_letters,
        waiting_receivers: u32::try_from(leading.waiters.waiting(at.uid, &name)).unwrap_or(u32::MAX),
        consumers: consumers.into_iter().map(consumer).collect(),
    };
    let revision = shard.room_revision(at.uid)?.0;
    Ok(Body::GetQueueStats(v1::GetQueueStatsResponse { queue: Some(view), stats: Some(stats), revision }))
}

pub async fn list_items(
    shard: Arc<Shard>,
    at: InRoom,
    name: QueueName,
    request: v1::ListItemsRequest,
) -> Result<Body, Fault> {
    let place = match v1::ItemState::try_from(request.state) {
        Ok(v1::ItemState::Unspecified | v1::ItemState::Ready) => ItemPlace::Ready,
        Ok(v1::ItemState::Leased) => ItemPlace::InFlight,
        Ok(v1::ItemState::Delayed) => ItemPlace::Delayed,
        Ok(v1::ItemState::Grouped) => ItemPlace::Grouped,
        Err(_) => return Err(Fault::field_invalid("state", "is none that this version knows")),
    };
    let size = admit::page_size(request.page_size)?;
    let after = match request.page_token.as_str() {
        "" => None,
        token => {
            Some(position(token).ok_or_else(|| Fault::field_invalid("page_token", "is not one that a list returned"))?)
        }
    };
    shard.ready_to_read(request.consistency).await?;
    let (tables, group) = (shard.tables(), shard.group_id());
    let page = read::items(&tables, group, at.uid, &name, place, after.as_deref(), (size, PAGE_BYTES));
    let Some((views, last)) = page.map_err(broken)? else { return Err(Refusal::QueueNotFound.into()) };
    let is_full = views.len() >= size || views.iter().map(|view| view.item.len()).sum::<usize>() >= PAGE_BYTES;
    let next_page_token = last.filter(|_| is_full).map(|last| token(&last)).unwrap_or_default();
    let items = views.into_iter().map(items::queue_item).collect::<Result<_, _>>();
    let items = items.map_err(|reason| faults::unreadable(&reason))?;
    let revision = shard.room_revision(at.uid)?.0;
    Ok(Body::ListItems(v1::ListItemsResponse { items, next_page_token, revision }))
}

/// A position in a queue as two hexadecimal digits a byte.
fn token(position: &[u8]) -> String {
    position.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn position(token: &str) -> Option<Vec<u8>> {
    /// A group's name, escaped, and an item behind it.
    const MAX_POSITION_BYTES: usize = 2 * 128 + 10;
    let digits: Vec<u8> =
        token.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * MAX_POSITION_BYTES {
        return None;
    }
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A queue as it is on this replica.
pub fn queue_now(shard: &Shard, at: &InRoom, name: &QueueName) -> Result<Option<v1::Queue>, Fault> {
    let view = read::queue(&shard.tables(), shard.group_id(), at.uid, name).map_err(broken)?;
    Ok(view.map(|view| queue(&at.name, &view)))
}

fn queue(room: &RoomName, view: &QueueView) -> v1::Queue {
    v1::Queue {
        name: format!("rooms/{room}/queues/{}", view.name),
        create_time: Some(timestamp(view.create_time)),
        ready_count: view.ready,
        leased_count: view.leased,
        size: view.ready + view.leased + view.delayed + view.grouped,
        delayed_count: view.delayed,
        grouped_count: view.grouped,
        size_bytes: view.bytes,
        settings: Some(settings(&view.settings)),
        totals: Some(totals(&view.totals)),
    }
}

fn settings(settings: &QueueSettings) -> v1::QueueSettings {
    let state = match settings.state {
        QueueState::Active => ToldState::Active,
        QueueState::Paused => ToldState::Paused,
        QueueState::Closed => ToldState::Closed,
    };
    let overflow = match settings.overflow {
        Overflow::Reject => ToldOverflow::Reject,
        Overflow::DropOldest => ToldOverflow::DropOldest,
    };
    v1::QueueSettings {
        state: Some(state.into()),
        lease: Some(duration_of_ms(settings.lease_ms)),
        max_attempts: Some(settings.max_attempts),
        backoff: Some(duration_of_ms(settings.backoff_ms)),
        max_backoff: Some(duration_of_ms(settings.max_backoff_ms)),
        deduplication_window: Some(duration_of_ms(settings.deduplication_window_ms)),
        max_items: Some(settings.max_items),
        max_bytes: Some(settings.max_bytes),
        overflow: Some(overflow.into()),
        retention: Some(duration_of_ms(settings.retention_ms.unwrap_or_default())),
        max_in_flight: Some(settings.max_in_flight),
        max_in_flight_per_consumer: Some(settings.max_in_flight_per_consumer),
        dead_letter_queue: Some(settings.dead_letter_queue.as_ref().map(ToString::to_string).unwrap_or_default()),
    }
}

fn totals(totals: &QueueTotals) -> v1::QueueTotals {
    let QueueTotals { sent, duplicates, delivered, acked, failed, dead, expired, dropped, removed } = *totals;
    v1::QueueTotals { sent, duplicates, delivered, acked, failed, dead, expired, dropped, removed }
}

fn consumer(view: ConsumerView) -> v1::QueueConsumer {
    let last_lease_time = Some(timestamp(view.last_lease));
    v1::QueueConsumer { consumer: view.name, leased_count: view.leased, last_lease_time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_as_a_token() {
        for bytes in [&[][..], &[0, 255, 16]] {
            assert_eq!(position(&token(bytes)), Some(bytes.to_vec()));
        }
        for foreign in ["a", "xy", "ä0", &"00".repeat(300)] {
            assert_eq!(position(foreign), None, "{foreign}");
        }
    }
}
