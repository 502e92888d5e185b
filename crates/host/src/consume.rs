//! Hands a consumer of a queue its deliveries as they come: streaming instead of asking again and again.
//!
//! The credit is the consumer's window: how many deliveries it may hold at once. The state machine keeps what it holds
//! and enforces the window, so the credit survives a change of leaders, and each delivery that is settled makes room for
//! another without a frame of its own. Who comes back under its name first gets what it still holds, with the same
//! attempts.
//!
//! Consumers take turns: each takes a few items, then stands at the end of the line again.
//!
//! Bounds: two elements that wait to be sent, each of at most 704 KiB or one item; deliveries in them are leased already
//! and count in the window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use conclave_proto::events::{EncodedEvent, EventBatch};
use conclave_proto::{items, v1};
use conclave_room::{DeliveredItem, Operation, Receiver, read};
use conclave_types::{QueueName, Revision};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::admit::queues::MAX_WINDOW;
use crate::faults::{self, Fault};
use crate::feed::{Element, FeedPlace};
use crate::leadership::Leading;
use crate::outlook::{Outlook, Taker};
use crate::receive::{freed, propose_lease, tell_what_is_left};
use crate::shard::broken;

/// Elements that wait to be sent.
const ELEMENTS: usize = 2;
/// Items of one turn.
const TURN_ITEMS: u32 = 64;
/// Deliveries, and their bytes, of one element with what a consumer held before.
const HELD_PAGE: (usize, usize) = (128, 512 << 10);

/// What a stream of deliveries asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consume {
    pub queue: QueueName,
    pub create: bool,
    pub consumer: String,
    pub window: u32,
    /// 0 for the queue's.
    pub lease_ms: u64,
}

/// The deliveries of one consumer on one stream. Dropping it ends the consuming; what it holds stays leased.
pub struct Deliveries {
    elements: mpsc::Receiver<Result<Element, Fault>>,
    window: Arc<Window>,
    task: AbortHandle,
    /// Counts it among its streams.
    leading: Arc<Leading>,
}

/// How many deliveries the consumer may hold; may grow.
struct Window {
    size: AtomicU32,
    grown: Notify,
}

impl Deliveries {
    /// Begins to consume. `wake` is notified whenever there may be an element.
    pub fn begin(at: FeedPlace, asked: Consume, wake: Arc<Notify>) -> Self {
        let (sender, elements) = mpsc::channel(ELEMENTS);
        let window = Arc::new(Window { size: AtomicU32::new(asked.window), grown: Notify::new() });
        let leading = at.leading.clone();
        leading.delivery_streams.fetch_add(1, Ordering::Relaxed);
        let consumer = Consumer { at, asked, window: window.clone(), out: Out { sender, wake } };
        let task = tokio::spawn(async move { consumer.run().await }).abort_handle();
        Deliveries { elements, window, task, leading }
    }

    pub fn is_pending(&self) -> bool {
        !self.elements.is_empty()
    }

    pub fn next(&mut self) -> Result<Option<Element>, Fault> {
        self.elements.try_recv().ok().transpose()
    }

    /// Lets the consumer hold more.
    pub fn widen(&self, by: u32) {
        let grown = |size: u32| Some(size.saturating_add(by).min(MAX_WINDOW));
        let _ = self.window.size.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
        self.window.grown.notify_one();
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.task.abort();
        self.leading.delivery_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Consumer {
    at: FeedPlace,
    asked: Consume,
    window: Arc<Window>,
    out: Out,
}

struct Out {
    sender: mpsc::Sender<Result<Element, Fault>>,
    wake: Arc<Notify>,
}

impl Out {
    /// Returns whether anybody still wants it.
    async fn send(&self, element: Result<Element, Fault>) -> bool {
        let sent = self.sender.send(element).await.is_ok();
        self.wake.notify_one();
        sent
    }
}

impl Consumer {
    async fn run(self) {
        if let Err(fault) = self.consume().await {
            self.out.send(Err(fault)).await;
        }
    }

    async fn consume(&self) -> Result<(), Fault> {
        // Takes nothing, and stands behind all that an earlier stream of this consumer was about to take when it was
        // left: that is held as well.
        self.lease(0, self.taker().window).await?;
        if !self.send_held().await? || !self.out.send(Ok(Element::live(Revision(0), bytes::Bytes::new()))).await {
            return Ok(());
        }
        let (shard, leading) = (&self.at.shard, &self.at.leading);
        // Join before looking: a send in between wakes this consumer.
        let join = || leading.waiters.join(self.at.room, &self.asked.queue);
        let mut place = join();
        loop {
            let taker = self.taker();
            match taker.outlook(shard)? {
                Outlook::Some => {
                    let (deliveries, revision) = self.lease(TURN_ITEMS, taker.window).await?;
                    let is_empty = deliveries.is_empty();
                    tell_what_is_left(shard, &taker, &mut place)?;
                    drop(place);
                    if !is_empty && !self.out.send(self.element(deliveries, revision)).await {
                        return Ok(());
                    }
                    place = join();
                }
                Outlook::Nothing => {
                    taker.room_is_there(shard)?;
                    place.left_nothing();
                    tokio::select! {
                        biased;
                        () = place.woken() => {}
                        () = leading.ended.cancelled() => return Err(shard.not_leader()),
                    }
                }
                Outlook::ConsumerIsFull => {
                    // Not in the line: it would only pass on what others can use.
                    drop(place);
                    tokio::select! {
                        biased;
                        () = self.window.grown.notified() => {}
                        is_free = freed(shard, leading, &taker, far_away()) => drop(is_free?),
                    }
                    place = join();
                }
            }
        }
    }

    fn taker(&self) -> Taker {
        let Consume { queue, consumer, .. } = &self.asked;
        let window = self.window.size.load(Ordering::Relaxed);
        Taker { room: self.at.room, queue: queue.clone(), consumer: consumer.clone(), take: false, window }
    }

    async fn lease(&self, max_items: u32, window: u32) -> Result<(Vec<DeliveredItem>, Revision), Fault> {
        let Consume { queue, create, consumer, lease_ms, .. } = &self.asked;
        let participant = self.at.claims.participant.clone();
        let operation = Operation::LeaseItems {
            room: self.at.room,
            queue: queue.clone(),
            create: *create,
            max_items,
            lease_ms: *lease_ms,
            consumer: consumer.clone(),
            receiver: Receiver::Consumer { participant: participant.clone() },
            again: false,
            take: false,
            window,
        };
        propose_lease(&self.at.leading, participant, operation).await
    }

    /// What the consumer took on an earlier stream and still holds. Returns whether anybody still wants it.
    async fn send_held(&self) -> Result<bool, Fault> {
        let (shard, Consume { queue, consumer, .. }) = (&self.at.shard, &self.asked);
        let participant = &self.at.claims.participant;
        let mut after = 0;
        loop {
            let (tables, group) = (shard.tables(), shard.group_id());
            let held = read::held(&tables, group, self.at.room, queue, participant, consumer, after, HELD_PAGE);
            let held = held.map_err(broken)?;
            let Some(last) = held.last() else { return Ok(true) };
            after = last.delivery.item;
            if !self.out.send(self.element(held, Revision(0))).await {
                return Ok(false);
            }
        }
    }

    fn element(&self, deliveries: Vec<DeliveredItem>, revision: Revision) -> Result<Element, Fault> {
        let now = self.at.leading.time.stamp();
        let mut batch = EventBatch::default();
        for delivered in deliveries {
            let time = conclave_proto::time::timestamp(delivered.send_time);
            let delivery = items::delivery(delivered, now).map_err(|reason| faults::unreadable(&reason))?;
            batch.push(&EncodedEvent::of(&v1::Event {
                revision: revision.0,
                time: Some(time),
                participant: delivery.sender.clone(),
                kind: Some(v1::event::Kind::Delivery(delivery)),
            }));
        }
        Ok(Element::events(revision, batch))
    }
}

/// No receive waits so long.
fn far_away() -> Instant {
    Instant::now() + std::time::Duration::from_secs(365 * 24 * 60 * 60)
}
