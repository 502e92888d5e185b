//! Moves or discards all that a queue holds, so many items a call.
//!
//! ```text
//! call ──some, more there──► call … ──goal reached, or nothing done, or nothing left──► end
//! ```
//!
//! The first reply says how much there is; that is the goal. What is sent meanwhile is not waited for, so a busy sender
//! does not keep it going for ever.

use std::time::Duration;

use anyhow::{Error, Result};
use conclave_client::{Client, ClientError};
use conclave_proto::v1;
use conclave_types::QueueName;
use conclave_types::limits::{MAX_BATCH_ITEMS, MAX_PURGE_ITEMS};
use serde_json::json;
use tokio::time::Instant;

use super::{name, name_of};
use crate::flags::{Output, QueueArgs};
use crate::verbs::print;

/// How often progress is said at most.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// To a queue, or without one dead letters back to where they died.
pub async fn move_items(
    client: &Client,
    output: Output,
    source: &QueueArgs,
    to: Option<&QueueName>,
    max: Option<u64>,
) -> Result<()> {
    let destination = to.map(|to| name_of(&source.room, to)).unwrap_or_default();
    let call = async |max_items| {
        let (parent, destination) = (name(source), destination.clone());
        let request = v1::MoveItemsRequest { parent, destination, max_items, ..Default::default() };
        let moved = client.move_items(request).await?;
        Ok(Step { done: moved.moved_count, left: moved.remaining_count })
    };
    let swept = sweep("moved", Sweep::new(max, MAX_BATCH_ITEMS as u32), call).await?;
    if to.is_none() && swept.done == 0 && swept.left > 0 {
        eprintln!(
            "what comes first there is no dead letter; dead letters are in a queue such as {}.dead",
            source.queue
        );
    }
    print::records(output, &["moved", "remaining"], &[vec![json!(swept.done), json!(swept.left)]])
}

pub async fn purge(client: &Client, output: Output, target: &QueueArgs, max: Option<u64>) -> Result<()> {
    let call = async |max_items| {
        let request = v1::PurgeItemsRequest { parent: name(target), max_items, ..Default::default() };
        let purged = client.purge_items(request).await?;
        Ok(Step { done: purged.purged_count, left: purged.remaining_count })
    };
    let swept = sweep("purged", Sweep::new(max, MAX_PURGE_ITEMS), call).await?;
    print::records(output, &["purged", "remaining"], &[vec![json!(swept.done), json!(swept.left)]])
}

/// Calls until the sweep is over. `word` says what is done.
async fn sweep(
    word: &str,
    mut sweep: Sweep,
    mut call: impl AsyncFnMut(u32) -> Result<Step, ClientError>,
) -> Result<Step> {
    let mut said_at = Instant::now();
    while let Some(ask) = sweep.ask() {
        match call(ask).await {
            Ok(step) => sweep.take(step),
            Err(error) if sweep.done == 0 => return Err(error.into()),
            Err(error) => return Err(Error::from(error).context(format!("after {} were {word}", sweep.done))),
        }
        if said_at.elapsed() >= SAY_EVERY {
            eprintln!("{} {word}, {} remaining", sweep.done, sweep.left);
            said_at = Instant::now();
        }
    }
    Ok(Step { done: sweep.done, left: sweep.left })
}

/// What one call did, and what it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    done: u64,
    left: u64,
}

/// How far it has come, and how far it shall come.
#[derive(Debug)]
struct Sweep {
    goal: u64,
    most_a_call: u32,
    begun: bool,
    done: u64,
    left: u64,
}

impl Sweep {
    fn new(max: Option<u64>, most_a_call: u32) -> Self {
        Sweep { goal: max.unwrap_or(u64::MAX), most_a_call, begun: false, done: 0, left: 0 }
    }

    /// How many the next call is to take; none at the end.
    fn ask(&self) -> Option<u32> {
        let wanted = self.goal.saturating_sub(self.done).min(self.most_a_call.into());
        u32::try_from(wanted).ok().filter(|wanted| *wanted > 0)
    }

    fn take(&mut self, step: Step) {
        self.done += step.done;
        self.left = step.left;
        if !self.begun {
            self.begun = true;
            self.goal = self.goal.min(self.done + step.left);
        }
        if step.done == 0 || step.left == 0 {
            self.goal = self.done;
        }
    }
}

#[cfg(test)]
mod tests {
    use conclave_proto::status::{ApiError, frame_status};
    use conclave_proto::v1::ErrorReason;

    use super::*;

    /// Sweeps a queue of so many items, to which `sent` come during each call; what each call was asked for.
    async fn swept(max: Option<u64>, mut there: u64, sent: u64, a_call: u64) -> (Step, Vec<u32>) {
        let mut asked = Vec::new();
        let call = async |ask: u32| {
            asked.push(ask);
            let done = there.min(ask.into()).min(a_call);
            there = there - done + sent;
            Ok(Step { done, left: there })
        };
        (sweep("moved", Sweep::new(max, 128), call).await.expect("swept"), asked)
    }

    #[tokio::test]
    async fn it_ends_when_nothing_is_left() {
        assert_eq!(swept(None, 0, 0, 128).await, (Step { done: 0, left: 0 }, vec![128]));
        assert_eq!(swept(None, 300, 0, 128).await, (Step { done: 300, left: 0 }, vec![128, 128, 44]));
        // Large items: a call does fewer than it was asked for.
        assert_eq!(swept(None, 6, 0, 4).await, (Step { done: 6, left: 0 }, vec![128, 2]));
    }

    #[tokio::test]
    async fn a_busy_sender_does_not_keep_it_going() {
        let (step, asked) = swept(None, 200, 100, 128).await;
        // What came during the first call is counted with what was there.
        assert_eq!((step.done, asked), (300, vec![128, 128, 44]));
    }

    #[tokio::test]
    async fn it_does_no_more_than_it_may() {
        assert_eq!(swept(Some(130), 300, 0, 128).await, (Step { done: 130, left: 170 }, vec![128, 2]));
        assert_eq!(swept(Some(1), 300, 0, 128).await, (Step { done: 1, left: 299 }, vec![1]));
    }

    #[tokio::test]
    async fn what_cannot_be_moved_ends_it() {
        assert_eq!(swept(None, 5, 0, 0).await, (Step { done: 0, left: 5 }, vec![128]));
    }

    #[tokio::test]
    async fn a_failure_says_how_far_it_came() {
        let mut calls = 0;
        let call = async |_| {
            calls += 1;
            match calls {
                1 => Ok(Step { done: 128, left: 10 }),
                _ => {
                    let refused = ApiError::new(ErrorReason::QueueClosed, "the queue is closed");
                    Err(ClientError::from(frame_status(&refused.into())))
                }
            }
        };
        let error = sweep("moved", Sweep::new(None, 128), call).await.expect_err("refused");
        assert_eq!(format!("{error:#}"), "after 128 were moved: FailedPrecondition: the queue is closed");
    }
}
