//! The client's and the operator's verbs.

pub mod operator;
pub mod status;

mod body;
mod documents;
mod events;
mod failure;
mod messaging;
mod participants;
mod payload;
mod print;
mod queue;
mod rooms;

use anyhow::{Context, Result};
use conclave_client::Client;

use crate::flags::{ClientFlags, RoomCommand, RoomsCommand};
pub use failure::explain;

/// Runs `conclave rooms …`.
pub async fn run_rooms(flags: &ClientFlags, command: RoomsCommand) -> Result<()> {
    rooms::run(&connect(flags).await?, flags.output, command).await
}

/// Runs `conclave room …`.
pub async fn run_room(flags: &ClientFlags, command: RoomCommand) -> Result<()> {
    let client = connect(flags).await?;
    match command {
        RoomCommand::Queue { command } => queue::run(&client, flags.output, command).await,
        RoomCommand::Messaging { command } => messaging::run(&client, flags.output, command).await,
        RoomCommand::Sync { command } => documents::run(&client, flags.output, command).await,
        RoomCommand::Participants { command } => participants::run(&client, flags.output, command).await,
    }
}

async fn connect(flags: &ClientFlags) -> Result<Client> {
    let token = flags.token.as_deref().context("no token: give --token or set CONCLAVE_TOKEN")?;
    Ok(Client::connect(&flags.address, token).await?)
}
