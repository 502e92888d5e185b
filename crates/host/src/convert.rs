//! Domain values in the form the public API gives them.

use conclave_proto::v1::ack_deliveries_response::Result as AckResult;
use conclave_room::DeliveryResult;

pub fn ack_results(results: Vec<DeliveryResult>) -> Vec<i32> {
    let result = |result| match result {
        DeliveryResult::Acked => AckResult::Acked,
        DeliveryResult::AlreadyAcked => AckResult::AlreadyAcked,
        DeliveryResult::Stale => AckResult::Stale,
    };
    results.into_iter().map(|each| result(each).into()).collect()
}
