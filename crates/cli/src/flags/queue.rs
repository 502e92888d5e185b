//! `conclave room queue …`

mod settings;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use conclave_types::limits::{
    LEASE_RANGE_MS, MAX_GROUP_BYTES, MAX_ITEM_TIME_MS, MAX_MESSAGE_ID_BYTES, MAX_PRIORITY, MAX_REASON_BYTES,
    MAX_RECEIVE_WAIT_MS,
};
use conclave_types::{DeliveryId, ParticipantName, QueueName, RoomName};
use prost_types::Timestamp;

use super::client::{Payload, key_value};
use super::duration;
pub use settings::{Overflow, QueueState, Settings, SettingsArgs};

/// Most bytes of a media type.
const MAX_CONTENT_TYPE_BYTES: usize = 128;
/// How often statistics may be asked for again.
const INTERVAL_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=60 * 60 * 1_000;

#[derive(Debug, Clone, Subcommand)]
pub enum QueueCommand {
    /// Send one item or many
    Send(Box<SendArgs>),
    /// Receive items under a lease
    Receive(ReceiveArgs),
    /// Print items as they come, until interrupted
    Tail(TailArgs),
    /// Acknowledge deliveries
    Ack(DeliveriesArgs),
    /// Give deliveries back that led to nothing
    Nack(NackArgs),
    /// Let the leases of deliveries end later, or earlier
    Extend {
        #[command(flatten)]
        deliveries: DeliveriesArgs,
        /// How long the items are ours from now on, 1s to 12h [default: the queue's]
        #[arg(long, value_parser = duration::within(LEASE_RANGE_MS))]
        lease: Option<Duration>,
    },
    /// Remove items that nobody holds
    Cancel {
        #[command(flatten)]
        target: QueueArgs,
        /// Positions of the items as `send` printed them
        #[arg(required = true, num_args = 1..=128, value_name = "ITEM", value_parser = clap::value_parser!(u64).range(1..))]
        items: Vec<u64>,
    },
    /// Look at items without receiving them
    Peek(PeekArgs),
    /// Show how many items a queue holds
    Size(QueueArgs),
    /// List the room's queues
    List { room: RoomName },
    /// Show a queue's items by state, its rates, totals and consumers
    Stats(StatsArgs),
    /// Show a queue and its settings
    Get(QueueArgs),
    /// Create a queue; the first send or receive that finds none does it, too
    Create(Box<SettingsArgs>),
    /// Change a queue's settings; what is not given stays
    // The group is that of the settings: here at least one must be given, which the usage would say with all their names.
    #[command(
        mut_group("Settings", |group| group.required(true)),
        override_usage = "conclave room queue update <ROOM> <QUEUE> <OPTIONS>"
    )]
    Update(Box<SettingsArgs>),
    /// Let a queue that was closed or paused take and hand out items again
    Open(QueueArgs),
    /// Let a queue neither take nor hand out items until it is opened
    Close(QueueArgs),
    /// Let a queue hand out no items until it is resumed; it still takes them
    Pause(QueueArgs),
    /// Let a queue that was paused or closed hand out and take items again
    Resume(QueueArgs),
    /// Put dead letters back to where they died, until none of those there is left
    Redrive {
        /// Name of the room
        room: RoomName,
        /// Queue that holds the dead letters, such as jobs.dead
        queue: QueueName,
        /// Most dead letters to put back [default: all]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        max: Option<u64>,
    },
    /// Move ready items to another queue, until none of those there is left
    Move(MoveArgs),
    /// Discard the items that wait, until none of those there is left; leased ones stay
    #[command(visible_alias = "drain")]
    Purge {
        #[command(flatten)]
        target: QueueArgs,
        /// Most items to discard [default: all]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        max: Option<u64>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct QueueArgs {
    /// Name of the room
    pub room: RoomName,
    /// Name of the queue
    pub queue: QueueName,
}

#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    /// Texts, each an item
    #[arg(value_name = "TEXT", group = "Payload")]
    pub texts: Vec<String>,
    #[command(flatten)]
    pub payload: Payload,
    /// A header of the items; may be repeated
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = key_value)]
    pub headers: Vec<(String, String)>,
    /// Media type of the items, at most 128 bytes [default: as each was given]
    #[arg(long, value_name = "TYPE", value_parser = at_most(MAX_CONTENT_TYPE_BYTES))]
    pub content_type: Option<String>,
    /// 0 (last) to 9 (first)
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_PRIORITY)))]
    pub priority: u32,
    /// Not delivered before so long has passed, to 8784h (366 days)
    #[arg(long, value_parser = duration::within(0..=MAX_ITEM_TIME_MS), conflicts_with_all = ["at", "group"])]
    pub delay: Option<Duration>,
    /// Not delivered before this moment, such as 2030-01-31T09:00:00Z; a past one is now
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "group")]
    pub at: Option<Timestamp>,
    /// Gone when not acknowledged for so long, 1ms to 8784h (366 days) [default: the queue's retention]
    #[arg(long, value_parser = duration::within(1..=MAX_ITEM_TIME_MS))]
    pub ttl: Option<Duration>,
    /// Group, at most 128 bytes: its items are delivered one after the other
    #[arg(long, value_parser = at_most(MAX_GROUP_BYTES))]
    pub group: Option<String>,
    /// Names the item, at most 128 bytes: another of the same id within the queue's window is left out; with several
    /// items once for each
    #[arg(long = "message-id", value_name = "ID", value_parser = at_most(MAX_MESSAGE_ID_BYTES))]
    pub message_ids: Vec<String>,
    /// Fail if the queue does not exist
    #[arg(long)]
    pub no_create: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ReceiveArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    /// Most items to receive, 1 to 128
    #[arg(long, visible_alias = "max-items", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub max: u32,
    /// How long to wait for the first item, to 60s
    #[arg(long, default_value = "0s", value_parser = duration::within(0..=MAX_RECEIVE_WAIT_MS))]
    pub wait: Duration,
    /// How long the items are ours, 1s to 12h [default: the queue's]
    #[arg(long, value_parser = duration::within(LEASE_RANGE_MS))]
    pub lease: Option<Duration>,
    /// Name of the consumer, for limits and statistics [default: the token's name]
    #[arg(long)]
    pub consumer: Option<ParticipantName>,
    /// Acknowledge what was received once it is printed
    #[arg(long)]
    pub ack: bool,
    /// Take items out at once (at most once): what is not printed is lost
    #[arg(long, conflicts_with_all = ["ack", "lease"])]
    pub take: bool,
    /// Fail if the queue does not exist
    #[arg(long)]
    pub no_create: bool,
}

/// Without `ack` a tail holds what it printed, and nobody else gets it meanwhile.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    /// Acknowledge each item once it is printed; otherwise all come again when their leases end
    #[arg(long)]
    pub ack: bool,
    /// End after this many items
    #[arg(long, visible_alias = "limit", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
    /// Most items that are ours at once, 1 to 1000
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub window: u32,
    /// How long each item is ours, 1s to 12h [default: the queue's]
    #[arg(long, value_parser = duration::within(LEASE_RANGE_MS))]
    pub lease: Option<Duration>,
    /// Name of the consumer; what it held before comes first [default: the token's name]
    #[arg(long)]
    pub consumer: Option<ParticipantName>,
}

#[derive(Debug, Clone, Args)]
pub struct DeliveriesArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    /// Delivery ids as `receive` printed them
    #[arg(required = true, num_args = 1..=128, value_name = "ITEM.ATTEMPT")]
    pub deliveries: Vec<DeliveryId>,
}

#[derive(Debug, Clone, Args)]
pub struct NackArgs {
    #[command(flatten)]
    pub deliveries: DeliveriesArgs,
    /// How long the items wait, to 8784h (366 days) [default: the queue's backoff]
    #[arg(long, value_parser = duration::within(0..=MAX_ITEM_TIME_MS), conflicts_with = "reject")]
    pub delay: Option<Duration>,
    /// Make them dead letters at once: they are no use to anybody
    #[arg(long)]
    pub reject: bool,
    /// Why, for people, at most 256 bytes
    #[arg(long, value_parser = at_most(MAX_REASON_BYTES))]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct PeekArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    /// Which items
    #[arg(long, value_enum, default_value_t = PeekedState::Ready)]
    pub state: PeekedState,
    /// Most items to show, 1 to 100000; as many pages are read
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PeekedState {
    /// Waiting for a receiver, in the order of delivery
    Ready,
    /// Held by receivers
    Leased,
    /// Waiting for their time
    Delayed,
    /// Waiting behind another of their group
    Grouped,
}

#[derive(Debug, Clone, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    /// Show them again and again, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// How often with --watch, 1s to 1h
    #[arg(long, default_value = "2s", value_parser = duration::within(INTERVAL_RANGE_MS), requires = "watch")]
    pub interval: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct MoveArgs {
    #[command(flatten)]
    pub target: QueueArgs,
    /// Queue of the same room where they go; it is created if it is missing
    #[arg(long, value_name = "QUEUE")]
    pub to: QueueName,
    /// Most items to move [default: all]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
}

/// A text of limited length.
fn at_most(max_bytes: usize) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| match text.len() {
        0 => Err("must not be empty".to_owned()),
        len if len > max_bytes => Err(format!("must be at most {max_bytes} bytes, and is {len}")),
        _ => Ok(text.to_owned()),
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "must be a time with its zone, such as 2030-01-31T09:00:00Z".to_owned())
}
