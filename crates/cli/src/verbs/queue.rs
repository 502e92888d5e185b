//! `conclave room queue …`

use anyhow::{Context, Result};
use bytes::Bytes;
use conclave_client::Client;
use conclave_proto::v1;
use conclave_proto::v1::ack_deliveries_response::Result as AckResult;
use serde_json::{Value, json};

use super::payload::{self, Content};
use super::{print, rooms};
use crate::flags::{AckArgs, Output, QueueArgs, QueueCommand, ReceiveArgs, SendArgs};

pub async fn run(client: &Client, output: Output, command: QueueCommand) -> Result<()> {
    match command {
        QueueCommand::Send(send) => run_send(client, output, send).await,
        QueueCommand::Receive(receive) => run_receive(client, output, receive).await,
        QueueCommand::Ack(ack) => run_ack(client, output, ack).await,
        QueueCommand::Size(queue) => {
            let request = v1::GetQueueRequest { name: name(&queue), ..Default::default() };
            let queue = client.get_queue(request).await?.queue.context("the answer has no queue")?;
            print_queues(output, &[queue])
        }
        QueueCommand::List { room } => {
            let mut queues = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = v1::ListQueuesRequest { parent: rooms::name(&room), page_token, ..Default::default() };
                let page = client.list_queues(request).await?;
                queues.extend(page.queues);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return print_queues(output, &queues);
                }
            }
        }
    }
}

async fn run_send(client: &Client, output: Output, send: SendArgs) -> Result<()> {
    let headers = send.headers.into_iter().collect();
    let item = |Content { body, content_type }| v1::NewItem {
        body,
        content_type: content_type.to_owned(),
        headers: std::collections::BTreeMap::clone(&headers),
    };
    let items: Vec<_> = payload::read(send.payload)?.into_iter().map(item).collect();
    let count = items.len() as u64;
    let create = Some(!send.no_create);
    let request = v1::SendItemsRequest { parent: name(&send.target), items, create, ..Default::default() };
    let sent = client.send_items(request).await?;
    let record = |item| vec![json!(item), json!(sent.revision)];
    print::records(
        output,
        &["item", "revision"],
        &(sent.first_item..sent.first_item + count).map(record).collect::<Vec<_>>(),
    )
}

async fn run_receive(client: &Client, output: Output, receive: ReceiveArgs) -> Result<()> {
    let parent = name(&receive.target);
    let request = v1::ReceiveItemsRequest {
        parent: parent.clone(),
        max_items: receive.max_items,
        wait: Some(receive.wait.try_into()?),
        lease: Some(receive.lease.try_into()?),
        create: Some(!receive.no_create),
        ..Default::default()
    };
    let received = client.receive_items(request).await?;
    let columns = ["delivery", "body", "content_type", "sender", "headers"];
    print::records(output, &columns, &received.deliveries.iter().map(delivery).collect::<Vec<_>>())?;
    let ids: Vec<_> = received.deliveries.into_iter().filter_map(|delivery| delivery.id).collect();
    if receive.ack && !ids.is_empty() {
        // Printed first: what is acknowledged is gone.
        client.ack_deliveries(v1::AckDeliveriesRequest { parent, deliveries: ids, ..Default::default() }).await?;
    }
    Ok(())
}

async fn run_ack(client: &Client, output: Output, ack: AckArgs) -> Result<()> {
    let ids = ack.deliveries.iter().map(|id| v1::DeliveryId { item: id.item, attempt: id.attempt });
    let request =
        v1::AckDeliveriesRequest { parent: name(&ack.target), deliveries: ids.collect(), ..Default::default() };
    let acked = client.ack_deliveries(request).await?;
    let record = |(id, result): (_, &i32)| vec![json!(format!("{id}")), json!(result_word(*result))];
    print::records(
        output,
        &["delivery", "result"],
        &ack.deliveries.iter().zip(&acked.results).map(record).collect::<Vec<_>>(),
    )
}

fn result_word(result: i32) -> &'static str {
    match AckResult::try_from(result) {
        Ok(AckResult::Acked) => "acked",
        Ok(AckResult::AlreadyAcked) => "already acked",
        Ok(AckResult::Stale) => "stale",
        Ok(AckResult::Unspecified) | Err(_) => "unknown",
    }
}

fn delivery(delivery: &v1::Delivery) -> Vec<Value> {
    let id = delivery.id.as_ref().map(|id| format!("{}.{}", id.item, id.attempt));
    vec![
        json!(id),
        body(&delivery.body, &delivery.content_type),
        json!(delivery.content_type),
        json!(delivery.sender),
        json!(delivery.headers),
    ]
}

/// JSON as JSON, text as text, other bytes as their hexadecimal digits.
fn body(body: &Bytes, content_type: &str) -> Value {
    if content_type.starts_with("application/json")
        && let Ok(value) = serde_json::from_slice(body)
    {
        return value;
    }
    match std::str::from_utf8(body) {
        Ok(text) => json!(text),
        Err(_) => json!(body.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

fn print_queues(output: Output, queues: &[v1::Queue]) -> Result<()> {
    let record = |queue: &v1::Queue| {
        vec![json!(queue.name), json!(queue.size), json!(queue.ready_count), json!(queue.leased_count)]
    };
    print::records(output, &["name", "size", "ready", "leased"], &queues.iter().map(record).collect::<Vec<_>>())
}

fn name(target: &QueueArgs) -> String {
    format!("rooms/{}/queues/{}", target.room, target.queue)
}
