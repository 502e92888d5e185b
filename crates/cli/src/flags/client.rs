//! The client verbs: `conclave rooms …` and `conclave room …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use conclave_types::RoomName;
use conclave_types::limits::{MAX_LOG_BYTES_RANGE, MAX_MESSAGES_RANGE};

use super::duration;
use super::events::FollowArgs;
use super::messaging::MessagingCommand;
use super::participants::ParticipantsCommand;
use super::queue::QueueCommand;
use super::sync::SyncCommand;

/// How a client verb reaches the cluster and prints what it got.
#[derive(Debug, Clone, Args)]
pub struct ClientFlags {
    /// Gateway to talk to
    #[arg(long, global = true, value_name = "URL", env = "CONCLAVE_ADDRESS", default_value = "http://127.0.0.1:7080")]
    pub address: String,
    /// Participant token
    #[arg(long, global = true, env = "CONCLAVE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns for people
    Table,
    /// JSON for programs: one document, or one object a line of what is followed
    Json,
}

#[derive(Debug, Clone, Subcommand)]
pub enum RoomsCommand {
    /// Create a room
    Create {
        /// Name of the room: 1 to 63 of a-z, 0-9 and hyphen
        room: RoomName,
        #[command(flatten)]
        labels: Labels,
    },
    /// Show one room
    Get { room: RoomName },
    /// List the project's rooms
    List {
        /// Rooms of one page, 1 to 1000; all pages are read
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        page_size: u32,
    },
    /// Replace a room's metadata, annotations or message retention
    Update {
        room: RoomName,
        #[command(flatten)]
        labels: Labels,
        #[command(flatten)]
        retention: Retention,
        /// Only if this is the room's present etag
        #[arg(long)]
        etag: Option<String>,
    },
    /// Delete a room and all in it
    Delete {
        room: RoomName,
        /// Only if this is the room's present etag
        #[arg(long)]
        etag: Option<String>,
    },
    /// Follow what happens in a room: documents, messages, queues and participants
    Watch {
        room: RoomName,
        /// What to watch; may be repeated; without it, all that the token allows
        #[arg(long = "topic", value_enum)]
        topics: Vec<WatchTopic>,
        #[command(flatten)]
        follow: FollowArgs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchTopic {
    Documents,
    Messages,
    Queues,
    Participants,
}

/// How much of the room's log is kept. What is given replaces all that was said before.
#[derive(Debug, Clone, Args)]
pub struct Retention {
    /// Most messages that are kept, to 10,000,000
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(MAX_MESSAGES_RANGE))]
    pub max_messages: Option<u64>,
    /// Most bytes of messages that are kept, from 1 MiB to 16 GiB
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(MAX_LOG_BYTES_RANGE))]
    pub max_message_bytes: Option<u64>,
    /// How long messages are kept, from 1m
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    pub max_message_age: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
pub struct Labels {
    /// An entry of the metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub metadata: Vec<(String, String)>,
    /// An entry of the annotations; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = key_value)]
    pub annotations: Vec<(String, String)>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum RoomCommand {
    /// Send, receive and settle items of the room's queues, look into queues, change and empty them
    Queue {
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// Post messages to the room's log and follow it; send messages to those who listen now
    Messaging {
        #[command(subcommand)]
        command: MessagingCommand,
    },
    /// Work with the room's shared documents
    Sync {
        #[command(subcommand)]
        command: SyncCommand,
    },
    /// See who is in the room, and be there
    Participants {
        #[command(subcommand)]
        command: ParticipantsCommand,
    },
}

/// What is sent; each kind may be repeated and makes one item or message each time.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub struct Payload {
    /// A JSON document
    #[arg(long, value_parser = json)]
    pub json: Vec<String>,
    /// A text
    #[arg(long)]
    pub text: Vec<String>,
    /// The bytes of a file; - is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be key=value")?;
    if key.is_empty() {
        return Err("must have a key before the equals sign".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The text as it is, once it is known to be JSON.
fn json(text: &str) -> Result<String, String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| format!("must be JSON: {error}"))?;
    Ok(text.to_owned())
}
