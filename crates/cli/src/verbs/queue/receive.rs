//! Receives items once.

use anyhow::Result;
use conclave_client::Client;
use conclave_proto::v1;

use super::{items, name, settle};
use crate::flags::{Output, ReceiveArgs};
use crate::verbs::print;

pub async fn run(client: &Client, output: Output, receive: ReceiveArgs) -> Result<()> {
    let parent = name(&receive.target);
    let request = v1::ReceiveItemsRequest {
        parent: parent.clone(),
        max_items: receive.max,
        wait: Some(receive.wait.try_into()?),
        lease: receive.lease.map(TryInto::try_into).transpose()?,
        consumer: receive.consumer.map(|consumer| consumer.to_string()).unwrap_or_default(),
        create: Some(!receive.no_create),
        take: receive.take,
        ..Default::default()
    };
    let received = client.receive_items(request).await?;
    print::text(&items::deliveries(output, &received.deliveries)?)?;
    if receive.ack {
        // Printed first: what is acknowledged is gone.
        settle::ack_printed(client, &parent, &received.deliveries).await?;
    }
    Ok(())
}
