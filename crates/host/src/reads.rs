//! Reads: each makes sure that it is fresh enough, then reads the tables.

mod queues;

use std::sync::Arc;

use conclave_proto::page::RoomsPage;
use conclave_proto::time::{duration_of_ms, timestamp};
use conclave_proto::v1;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{MessageRetention, RoomRecord, RoomState};
use conclave_types::{ProjectId, RoomName, RoomUid};

use crate::admit;
use crate::faults::{self, Fault};
use crate::shard::{Shard, broken};

pub use queues::{get_queue, get_queue_stats, list_items, list_queues, queue_now};

/// The room that a read is about.
#[derive(Debug, Clone)]
pub struct InRoom {
    pub uid: RoomUid,
    pub name: RoomName,
}

pub async fn get_room(shard: Arc<Shard>, at: InRoom, request: v1::GetRoomRequest) -> Result<Body, Fault> {
    shard.ready_to_read(request.consistency).await?;
    let record = shard.room(at.uid)?.ok_or_else(|| faults::room_not_found(&at.name))?;
    let revision = record.revision.0;
    Ok(Body::GetRoom(v1::GetRoomResponse { room: Some(room(&record)), revision }))
}

/// One shard's part of a project's rooms. The next page is in the next shard when this one has no more.
pub async fn list_rooms(
    shard: Arc<Shard>,
    project: &ProjectId,
    page: RoomsPage,
    page_size: u32,
    shard_count: u16,
) -> Result<v1::ListRoomsResponse, Fault> {
    shard.read_barrier().await?;
    let size = admit::page_size(page_size)?;
    let mut records = conclave_room::read::list_rooms(&shard.tables(), shard.group_id(), project, page.after, size + 1)
        .map_err(broken)?;
    let more = records.len() > size;
    records.truncate(size);
    let next = match records.last() {
        Some(last) if more => Some(RoomsPage { shard: page.shard, after: Some((last.uid.slot, last.name.clone())) }),
        _ if page.shard.0 + 1 < shard_count => {
            Some(RoomsPage { shard: conclave_types::ShardId(page.shard.0 + 1), after: None })
        }
        _ => None,
    };
    Ok(v1::ListRoomsResponse {
        rooms: records.iter().map(room).collect(),
        next_page_token: next.map(|page| page.to_string()).unwrap_or_default(),
    })
}

pub fn room(record: &RoomRecord) -> v1::Room {
    let state = match record.state {
        RoomState::Active => v1::room::State::Active,
        RoomState::Deleting => v1::room::State::Deleting,
    };
    v1::Room {
        name: format!("rooms/{}", record.name),
        uid: record.uid.to_string(),
        state: state.into(),
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        etag: admit::etag_of(record.uid, record.etag),
        metadata: record.metadata.clone(),
        annotations: record.annotations.clone(),
        revision: record.revision.0,
        message_retention: Some(retention(&record.retention)),
    }
}

fn retention(retention: &MessageRetention) -> v1::MessageRetention {
    v1::MessageRetention {
        max_messages: retention.max_messages,
        max_bytes: retention.max_bytes,
        max_age: retention.max_age_ms.map(duration_of_ms),
    }
}
