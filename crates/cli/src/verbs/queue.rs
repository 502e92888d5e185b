//! `conclave room queue …`

mod configure;
mod describe;
mod items;
mod look;
mod receive;
mod send;
mod settle;
mod sweep;
mod tail;

use anyhow::Result;
use conclave_client::Client;
use conclave_proto::v1::queue_settings::State;
use conclave_types::{QueueName, RoomName};

use crate::flags::{Output, QueueArgs, QueueCommand};
pub use items::{delivery_fields, delivery_id};

pub async fn run(client: &Client, output: Output, command: QueueCommand) -> Result<()> {
    match command {
        QueueCommand::Send(send) => send::run(client, output, *send).await,
        QueueCommand::Receive(receive) => receive::run(client, output, receive).await,
        QueueCommand::Tail(tail) => tail::run(client, output, &tail).await,
        QueueCommand::Ack(acked) => settle::ack(client, output, &acked).await,
        QueueCommand::Nack(nack) => settle::nack(client, output, nack).await,
        QueueCommand::Extend { deliveries, lease } => settle::extend(client, output, &deliveries, lease).await,
        QueueCommand::Cancel { target, items } => settle::cancel(client, output, &target, items).await,
        QueueCommand::Peek(peek) => look::peek(client, output, &peek).await,
        QueueCommand::Size(target) => look::size(client, output, &target).await,
        QueueCommand::List { room } => look::list(client, output, &room).await,
        QueueCommand::Stats(stats) => look::stats(client, output, &stats).await,
        QueueCommand::Get(target) => look::get(client, output, &target).await,
        QueueCommand::Create(create) => configure::create(client, output, *create).await,
        QueueCommand::Update(update) => configure::update(client, output, *update).await,
        QueueCommand::Open(target) | QueueCommand::Resume(target) => {
            configure::set_state(client, output, &target, State::Active).await
        }
        QueueCommand::Close(target) => configure::set_state(client, output, &target, State::Closed).await,
        QueueCommand::Pause(target) => configure::set_state(client, output, &target, State::Paused).await,
        QueueCommand::Redrive { room, queue, max } => {
            sweep::move_items(client, output, &QueueArgs { room, queue }, None, max).await
        }
        QueueCommand::Move(moved) => sweep::move_items(client, output, &moved.target, Some(&moved.to), moved.max).await,
        QueueCommand::Purge { target, max } => sweep::purge(client, output, &target, max).await,
    }
}

fn name(target: &QueueArgs) -> String {
    name_of(&target.room, &target.queue)
}

fn name_of(room: &RoomName, queue: &QueueName) -> String {
    format!("rooms/{room}/queues/{queue}")
}
