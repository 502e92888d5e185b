//! Closed loop: a session keeps its window full until the round is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use conclave_client::{Reply, Session};
use conclave_proto::v1::{NewItem, SendItemsRequest, SendItemsResponse};
use futures::FutureExt;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::bench::Span;

pub const ITEM_BYTES: usize = 128;
/// Latency is kept to a microsecond and three digits, up to a minute.
pub const LONGEST_US: u64 = 60_000_000;

/// Operations done by all sessions so far, whether the round counts yet or not.
pub type Progress = Arc<AtomicU64>;

/// What one session of a round did.
#[derive(Debug, Clone)]
pub struct Tally {
    pub span: Span,
    done: Progress,
    /// Of operations that ended within the round.
    pub latency_us: Histogram<u64>,
}

impl Tally {
    pub fn new(span: Span, done: Progress) -> Tally {
        let latency_us = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
        Tally { span, done, latency_us }
    }

    /// Operations of all sessions, since the first began.
    pub fn done_by_all(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub fn done(&mut self, begun: Instant, now: Instant) {
        self.count(1);
        self.latency(begun, now);
    }

    /// Counts operations whose latency is not taken.
    pub fn count(&self, operations: u64) {
        self.done.fetch_add(operations, Ordering::Relaxed);
    }

    /// Takes a latency without counting an operation.
    pub fn latency(&mut self, begun: Instant, now: Instant) {
        if self.span.holds(now) {
            self.latency_us.saturating_record((now - begun).as_micros() as u64);
        }
    }

    pub fn add(&mut self, other: &Tally) {
        self.latency_us.add(&other.latency_us).expect("the bounds are the same");
    }
}

/// A send of so many items of [`ITEM_BYTES`] each.
pub fn request(room: &str, queue: &str, items: usize) -> SendItemsRequest {
    let body = Bytes::from_static(&[0x5a; ITEM_BYTES]);
    SendItemsRequest {
        parent: format!("rooms/{room}/queues/{queue}"),
        items: vec![NewItem { body, ..Default::default() }; items],
        ..Default::default()
    }
}

/// Keeps `window` sends in flight until the round is over, then waits for the last.
pub async fn closed(session: Session, request: SendItemsRequest, window: usize, mut tally: Tally) -> Result<Tally> {
    let until = tally.span.until;
    let mut flying: VecDeque<(Instant, Reply<SendItemsResponse>)> = VecDeque::with_capacity(window);
    let mut now = Instant::now();
    while now < until {
        while flying.len() < window {
            flying.push_back((now, session.send_items(request.clone())));
        }
        settle(&mut flying, &mut tally).await?;
        now = Instant::now();
    }
    while !flying.is_empty() {
        settle(&mut flying, &mut tally).await?;
    }
    session.close().await;
    Ok(tally)
}

/// Waits for the oldest reply and takes those that came with it; replies come in order.
async fn settle(flying: &mut VecDeque<(Instant, Reply<SendItemsResponse>)>, tally: &mut Tally) -> Result<()> {
    let Some((begun, oldest)) = flying.pop_front() else { return Ok(()) };
    oldest.await?;
    let now = Instant::now();
    tally.done(begun, now);
    while let Some(reply) = flying.front_mut().and_then(|(_, reply)| reply.now_or_never()) {
        reply?;
        if let Some((begun, _)) = flying.pop_front() {
            tally.done(begun, now);
        }
    }
    Ok(())
}
