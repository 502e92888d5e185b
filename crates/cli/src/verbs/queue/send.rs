//! Sends items: up to 128 a call, all of which or none the queue takes.

use anyhow::{Error, Result, ensure};
use conclave_client::Client;
use conclave_proto::v1;
use conclave_types::limits::MAX_BATCH_ITEMS;
use serde_json::{Value, json};

use super::name;
use crate::flags::{Output, SendArgs};
use crate::verbs::payload::{self, Content};
use crate::verbs::print;

/// Bodies of one call, so that it stays well below what a request may hold.
const CALL_BYTES: usize = 1 << 20;
const COLUMNS: [&str; 3] = ["item", "revision", "result"];

pub async fn run(client: &Client, output: Output, send: SendArgs) -> Result<()> {
    let (parent, create) = (name(&send.target), Some(!send.no_create));
    let mut sent = Vec::new();
    for items in calls(items(send)?) {
        let count = items.len();
        let request = v1::SendItemsRequest { parent: parent.clone(), items, create, ..Default::default() };
        match client.send_items(request).await {
            Ok(response) => sent.extend(rows(count, &response)),
            Err(error) if sent.is_empty() => return Err(error.into()),
            Err(error) => {
                // What was taken is said all the same.
                print::records(output, &COLUMNS, &sent)?;
                return Err(Error::from(error).context(format!("item {} of those given", sent.len() + 1)));
            }
        }
    }
    print::records(output, &COLUMNS, &sent)
}

/// Texts first, then what the payload's flags gave.
fn items(send: SendArgs) -> Result<Vec<v1::NewItem>> {
    let mut contents: Vec<Content> = send.texts.into_iter().map(payload::text).collect();
    contents.extend(payload::read(send.payload)?);
    let (count, ids) = (contents.len(), send.message_ids.len());
    ensure!(ids == 0 || ids == count, "{count} items and {ids} message ids: give --message-id once for each item");
    let common = v1::NewItem {
        headers: send.headers.into_iter().collect(),
        priority: send.priority,
        delay: send.delay.map(TryInto::try_into).transpose()?,
        deliver_time: send.at,
        time_to_live: send.ttl.map(TryInto::try_into).transpose()?,
        group: send.group.unwrap_or_default(),
        ..Default::default()
    };
    let mut message_ids = send.message_ids.into_iter();
    let item = |Content { body, content_type }| v1::NewItem {
        body,
        content_type: send.content_type.clone().unwrap_or_else(|| content_type.to_owned()),
        message_id: message_ids.next().unwrap_or_default(),
        ..common.clone()
    };
    Ok(contents.into_iter().map(item).collect())
}

/// The items in their order, so many a call as it takes.
fn calls(items: Vec<v1::NewItem>) -> Vec<Vec<v1::NewItem>> {
    let mut calls = Vec::new();
    let (mut call, mut bytes) = (Vec::new(), 0);
    for item in items {
        if call.len() == MAX_BATCH_ITEMS || (bytes + item.body.len() > CALL_BYTES && !call.is_empty()) {
            calls.push(std::mem::take(&mut call));
            bytes = 0;
        }
        bytes += item.body.len();
        call.push(item);
    }
    calls.push(call);
    calls
}

/// Where each item of a call stands. Of duplicates it is not told, but of the first when there is nothing else.
fn rows(count: usize, response: &v1::SendItemsResponse) -> Vec<Vec<Value>> {
    let told = |index: usize| response.duplicates.len() == count && index == 0;
    let mut next = response.first_item;
    let row = |index: usize| {
        let duplicate = response.duplicates.iter().any(|known| *known as usize == index);
        let item = (!duplicate || told(index)).then_some(next);
        next += u64::from(item.is_some());
        vec![json!(item), json!(response.revision), json!(if duplicate { "duplicate" } else { "sent" })]
    };
    (0..count).map(row).collect()
}

#[cfg(test)]
mod tests;
