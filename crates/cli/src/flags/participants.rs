//! `conclave room participants …`

use std::time::Duration;

use clap::{Args, Subcommand};
use conclave_types::RoomName;

use super::client::key_value;
use super::duration;
use super::events::EndArgs;

#[derive(Debug, Clone, Subcommand)]
pub enum ParticipantsCommand {
    /// List who is attached now
    List { room: RoomName },
    /// Follow who comes, changes and goes
    Watch {
        room: RoomName,
        #[command(flatten)]
        end: EndArgs,
    },
    /// Attach a participant and keep it attached until interrupted
    Attach(AttachArgs),
}

#[derive(Debug, Clone, Args)]
pub struct AttachArgs {
    pub room: RoomName,
    /// The token's name, or that with #something behind it [default: the token's name]
    #[arg(long)]
    pub name: Option<String>,
    /// For example user, agent or tool
    #[arg(long)]
    pub role: Option<String>,
    /// An attribute; may be repeated
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = key_value)]
    pub attributes: Vec<(String, String)>,
    /// How long it stays when this command dies, 5s to 5m
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub lease: Duration,
    /// Take the name over from another attaching, for example one that crashed
    #[arg(long)]
    pub replace: bool,
}
