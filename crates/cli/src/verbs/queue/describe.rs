//! Queues as they are printed: their sizes, settings and statistics.

use anyhow::Result;
use conclave_proto::time::ms_of_duration;
use conclave_proto::v1;
use conclave_proto::v1::queue_settings::{Overflow, State};
use prost_types::Duration;
use serde_json::{Map, Value, json};

use crate::flags::{Output, written_duration};
use crate::verbs::print;

const SIZE_COLUMNS: [&str; 8] = ["name", "state", "size", "ready", "leased", "delayed", "grouped", "size_bytes"];

/// The sizes of queues, a row each.
pub fn sizes(output: Output, queues: &[v1::Queue]) -> Result<String> {
    let record = |queue: &v1::Queue| {
        vec![
            json!(queue.name),
            json!(state(queue)),
            json!(queue.size),
            json!(queue.ready_count),
            json!(queue.leased_count),
            json!(queue.delayed_count),
            json!(queue.grouped_count),
            json!(queue.size_bytes),
        ]
    };
    print::rendered(output, &SIZE_COLUMNS, &queues.iter().map(record).collect::<Vec<_>>())
}

/// One queue and its settings.
pub fn settings(output: Output, queue: &v1::Queue) -> Result<String> {
    if output == Output::Json {
        return print::document(&Value::Object(queue_fields(queue)));
    }
    let set = queue.settings.clone().unwrap_or_default();
    let duration = |duration: Option<&Duration>| written_duration(ms(duration));
    let dead_letters = set.dead_letter_queue.as_deref().filter(|name| !name.is_empty());
    Ok(print::fields(&[
        ("name", queue.name.clone()),
        ("created", queue.create_time.map(|time| time.to_string()).unwrap_or_default()),
        ("state", state(queue).to_owned()),
        ("lease", duration(set.lease.as_ref())),
        ("max attempts", none_at_0(set.max_attempts().into(), "no bound")),
        ("backoff", duration(set.backoff.as_ref())),
        ("max backoff", duration(set.max_backoff.as_ref())),
        ("deduplication window", duration(set.deduplication_window.as_ref())),
        ("max items", set.max_items().to_string()),
        ("max bytes", none_at_0(set.max_bytes(), "no bound")),
        ("overflow", overflow(set.overflow()).to_owned()),
        ("retention", Some(duration(set.retention.as_ref())).filter(|r| r != "0s").unwrap_or("for ever".into())),
        ("max in flight", set.max_in_flight().to_string()),
        ("max in flight per consumer", none_at_0(set.max_in_flight_per_consumer().into(), "no bound")),
        ("dead letter queue", dead_letters.map_or_else(|| default_dead_letter_queue(queue), str::to_owned)),
    ]))
}

/// One queue's sizes, rates, totals and consumers.
pub fn stats(response: &v1::GetQueueStatsResponse) -> String {
    let queue = response.queue.clone().unwrap_or_default();
    let stats = response.stats.clone().unwrap_or_default();
    let totals = queue.totals.unwrap_or_default();
    let oldest = stats.oldest_age.as_ref().map_or_else(|| "-".to_owned(), |oldest| age(ms(Some(oldest))));
    let count = |count: u64| count.to_string();
    let rate = |rate: f64| format!("{rate:.1}/s");
    let fields = print::fields(&[
        ("name", queue.name.clone()),
        ("state", state(&queue).to_owned()),
        ("size", count(queue.size)),
        ("size bytes", count(queue.size_bytes)),
        ("ready", count(queue.ready_count)),
        ("leased", count(queue.leased_count)),
        ("delayed", count(queue.delayed_count)),
        ("grouped", count(queue.grouped_count)),
        ("oldest ready", oldest),
        ("waiting receivers", count(stats.waiting_receivers.into())),
        ("dead letters", format!("{} in {}", stats.dead_count, stats.dead_letter_queue)),
        ("send rate", rate(stats.sent_rate)),
        ("delivery rate", rate(stats.delivered_rate)),
        ("ack rate", rate(stats.acked_rate)),
        ("sent", count(totals.sent)),
        ("duplicates", count(totals.duplicates)),
        ("delivered", count(totals.delivered)),
        ("acked", count(totals.acked)),
        ("failed", count(totals.failed)),
        ("dead", count(totals.dead)),
        ("expired", count(totals.expired)),
        ("dropped", count(totals.dropped)),
        ("removed", count(totals.removed)),
    ]);
    let consumers: Vec<_> = stats.consumers.iter().map(consumer).collect();
    match consumers.is_empty() {
        true => fields,
        false => format!("{fields}\n{}", print::table(&CONSUMER_COLUMNS, &consumers)),
    }
}

/// The same for programs.
pub fn stats_fields(response: &v1::GetQueueStatsResponse) -> Value {
    let queue = response.queue.clone().unwrap_or_default();
    let stats = response.stats.clone().unwrap_or_default();
    let object = |record: Vec<Value>| {
        let names = CONSUMER_COLUMNS.iter().map(|column| (*column).to_owned());
        Value::Object(names.zip(record).collect())
    };
    let mut fields = queue_fields(&queue);
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("revision", json!(response.revision));
    put("oldest_age_ms", json!(stats.oldest_age.as_ref().map(|oldest| ms(Some(oldest)))));
    put("sent_rate", json!(stats.sent_rate));
    put("delivered_rate", json!(stats.delivered_rate));
    put("acked_rate", json!(stats.acked_rate));
    put("dead_letter_queue", json!(stats.dead_letter_queue));
    put("dead_count", json!(stats.dead_count));
    put("waiting_receivers", json!(stats.waiting_receivers));
    put("consumers", json!(stats.consumers.iter().map(consumer).map(object).collect::<Vec<_>>()));
    Value::Object(fields)
}

const CONSUMER_COLUMNS: [&str; 3] = ["consumer", "leased", "last_lease_time"];

fn consumer(consumer: &v1::QueueConsumer) -> Vec<Value> {
    let last = consumer.last_lease_time.map(|time| time.to_string());
    vec![json!(consumer.consumer), json!(consumer.leased_count), json!(last)]
}

fn queue_fields(queue: &v1::Queue) -> Map<String, Value> {
    let set = queue.settings.clone().unwrap_or_default();
    let totals = queue.totals.unwrap_or_default();
    let settings = json!({
        "lease_ms": ms(set.lease.as_ref()), "max_attempts": set.max_attempts(), "backoff_ms": ms(set.backoff.as_ref()),
        "max_backoff_ms": ms(set.max_backoff.as_ref()),
        "deduplication_window_ms": ms(set.deduplication_window.as_ref()), "max_items": set.max_items(),
        "max_bytes": set.max_bytes(), "overflow": overflow(set.overflow()),
        "retention_ms": ms(set.retention.as_ref()), "max_in_flight": set.max_in_flight(),
        "max_in_flight_per_consumer": set.max_in_flight_per_consumer(),
        "dead_letter_queue": set.dead_letter_queue(),
    });
    let totals = json!({
        "sent": totals.sent, "duplicates": totals.duplicates, "delivered": totals.delivered, "acked": totals.acked,
        "failed": totals.failed, "dead": totals.dead, "expired": totals.expired, "dropped": totals.dropped,
        "removed": totals.removed,
    });
    let fields = [
        ("name", json!(queue.name)),
        ("create_time", json!(queue.create_time.map(|time| time.to_string()))),
        ("state", json!(state(queue))),
        ("size", json!(queue.size)),
        ("size_bytes", json!(queue.size_bytes)),
        ("ready", json!(queue.ready_count)),
        ("leased", json!(queue.leased_count)),
        ("delayed", json!(queue.delayed_count)),
        ("grouped", json!(queue.grouped_count)),
        ("settings", settings),
        ("totals", totals),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn state(queue: &v1::Queue) -> &'static str {
    match queue.settings.as_ref().map(v1::QueueSettings::state) {
        Some(State::Active) => "active",
        Some(State::Paused) => "paused",
        Some(State::Closed) => "closed",
        Some(State::Unspecified) | None => "unknown",
    }
}

fn overflow(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Unspecified => "unknown",
        Overflow::Reject => "reject",
        Overflow::DropOldest => "drop-oldest",
    }
}

/// The name without its room, with what a dead letter's queue has behind it.
fn default_dead_letter_queue(queue: &v1::Queue) -> String {
    let name = queue.name.split_once("/queues/").map_or(queue.name.as_str(), |(_, name)| name);
    format!("{name}.dead")
}

fn none_at_0(number: u64, none: &str) -> String {
    if number == 0 { none.to_owned() } else { number.to_string() }
}

/// What the cluster sends is a duration that fits; anything else is shown as 0.
fn ms(duration: Option<&Duration>) -> u64 {
    duration.and_then(ms_of_duration).unwrap_or_default()
}

/// How long it is, to the unit that counts.
fn age(ms: u64) -> String {
    let s = ms / 1_000;
    let (m, h, d) = (s / 60, s / 3_600, s / 86_400);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{s}s"),
        60_000..3_600_000 => format!("{m}m {:02}s", s % 60),
        3_600_000..86_400_000 => format!("{h}h {:02}m", m % 60),
        _ => format!("{d}d {:02}h", h % 24),
    }
}

#[cfg(test)]
mod tests;
