//! Looks at queues and at items; changes nothing.

use anyhow::{Context, Result};
use conclave_client::Client;
use conclave_proto::v1;
use conclave_types::RoomName;
use conclave_types::limits::MAX_PAGE_SIZE;
use tokio::time::{MissedTickBehavior, interval};

use super::{describe, items, name};
use crate::flags::{Output, PeekArgs, PeekedState, QueueArgs, StatsArgs};
use crate::roles::told_to_stop;
use crate::verbs::{print, rooms};

pub async fn peek(client: &Client, output: Output, peek: &PeekArgs) -> Result<()> {
    let state = match peek.state {
        PeekedState::Ready => v1::ItemState::Ready,
        PeekedState::Leased => v1::ItemState::Leased,
        PeekedState::Delayed => v1::ItemState::Delayed,
        PeekedState::Grouped => v1::ItemState::Grouped,
    };
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = peek.max - seen.len() as u32;
        let page_size = left.min(MAX_PAGE_SIZE);
        let (parent, state) = (name(&peek.target), state.into());
        let request = v1::ListItemsRequest { parent, state, page_size, page_token, ..Default::default() };
        let page = client.list_items(request).await?;
        seen.extend(page.items.into_iter().take(left as usize));
        page_token = page.next_page_token;
        if page_token.is_empty() || seen.len() >= peek.max as usize {
            return print::text(&items::items(output, &seen)?);
        }
    }
}

pub async fn size(client: &Client, output: Output, target: &QueueArgs) -> Result<()> {
    print::text(&describe::sizes(output, &[read(client, target).await?])?)
}

pub async fn get(client: &Client, output: Output, target: &QueueArgs) -> Result<()> {
    print::text(&describe::settings(output, &read(client, target).await?)?)
}

async fn read(client: &Client, target: &QueueArgs) -> Result<v1::Queue> {
    let request = v1::GetQueueRequest { name: name(target), ..Default::default() };
    client.get_queue(request).await?.queue.context("the answer has no queue")
}

pub async fn list(client: &Client, output: Output, room: &RoomName) -> Result<()> {
    let mut queues = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListQueuesRequest { parent: rooms::name(room), page_token, ..Default::default() };
        let page = client.list_queues(request).await?;
        queues.extend(page.queues);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return print::text(&describe::sizes(output, &queues)?);
        }
    }
}

pub async fn stats(client: &Client, output: Output, stats: &StatsArgs) -> Result<()> {
    if stats.watch {
        return tokio::select! {
            watched = watch_stats(client, output, stats) => watched,
            stop = told_to_stop() => stop,
        };
    }
    let response = read_stats(client, &stats.target).await?;
    print::text(&match output {
        Output::Json => print::document(&describe::stats_fields(&response))?,
        Output::Table => describe::stats(&response),
    })
}

/// An object a line for programs, a paragraph each time for people.
async fn watch_stats(client: &Client, output: Output, stats: &StatsArgs) -> Result<()> {
    let mut ticks = interval(stats.interval);
    // One that came late is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let response = read_stats(client, &stats.target).await?;
        print::line(&match output {
            Output::Json => describe::stats_fields(&response).to_string(),
            Output::Table => describe::stats(&response),
        })?;
    }
}

async fn read_stats(client: &Client, target: &QueueArgs) -> Result<v1::GetQueueStatsResponse> {
    Ok(client.get_queue_stats(v1::GetQueueStatsRequest { name: name(target), ..Default::default() }).await?)
}
