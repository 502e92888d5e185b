//! Items and their deliveries as they are printed: a row for people, an object for programs.

use anyhow::Result;
use conclave_proto::time::ms_of_duration;
use conclave_proto::v1;
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::flags::Output;
use crate::verbs::{body, print};

const DELIVERY_COLUMNS: [&str; 7] = ["delivery", "send_time", "sender", "priority", "group", "headers", "body"];
const ITEM_COLUMNS: [&str; 8] = ["item", "attempts", "send_time", "sender", "priority", "group", "standing", "body"];

/// What was received. Bodies are in full: with an acknowledgement this is the last that is seen of them.
pub fn deliveries(output: Output, deliveries: &[v1::Delivery]) -> Result<String> {
    match output {
        Output::Json => print::document(&Value::Array(deliveries.iter().map(delivery_fields).collect())),
        Output::Table => {
            let row = |delivery: &v1::Delivery| {
                vec![
                    json!(delivery_id(delivery)),
                    time(delivery.send_time.as_ref()),
                    json!(delivery.sender),
                    json!(delivery.priority),
                    given(&delivery.group),
                    json!(Some(&delivery.headers).filter(|headers| !headers.is_empty())),
                    json!(body::line(&delivery.body)),
                ]
            };
            Ok(print::table(&DELIVERY_COLUMNS, &deliveries.iter().map(row).collect::<Vec<_>>()))
        }
    }
}

/// Items that were looked at.
pub fn items(output: Output, items: &[v1::QueueItem]) -> Result<String> {
    match output {
        Output::Json => print::document(&Value::Array(items.iter().map(item_fields).collect())),
        Output::Table => {
            let row = |item: &v1::QueueItem| {
                let content = item.content.clone().unwrap_or_default();
                vec![
                    json!(item.item),
                    json!(item.attempts),
                    time(item.send_time.as_ref()),
                    json!(item.sender),
                    json!(content.priority),
                    given(&content.group),
                    given(&standing(item)),
                    json!(body::excerpt(&content.body)),
                ]
            };
            Ok(print::table(&ITEM_COLUMNS, &items.iter().map(row).collect::<Vec<_>>()))
        }
    }
}

/// What stands above the lines of a tail.
pub fn tail_head() -> String {
    tail_columns("DELIVERY", "SEND TIME", "SENDER", "BODY")
}

/// One line of a tail.
pub fn tail_line(output: Output, delivery: &v1::Delivery) -> String {
    match output {
        Output::Json => delivery_fields(delivery).to_string(),
        Output::Table => {
            let time = delivery.send_time.map_or_else(|| "-".to_owned(), |time| time.to_string());
            tail_columns(&delivery_id(delivery), &time, &delivery.sender, &body::line(&delivery.body))
        }
    }
}

/// What comes is not known beforehand, so the widths are those of what usually comes.
fn tail_columns(delivery: &str, time: &str, sender: &str, body: &str) -> String {
    format!("{delivery:<10}  {time:<24}  {sender:<12}  {body}").trim_end().to_owned()
}

pub fn delivery_id(delivery: &v1::Delivery) -> String {
    delivery.id.as_ref().map(|id| format!("{}.{}", id.item, id.attempt)).unwrap_or_default()
}

pub fn delivery_fields(delivery: &v1::Delivery) -> Value {
    let id = delivery.id.unwrap_or_default();
    let (body, encoding) = body::value(&delivery.body, &delivery.content_type);
    json!({
        "delivery": delivery_id(delivery), "item": id.item, "attempt": id.attempt,
        "body": body, "encoding": encoding, "content_type": delivery.content_type, "headers": delivery.headers,
        "send_time": time(delivery.send_time.as_ref()), "sender": delivery.sender, "send_revision": delivery.revision,
        "lease_remaining_ms": delivery.lease_remaining.as_ref().and_then(ms_of_duration),
        "priority": delivery.priority, "group": delivery.group, "message_id": delivery.message_id,
        "dead_letter": delivery.dead_letter.as_ref().map(dead_letter),
    })
}

fn item_fields(item: &v1::QueueItem) -> Value {
    let content = item.content.clone().unwrap_or_default();
    let (body, encoding) = body::value(&content.body, &content.content_type);
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("item", json!(item.item));
    put("state", json!(state(item.state())));
    put("attempts", json!(item.attempts));
    put("body", body);
    put("encoding", json!(encoding));
    put("content_type", json!(content.content_type));
    put("headers", json!(content.headers));
    put("send_time", time(item.send_time.as_ref()));
    put("sender", json!(item.sender));
    put("send_revision", json!(item.revision));
    put("priority", json!(content.priority));
    put("group", json!(content.group));
    put("message_id", json!(content.message_id));
    put("ready_time", time(item.ready_time.as_ref()));
    put("expire_time", time(item.expire_time.as_ref()));
    put("consumer", given(&item.consumer));
    put("lease_end_time", time(item.lease_end_time.as_ref()));
    put("dead_letter", json!(item.dead_letter.as_ref().map(dead_letter)));
    Value::Object(fields)
}

/// What is to be said of an item beside its state, for people.
fn standing(item: &v1::QueueItem) -> String {
    let mut said = Vec::new();
    if let Some(end) = item.lease_end_time {
        said.push(format!("held by {} until {end}", item.consumer));
    }
    if let Some(ready) = item.ready_time {
        said.push(format!("ready at {ready}"));
    }
    if let Some(expires) = item.expire_time {
        said.push(format!("gone at {expires}"));
    }
    if let Some(dead) = &item.dead_letter {
        let because = dead.failures.last().map(|last| last.reason.as_str()).filter(|reason| !reason.is_empty());
        let because = because.map(|reason| format!(": {}", body::line(reason.as_bytes()))).unwrap_or_default();
        said.push(format!("died in {}, {}{because}", dead.queue, death(dead.reason())));
    }
    said.join("; ")
}

fn dead_letter(dead: &v1::DeadLetter) -> Value {
    let failure = |failed: &v1::FailedDelivery| {
        json!({
            "attempt": failed.attempt, "consumer": failed.consumer, "time": time(failed.time.as_ref()),
            "kind": failure(failed.kind()), "reason": failed.reason,
        })
    };
    json!({
        "queue": dead.queue, "item": dead.item, "time": time(dead.time.as_ref()), "reason": death(dead.reason()),
        "attempts": dead.attempts, "group": dead.group,
        "failures": dead.failures.iter().map(failure).collect::<Vec<_>>(),
    })
}

fn state(state: v1::ItemState) -> &'static str {
    match state {
        v1::ItemState::Unspecified => "unknown",
        v1::ItemState::Ready => "ready",
        v1::ItemState::Leased => "leased",
        v1::ItemState::Delayed => "delayed",
        v1::ItemState::Grouped => "grouped",
    }
}

fn death(reason: v1::dead_letter::Reason) -> &'static str {
    use v1::dead_letter::Reason;
    match reason {
        Reason::Unspecified => "unknown",
        Reason::TooManyAttempts => "too many attempts",
        Reason::Rejected => "rejected",
    }
}

fn failure(kind: v1::failed_delivery::Kind) -> &'static str {
    use v1::failed_delivery::Kind;
    match kind {
        Kind::Unspecified => "unknown",
        Kind::LeaseEnded => "lease ended",
        Kind::Nacked => "nacked",
        Kind::Rejected => "rejected",
    }
}

fn time(time: Option<&Timestamp>) -> Value {
    json!(time.map(Timestamp::to_string))
}

fn given(text: &str) -> Value {
    json!(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
