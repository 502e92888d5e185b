//! What a queue is told to do, by `create` and `update`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use conclave_types::QueueName;
use conclave_types::limits::{
    LEASE_RANGE_MS, MAX_BACKOFF_MS, MAX_DEDUPLICATION_WINDOW_MS, MAX_IN_FLIGHT_RANGE, MAX_ITEM_TIME_MS,
    MAX_MAX_ATTEMPTS, MAX_MAX_ITEMS, MAX_QUEUE_BYTES,
};

use super::QueueArgs;
use crate::flags::duration;

#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    #[command(flatten)]
    pub settings: Settings,
}

/// The value in brackets is that of a new queue.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Whether it takes and hands out items [new queue: active]
    #[arg(long, value_enum)]
    pub state: Option<QueueState>,
    /// Lease of a delivery whose receive names none, 1s to 12h [new queue: 30s]
    #[arg(long, value_parser = duration::within(LEASE_RANGE_MS))]
    pub lease: Option<Duration>,
    /// Deliveries of an item after which it is a dead letter, to 1000; 0 for as many as it takes [new queue: 10]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_MAX_ATTEMPTS)))]
    pub max_attempts: Option<u32>,
    /// How long an item waits after its first failed delivery, doubled with each further one, to 12h [new queue: 0s]
    #[arg(long, value_parser = duration::within(0..=MAX_BACKOFF_MS))]
    pub backoff: Option<Duration>,
    /// Longest such wait, to 12h [new queue: 1m]
    #[arg(long, value_parser = duration::within(0..=MAX_BACKOFF_MS))]
    pub max_backoff: Option<Duration>,
    /// How long the ids of messages are remembered, to 168h (7 days); 0s for not at all [new queue: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration::within(0..=MAX_DEDUPLICATION_WINDOW_MS))]
    pub deduplication_window: Option<Duration>,
    /// Most items, whatever their state, 1 to 100000000 [new queue: 10000000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=MAX_MAX_ITEMS))]
    pub max_items: Option<u64>,
    /// Most bytes of all items, to 1 TiB; 0 for no bound [new queue: 0]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(0..=MAX_QUEUE_BYTES))]
    pub max_bytes: Option<u64>,
    /// What a send does that would make it larger than it may be [new queue: reject]
    #[arg(long, value_enum)]
    pub overflow: Option<Overflow>,
    /// How long items live that are sent from now on, to 8784h (366 days); 0s for ever [new queue: 0s]
    #[arg(long, value_parser = duration::within(0..=MAX_ITEM_TIME_MS))]
    pub retention: Option<Duration>,
    /// Most deliveries that are out at once, 1 to 10000 [new queue: 1000]
    #[arg(long, value_name = "COUNT", value_parser = in_flight(*MAX_IN_FLIGHT_RANGE.start()))]
    pub max_in_flight: Option<u32>,
    /// The same for each consumer, to 10000; 0 for no bound of its own [new queue: 0]
    #[arg(long, value_name = "COUNT", value_parser = in_flight(0))]
    pub max_in_flight_per_consumer: Option<u32>,
    /// Queue of the same room for dead letters; '' for this queue's name with .dead behind it [new queue: '']
    #[arg(long, value_name = "QUEUE", value_parser = name_or_empty)]
    pub dead_letter_queue: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QueueState {
    /// Takes items and hands them out
    Active,
    /// Takes items and hands out none
    Paused,
    /// Takes and hands out none
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overflow {
    /// It is refused
    Reject,
    /// The oldest waiting items of the lowest priority go
    DropOldest,
}

fn in_flight(least: u32) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(least)..=i64::from(*MAX_IN_FLIGHT_RANGE.end()))
}

fn name_or_empty(text: &str) -> Result<String, String> {
    if !text.is_empty() {
        text.parse::<QueueName>().map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}
