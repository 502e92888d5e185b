//! `conclave room messaging …`

use clap::{Args, Subcommand};
use conclave_types::RoomName;

use super::client::{Payload, key_value};
use super::events::FollowArgs;

#[derive(Debug, Clone, Subcommand)]
pub enum MessagingCommand {
    /// Post messages to the room's log (durable)
    Post {
        room: RoomName,
        #[command(flatten)]
        message: MessageArgs,
    },
    /// Follow the room's log (durable)
    Follow {
        room: RoomName,
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Send messages to participants who are attached now (ephemeral)
    Send {
        room: RoomName,
        /// Name of a participant; may be repeated, to 100
        #[arg(long, required = true, value_name = "PARTICIPANT")]
        to: Vec<String>,
        #[command(flatten)]
        message: MessageArgs,
    },
    /// Send messages to everybody who listens now (ephemeral)
    Broadcast {
        room: RoomName,
        #[command(flatten)]
        message: MessageArgs,
    },
    /// Listen to messages as they are sent (ephemeral)
    Listen {
        room: RoomName,
        /// Attach under this name, and get what is sent to it too: the token's name, or that with #something behind it
        #[arg(long = "as", value_name = "PARTICIPANT")]
        participant: Option<String>,
        /// End after this many messages
        #[arg(long, visible_alias = "count", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// List who can be sent to: the participants who are attached now
    List { room: RoomName },
}

#[derive(Debug, Clone, Args)]
pub struct MessageArgs {
    #[command(flatten)]
    pub payload: Payload,
    /// What the messages mean
    #[arg(long = "type", value_name = "TYPE", default_value = "message")]
    pub kind: String,
    /// A header of the messages; may be repeated
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = key_value)]
    pub headers: Vec<(String, String)>,
}
