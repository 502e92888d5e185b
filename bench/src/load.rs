//! Closed loop: a client keeps its window full until the round is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use conclave_client::{ClientError, Reply, Session};
use conclave_proto::v1::{NewItem, SendItemsRequest, SendItemsResponse};
use futures::FutureExt;
use futures::future::Map;
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

/// What items carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// The same byte everywhere: what our own rows have always been measured with.
    Same,
    /// Bytes that no compressor makes smaller, for figures that are held against another system's or against a size on
    /// disk: our tables are compressed.
    Noise,
}

/// Bodies of items, one after the other.
#[derive(Debug, Clone)]
pub struct Bodies {
    bytes: Bytes,
    next: usize,
}

impl Bodies {
    /// So much noise that none comes twice within a block or window of any compressor in use here.
    const NOISE_ITEMS: usize = 1 << 13;

    pub fn of(payload: Payload) -> Bodies {
        /// No two clients send the same noise.
        static SEED: AtomicU64 = AtomicU64::new(0);
        let bytes = match payload {
            Payload::Same => Bytes::from_static(&[0x5a; ITEM_BYTES]),
            Payload::Noise => noise(SEED.fetch_add(1, Ordering::Relaxed), Self::NOISE_ITEMS * ITEM_BYTES),
        };
        Bodies { bytes, next: 0 }
    }

    pub fn take(&mut self) -> Bytes {
        let body = self.bytes.slice(self.next..self.next + ITEM_BYTES);
        self.next = (self.next + ITEM_BYTES) % self.bytes.len();
        body
    }
}

/// Bytes that no compressor makes smaller.
pub fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    };
    (0..bytes / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// A send of so many items of [`ITEM_BYTES`] each, all the same.
pub fn request(room: &str, queue: &str, items: usize) -> SendItemsRequest {
    request_of(room, queue, items, &mut Bodies::of(Payload::Same))
}

pub fn request_of(room: &str, queue: &str, items: usize, bodies: &mut Bodies) -> SendItemsRequest {
    SendItemsRequest {
        parent: format!("rooms/{room}/queues/{queue}"),
        items: (0..items).map(|_| NewItem { body: bodies.take(), ..Default::default() }).collect(),
        ..Default::default()
    }
}

/// One client's way to send an item.
pub trait Sender: Send {
    /// Ends once the item is acknowledged; those of one sender end in order.
    type Sent: Future<Output = Result<()>> + Send + Unpin;

    /// Puts an item on its way; may wait for room in the client.
    fn send(&mut self) -> impl Future<Output = Result<Self::Sent>> + Send;
}

/// Sends items over a session.
pub struct Items {
    pub session: Session,
    request: SendItemsRequest,
    bodies: Bodies,
}

impl Items {
    pub fn new(session: Session, room: &str, queue: &str, payload: Payload) -> Items {
        Items { session, request: request(room, queue, 1), bodies: Bodies::of(payload) }
    }
}

impl Sender for Items {
    type Sent = Map<Reply<SendItemsResponse>, fn(Result<SendItemsResponse, ClientError>) -> Result<()>>;

    async fn send(&mut self) -> Result<Self::Sent> {
        self.request.items[0].body = self.bodies.take();
        Ok(self.session.send_items(self.request.clone()).map(|reply| Ok(reply.map(drop)?)))
    }
}

/// Keeps `window` sends in flight until the round is over, then waits for the last.
pub async fn closed(sender: &mut impl Sender, window: usize, mut tally: Tally) -> Result<Tally> {
    let until = tally.span.until;
    let mut flying = VecDeque::with_capacity(window);
    let mut now = Instant::now();
    while now < until {
        while flying.len() < window {
            flying.push_back((now, sender.send().await?));
        }
        settle(&mut flying, &mut tally).await?;
        now = Instant::now();
    }
    while !flying.is_empty() {
        settle(&mut flying, &mut tally).await?;
    }
    Ok(tally)
}

/// Waits for the oldest acknowledgement and takes those that came with it; they come in order.
async fn settle<S>(flying: &mut VecDeque<(Instant, S)>, tally: &mut Tally) -> Result<()>
where
    S: Future<Output = Result<()>> + Unpin,
{
    let Some((begun, oldest)) = flying.pop_front() else { return Ok(()) };
    oldest.await?;
    let now = Instant::now();
    tally.done(begun, now);
    while let Some(acknowledged) = flying.front_mut().and_then(|(_, sent)| sent.now_or_never()) {
        acknowledged?;
        if let Some((begun, _)) = flying.pop_front() {
            tally.done(begun, now);
        }
    }
    Ok(())
}
