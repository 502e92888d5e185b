//! Makes and changes queues.

use anyhow::{Context, Result};
use conclave_client::Client;
use conclave_proto::v1;
use conclave_proto::v1::queue_settings::{Overflow as ProtoOverflow, State};

use super::{describe, name};
use crate::flags::{Output, Overflow, QueueArgs, QueueState, Settings, SettingsArgs};
use crate::verbs::print;

pub async fn create(client: &Client, output: Output, create: SettingsArgs) -> Result<()> {
    let (name, settings) = (name(&create.target), Some(settings(create.settings)?));
    let request = v1::CreateQueueRequest { name, settings, ..Default::default() };
    print_queue(output, client.create_queue(request).await?.queue)
}

pub async fn update(client: &Client, output: Output, update: SettingsArgs) -> Result<()> {
    change(client, output, &update.target, settings(update.settings)?).await
}

pub async fn set_state(client: &Client, output: Output, target: &QueueArgs, state: State) -> Result<()> {
    let settings = v1::QueueSettings { state: Some(state.into()), ..Default::default() };
    change(client, output, target, settings).await
}

async fn change(client: &Client, output: Output, target: &QueueArgs, settings: v1::QueueSettings) -> Result<()> {
    let request = v1::UpdateQueueRequest { name: name(target), settings: Some(settings), ..Default::default() };
    print_queue(output, client.update_queue(request).await?.queue)
}

fn print_queue(output: Output, queue: Option<v1::Queue>) -> Result<()> {
    print::text(&describe::settings(output, &queue.context("the answer has no queue")?)?)
}

/// Only what was given is set.
fn settings(given: Settings) -> Result<v1::QueueSettings> {
    let state = given.state.map(|state| match state {
        QueueState::Active => State::Active.into(),
        QueueState::Paused => State::Paused.into(),
        QueueState::Closed => State::Closed.into(),
    });
    let overflow = given.overflow.map(|overflow| match overflow {
        Overflow::Reject => ProtoOverflow::Reject.into(),
        Overflow::DropOldest => ProtoOverflow::DropOldest.into(),
    });
    Ok(v1::QueueSettings {
        state,
        lease: given.lease.map(TryInto::try_into).transpose()?,
        max_attempts: given.max_attempts,
        backoff: given.backoff.map(TryInto::try_into).transpose()?,
        max_backoff: given.max_backoff.map(TryInto::try_into).transpose()?,
        deduplication_window: given.deduplication_window.map(TryInto::try_into).transpose()?,
        max_items: given.max_items,
        max_bytes: given.max_bytes,
        overflow,
        retention: given.retention.map(TryInto::try_into).transpose()?,
        max_in_flight: given.max_in_flight,
        max_in_flight_per_consumer: given.max_in_flight_per_consumer,
        dead_letter_queue: given.dead_letter_queue,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_not_given_is_not_set() {
        assert_eq!(settings(Settings::default()).expect("settings"), v1::QueueSettings::default());
        let given = Settings {
            state: Some(QueueState::Paused),
            backoff: Some(Duration::from_millis(1_500)),
            overflow: Some(Overflow::DropOldest),
            dead_letter_queue: Some(String::new()),
            ..Settings::default()
        };
        let expected = v1::QueueSettings {
            state: Some(State::Paused.into()),
            backoff: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            overflow: Some(ProtoOverflow::DropOldest.into()),
            dead_letter_queue: Some(String::new()),
            ..Default::default()
        };
        assert_eq!(settings(given).expect("settings"), expected);
    }
}
