//! Domain values in the form the public API gives them.

use conclave_proto::v1;
use conclave_proto::v1::ack_deliveries_response::Result as AckResult;
use conclave_proto::v1::cancel_items_response::Result as CancelledResult;
use conclave_room::{CancelResult, DeliveryResult};
use conclave_types::Revision;

pub fn delivery_results(results: Vec<DeliveryResult>) -> Vec<i32> {
    let result = |result| match result {
        DeliveryResult::Done => AckResult::Acked,
        DeliveryResult::AlreadyDone => AckResult::AlreadyAcked,
        DeliveryResult::Stale => AckResult::Stale,
    };
    results.into_iter().map(|each| result(each).into()).collect()
}

pub fn cancel_results(results: Vec<CancelResult>) -> Vec<i32> {
    let result = |result| match result {
        CancelResult::Cancelled => CancelledResult::Cancelled,
        CancelResult::Gone => CancelledResult::Gone,
        CancelResult::InFlight => CancelledResult::Leased,
    };
    results.into_iter().map(|each| result(each).into()).collect()
}

pub fn moved(moved_count: u64, remaining_count: u64, revision: Revision) -> v1::MoveItemsResponse {
    v1::MoveItemsResponse { moved_count, remaining_count, revision: revision.0 }
}

pub fn purged(purged_count: u64, remaining_count: u64, revision: Revision) -> v1::PurgeItemsResponse {
    v1::PurgeItemsResponse { purged_count, remaining_count, revision: revision.0 }
}
