//! Prints items as they come.

use std::pin::pin;

use anyhow::{Context, Result};
use conclave_client::{Client, Update, UpdateKind};
use conclave_proto::events::EventBatch;
use conclave_proto::v1;
use conclave_proto::v1::event::Kind;

use super::{items, name, settle};
use crate::flags::{Output, TailArgs};
use crate::roles::told_to_stop;
use crate::verbs::events::RECONNECT_FOR;
use crate::verbs::print;

pub async fn run(client: &Client, output: Output, tail: &TailArgs) -> Result<()> {
    let parent = name(&tail.target);
    let request = v1::ConsumeItemsRequest {
        parent: parent.clone(),
        consumer: tail.consumer.as_ref().map(ToString::to_string).unwrap_or_default(),
        window: window(tail),
        lease: tail.lease.map(TryInto::try_into).transpose()?,
    };
    let mut stream = client.consume_items(request).await?.reconnecting(RECONNECT_FOR);
    let mut stop = pin!(told_to_stop());
    // Only while it waits for the next items may it be stopped: what was printed is acknowledged before.
    let next = async || {
        tokio::select! {
            stopped = &mut stop => stopped.map(|()| None),
            update = stream.next() => Ok(update.transpose()?),
        }
    };
    let settle = async |then: Then, deliveries: &[v1::Delivery]| match then {
        Then::Ack => settle::ack_printed(client, &parent, deliveries).await,
        Then::GiveBack => settle::give_back(client, &parent, deliveries).await,
    };
    follow(output, tail, next, settle).await
}

/// What is done with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Ack,
    GiveBack,
}

/// More than are wanted in all need not be ours at once.
fn window(tail: &TailArgs) -> u32 {
    let most = tail.max.and_then(|max| u32::try_from(max).ok()).unwrap_or(u32::MAX);
    tail.window.min(most)
}

/// Prints deliveries until they end, or as many as are wanted.
async fn follow(
    output: Output,
    tail: &TailArgs,
    mut next: impl AsyncFnMut() -> Result<Option<Update>>,
    mut settle: impl AsyncFnMut(Then, &[v1::Delivery]) -> Result<()>,
) -> Result<()> {
    if output == Output::Table {
        print::line(&items::tail_head())?;
    }
    let mut left = tail.max.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(update) = next().await? else { break };
        let UpdateKind::Events(batch) = update.kind else { continue };
        let deliveries = deliveries(&batch)?;
        let wanted = deliveries.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (wanted, surplus) = deliveries.split_at(wanted);
        for delivery in wanted {
            print::line(&items::tail_line(output, delivery))?;
        }
        left -= wanted.len() as u64;
        if tail.ack {
            settle(Then::Ack, wanted).await?;
        }
        settle(Then::GiveBack, surplus).await?;
    }
    Ok(())
}

fn deliveries(batch: &EventBatch) -> Result<Vec<v1::Delivery>> {
    let events = batch.events().context("the deliveries cannot be read")?;
    let delivery = |event: v1::Event| match event.kind {
        Some(Kind::Delivery(delivery)) => Some(delivery),
        // Of a later version.
        _ => None,
    };
    Ok(events.into_iter().filter_map(delivery).collect())
}

#[cfg(test)]
mod tests;
