//! ListRooms: the one call that asks every shard.
//!
//! Shards are walked in their order, one page at a time. The page token is `{shard}:{position}` in decimal and whatever
//! the shard's leader gave: this gateway and the leaders read the same form, so a leader's token is passed on as it is,
//! and the first page of a shard is asked for with an empty position.

use conclave_proto::status::ApiError;
use conclave_proto::v1::{ListRoomsRequest, ListRoomsResponse};
use conclave_types::ShardId;
use conclave_types::limits::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
use prost::Message;
use tonic::Status;

use crate::frames::{Run, framed};
use crate::retry::Repeat;
use crate::unary::{Call, malformed};

/// Shards asked for one page. A cluster of nearly empty shards would otherwise make one call ask them all; the caller
/// gets a short page and goes on.
const SHARDS_PER_PAGE: usize = 128;

/// Answers one page.
pub async fn list_rooms(call: &Call<'_>, request: Run) -> Result<ListRoomsResponse, Status> {
    let message = request.messages().next().map(|message| request.payload(message)).unwrap_or_default();
    let request = ListRoomsRequest::decode(message).map_err(|_| malformed("not a ListRoomsRequest"))?;
    if !request.parent.is_empty() {
        return Err(ApiError::field_invalid("parent", "must be empty: rooms belong to the token's project").into());
    }
    let page_size = match request.page_size {
        0 => DEFAULT_PAGE_SIZE,
        size if size <= MAX_PAGE_SIZE => size,
        _ => return Err(ApiError::field_invalid("page_size", "must be 1 to 1000").into()),
    };
    let shards = call.core.router.map().ok_or_else(ApiError::no_leader)?.shards.len();
    let mut token = if request.page_token.is_empty() { first_of(0) } else { request.page_token };
    let mut page = ListRoomsResponse::default();
    for _ in 0..SHARDS_PER_PAGE {
        let shard = shard_of(&token).filter(|shard| usize::from(shard.0) < shards);
        let shard = shard.ok_or_else(|| ApiError::field_invalid("page_token", "must be one that a list returned"))?;
        let wanted = page_size - page.rooms.len() as u32;
        let part = ListRoomsRequest { parent: String::new(), page_size: wanted, page_token: token };
        let answer = call.to_shard(shard, framed(&part), Repeat::Recognised).await?;
        let part = ListRoomsResponse::decode(answer.message()).map_err(|_| ApiError::internal("list rooms"))?;
        page.rooms.extend(part.rooms);
        token = match part.next_page_token {
            more if !more.is_empty() => more,
            _ if usize::from(shard.0) + 1 < shards => first_of(shard.0 + 1),
            _ => return Ok(page),
        };
        if page.rooms.len() >= page_size as usize {
            break;
        }
    }
    page.next_page_token = token;
    Ok(page)
}

fn first_of(shard: u16) -> String {
    format!("{shard}:")
}

fn shard_of(token: &str) -> Option<ShardId> {
    token.split_once(':')?.0.parse().ok().map(ShardId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_shard() {
        assert_eq!(shard_of(&first_of(12)), Some(ShardId(12)));
        assert_eq!(shard_of("3:some:inner"), Some(ShardId(3)));
        for bad in ["", "x:", "70000:", "5"] {
            assert_eq!(shard_of(bad), None, "{bad}");
        }
    }
}
