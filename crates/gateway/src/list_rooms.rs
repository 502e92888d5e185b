//! ListRooms: the one call that asks every shard.
//!
//! Shards are walked in their order. The page token names a shard and a position in it; leaders and gateways read the
//! same form, and a leader that has no more names the next shard. So the gateway only asks on until the page is full.

use conclave_proto::page::RoomsPage;
use conclave_proto::status::ApiError;
use conclave_proto::v1::{ListRoomsRequest, ListRoomsResponse};
use conclave_types::limits::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
use prost::Message;
use tonic::Status;

use crate::frames::{Run, framed};
use crate::unary::{Call, malformed};

/// Shards asked for one page. A cluster of nearly empty shards would otherwise make one call ask them all; the caller
/// gets a short page and goes on.
const SHARDS_PER_PAGE: usize = 128;

/// Answers one page.
pub async fn list_rooms(call: &Call<'_>, request: Run) -> Result<ListRoomsResponse, Status> {
    let request = ListRoomsRequest::decode(request.single()).map_err(|_| malformed("not a ListRoomsRequest"))?;
    if !request.parent.is_empty() {
        return Err(ApiError::field_invalid("parent", "must be empty: rooms belong to the token's project").into());
    }
    let page_size = match request.page_size {
        0 => DEFAULT_PAGE_SIZE,
        size if size <= MAX_PAGE_SIZE => size,
        _ => return Err(ApiError::field_invalid("page_size", "must be 1 to 1000").into()),
    };
    let shards = call.core.router.map().ok_or_else(ApiError::no_leader)?.shards.len();
    let mut token = request.page_token;
    let mut page = ListRoomsResponse::default();
    for _ in 0..SHARDS_PER_PAGE {
        let shard = RoomsPage::of_token(&token)?.shard;
        if usize::from(shard.0) >= shards {
            return Err(ApiError::field_invalid("page_token", "must be one that a list returned").into());
        }
        let wanted = page_size.saturating_sub(page.rooms.len() as u32);
        let part = ListRoomsRequest { parent: String::new(), page_size: wanted, page_token: token };
        let answer = call.to_shard(shard, framed(&part)).await?;
        let part = ListRoomsResponse::decode(answer.message()).map_err(|_| ApiError::internal("list rooms"))?;
        page.rooms.extend(part.rooms);
        token = part.next_page_token;
        if token.is_empty() || page.rooms.len() >= page_size as usize {
            break;
        }
    }
    page.next_page_token = token;
    Ok(page)
}
