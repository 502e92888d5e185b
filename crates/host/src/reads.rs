//! Reads: each makes sure that it is fresh enough, then reads the tables.

use std::sync::Arc;

use conclave_proto::page::RoomsPage;
use conclave_proto::time::{duration_of_ms, timestamp};
use conclave_proto::v1;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{MessageRetention, QueueView, RoomRecord, RoomState};
use conclave_types::{ProjectId, QueueName, RoomName, RoomUid};

use crate::admit;
use crate::faults::{self, Fault};
use crate::shard::{Shard, broken};

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

pub async fn get_queue(
    shard: Arc<Shard>,
    at: InRoom,
    name: QueueName,
    request: v1::GetQueueRequest,
) -> Result<Body, Fault> {
    shard.ready_to_read(request.consistency).await?;
    let view = conclave_room::read::queue(&shard.tables(), shard.group_id(), at.uid, &name).map_err(broken)?;
    let view = view.ok_or_else(|| Fault::from(conclave_room::Refusal::QueueNotFound))?;
    let revision = shard.room_revision(at.uid)?.0;
    Ok(Body::GetQueue(v1::GetQueueResponse { queue: Some(queue(&at.name, &view)), revision }))
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
    let mut views =
        conclave_room::read::list_queues(&shard.tables(), shard.group_id(), at.uid, after, size + 1).map_err(broken)?;
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

fn queue(room: &RoomName, view: &QueueView) -> v1::Queue {
    v1::Queue {
        name: format!("rooms/{room}/queues/{}", view.name),
        create_time: Some(timestamp(view.create_time)),
        ready_count: view.ready,
        leased_count: view.leased,
        size: view.ready + view.leased,
    }
}
