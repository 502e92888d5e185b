//! What becomes of deliveries and of items: acknowledged, given back, held longer, cancelled.

use std::time::Duration;

use anyhow::Result;
use conclave_client::Client;
use conclave_proto::v1;
use conclave_proto::v1::ack_deliveries_response::Result as Settled;
use conclave_proto::v1::cancel_items_response::Result as Cancelled;
use conclave_types::DeliveryId;
use conclave_types::limits::MAX_BATCH_ITEMS;
use serde_json::{Value, json};

use super::name;
use crate::flags::{DeliveriesArgs, NackArgs, Output, QueueArgs};
use crate::verbs::print;

const COLUMNS: [&str; 2] = ["delivery", "result"];

pub async fn ack(client: &Client, output: Output, acked: &DeliveriesArgs) -> Result<()> {
    let (parent, deliveries) = (name(&acked.target), ids(&acked.deliveries));
    let request = v1::AckDeliveriesRequest { parent, deliveries, ..Default::default() };
    let results = client.ack_deliveries(request).await?.results;
    print::records(output, &COLUMNS, &settled(&acked.deliveries, &results, "acked"))
}

pub async fn nack(client: &Client, output: Output, nack: NackArgs) -> Result<()> {
    let given = nack.deliveries;
    let request = v1::NackDeliveriesRequest {
        parent: name(&given.target),
        deliveries: ids(&given.deliveries),
        delay: nack.delay.map(TryInto::try_into).transpose()?,
        reject: nack.reject,
        reason: nack.reason.unwrap_or_default(),
        ..Default::default()
    };
    let results = client.nack_deliveries(request).await?.results;
    let done = if nack.reject { "rejected" } else { "given back" };
    print::records(output, &COLUMNS, &settled(&given.deliveries, &results, done))
}

pub async fn extend(client: &Client, output: Output, extended: &DeliveriesArgs, lease: Option<Duration>) -> Result<()> {
    let (parent, deliveries) = (name(&extended.target), ids(&extended.deliveries));
    let lease = lease.map(TryInto::try_into).transpose()?;
    let request = v1::ExtendLeasesRequest { parent, deliveries, lease, ..Default::default() };
    let results = client.extend_leases(request).await?.results;
    print::records(output, &COLUMNS, &settled(&extended.deliveries, &results, "extended"))
}

pub async fn cancel(client: &Client, output: Output, target: &QueueArgs, items: Vec<u64>) -> Result<()> {
    let request = v1::CancelItemsRequest { parent: name(target), items: items.clone(), ..Default::default() };
    let results = client.cancel_items(request).await?.results;
    print::records(output, &["item", "result"], &cancelled(&items, &results))
}

/// Acknowledges what was printed. What does not count any more is no failure: it comes again, and it is said.
pub async fn ack_printed(client: &Client, parent: &str, printed: &[v1::Delivery]) -> Result<()> {
    let printed: Vec<v1::DeliveryId> = printed.iter().filter_map(|delivery| delivery.id).collect();
    for deliveries in printed.chunks(MAX_BATCH_ITEMS) {
        let (parent, deliveries) = (parent.to_owned(), deliveries.to_vec());
        let request = v1::AckDeliveriesRequest { parent, deliveries: deliveries.clone(), ..Default::default() };
        let results = client.ack_deliveries(request).await?.results;
        for (id, result) in deliveries.iter().zip(results) {
            if Settled::try_from(result) == Ok(Settled::Stale) {
                eprintln!("{}.{} may come again: its lease ended before it was acknowledged", id.item, id.attempt);
            }
        }
    }
    Ok(())
}

/// Gives back what nobody looked at, so that others need not wait for its leases.
pub async fn give_back(client: &Client, parent: &str, unseen: &[v1::Delivery]) -> Result<()> {
    let unseen: Vec<v1::DeliveryId> = unseen.iter().filter_map(|delivery| delivery.id).collect();
    for deliveries in unseen.chunks(MAX_BATCH_ITEMS) {
        let (parent, deliveries) = (parent.to_owned(), deliveries.to_vec());
        let delay = Some(prost_types::Duration::default());
        client.nack_deliveries(v1::NackDeliveriesRequest { parent, deliveries, delay, ..Default::default() }).await?;
    }
    Ok(())
}

fn ids(deliveries: &[DeliveryId]) -> Vec<v1::DeliveryId> {
    deliveries.iter().map(|id| v1::DeliveryId { item: id.item, attempt: id.attempt }).collect()
}

/// What became of each delivery; `done` is the word for one that counted.
fn settled(deliveries: &[DeliveryId], results: &[i32], done: &str) -> Vec<Vec<Value>> {
    let word = |result: i32| match Settled::try_from(result) {
        Ok(Settled::Acked) => done,
        Ok(Settled::AlreadyAcked) => "already acked",
        Ok(Settled::Stale) => "stale",
        Ok(Settled::Unspecified) | Err(_) => "unknown",
    };
    let row = |(id, result): (&DeliveryId, &i32)| vec![json!(id.to_string()), json!(word(*result))];
    deliveries.iter().zip(results).map(row).collect()
}

fn cancelled(items: &[u64], results: &[i32]) -> Vec<Vec<Value>> {
    let word = |result: i32| match Cancelled::try_from(result) {
        Ok(Cancelled::Cancelled) => "cancelled",
        Ok(Cancelled::Gone) => "gone",
        Ok(Cancelled::Leased) => "leased",
        Ok(Cancelled::Unspecified) | Err(_) => "unknown",
    };
    items.iter().zip(results).map(|(item, result)| vec![json!(item), json!(word(*result))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delivery_and_each_item_says_what_became_of_it() {
        let deliveries = [(1, 1), (1, 2), (7, 1), (8, 1)].map(|(item, attempt)| DeliveryId { item, attempt });
        let rows = settled(&deliveries, &[1, 2, 3, 99], "given back");
        let text = print::table(&COLUMNS, &rows);
        assert_eq!(
            text,
            "DELIVERY  RESULT\n1.1       given back\n1.2       already acked\n7.1       stale\n8.1       unknown\n"
        );
        let rows = cancelled(&[3, 4, 5, 6], &[1, 2, 3, 99]);
        let text = print::table(&["item", "result"], &rows);
        assert_eq!(text, "ITEM  RESULT\n3     cancelled\n4     gone\n5     leased\n6     unknown\n");
    }
}
