//! A queue with everything in it, whose leader is killed while it is worked on: delays, groups, dead letters, and a
//! consumer on a stream. Nothing is lost, nothing is done twice, nothing comes too early.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_client::{Client, ClientError, Session, UpdateKind};
use conclave_proto::v1::ack_deliveries_response::Result as AckResult;
use conclave_proto::v1::dead_letter::Reason;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::{
    AckDeliveriesRequest, CreateQueueRequest, Delivery, GetQueueRequest, ListItemsRequest, NackDeliveriesRequest,
    NewItem, QueueItem, QueueSettings, SendItemsRequest, Subscribe,
};
use conclave_tests::alone::with_cluster;
use conclave_workload::patience::POLL;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

const ROOM: &str = "works";
const QUEUE: &str = "rooms/works/queues/jobs";
const DEAD: &str = "rooms/works/queues/jobs.dead";
const ITEMS: u64 = 600;
const GROUPS: u64 = 3;
/// Items that are settled before the leader is killed.
const KILL_AFTER: usize = 120;
const MAX_ATTEMPTS: u32 = 3;
const DELAY: Duration = Duration::from_secs(4);
/// What the clocks of two leaders may be apart.
const EARLY_AT_MOST: Duration = Duration::from_secs(2);
/// Short, so that what a dead leader was about to deliver comes again within the test.
const LEASE: Duration = Duration::from_secs(5);
const WINDOW: u32 = 32;
/// One attempt to send, after which the same request is sent again.
const ATTEMPT: Duration = Duration::from_secs(5);
const ALL_WITHIN: Duration = Duration::from_secs(50);

/// What an item is like; its number among those that are sent says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Like {
    Plain,
    Late,
    /// Of this group.
    Grouped(u64),
    /// Every delivery of it fails.
    Poison,
}

fn like(number: u64) -> Like {
    match number % 10 {
        0 | 1 => Like::Late,
        2..=4 => Like::Grouped(number % GROUPS),
        5 if number % 50 == 5 => Like::Poison,
        _ => Like::Plain,
    }
}

fn item(number: u64) -> NewItem {
    let plain = NewItem { body: number.to_string().into(), ..Default::default() };
    match like(number) {
        Like::Plain | Like::Poison => plain,
        Like::Late => NewItem { delay: DELAY.try_into().ok(), ..plain },
        Like::Grouped(group) => NewItem { group: group.to_string(), ..plain },
    }
}

/// Sends the items one after the other, each until it is acknowledged, and returns when it began with those that wait.
async fn send(client: Client) -> Result<BTreeMap<u64, Instant>> {
    let mut began = BTreeMap::new();
    for number in 0..ITEMS {
        if like(number) == Like::Late {
            began.insert(number, Instant::now());
        }
        let (parent, request_id) = (QUEUE.to_owned(), number.to_string());
        let request = SendItemsRequest { parent, items: vec![item(number)], request_id, ..Default::default() };
        let until = Instant::now() + ALL_WITHIN;
        while !matches!(timeout(ATTEMPT, client.send_items(request.clone())).await, Ok(Ok(_))) {
            ensure!(Instant::now() < until, "item {number} is not acknowledged");
            sleep(POLL).await;
        }
    }
    Ok(began)
}

/// Whether an item's acknowledgement counted.
type Settling = BoxFuture<'static, (u64, Result<bool, ClientError>)>;

/// One who works: on a stream, with several items at once.
#[derive(Default)]
struct Worker {
    settling: FuturesUnordered<Settling>,
    /// How often an acknowledgement counted, by item.
    counted: BTreeMap<u64, u32>,
    /// When the first delivery came, by item.
    came: BTreeMap<u64, Instant>,
    /// Items of each group in the order in which they came.
    groups: BTreeMap<u64, Vec<u64>>,
}

impl Worker {
    /// Works until nothing is left; says so once it has settled enough for the leader to be killed.
    async fn work(mut self, client: Client, enough: oneshot::Sender<()>) -> Result<Worker> {
        let session = Session::open(&client, &format!("rooms/{ROOM}")).await?;
        let (resource, consumer) = (QUEUE.to_owned(), "worker".to_owned());
        let subscribe = Subscribe { resource, consumer, window: WINDOW, ..Default::default() };
        let mut deliveries = session.subscribe(subscribe).await?;
        let (good, mut enough) = (of_kind(|kind| kind != Like::Poison).len(), Some(enough));
        let mut look = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                update = deliveries.next() => {
                    let UpdateKind::Events(batch) = update.context("the subscription ended")??.kind else { continue };
                    for event in batch.events()? {
                        let Some(Kind::Delivery(delivery)) = event.kind else { continue };
                        self.take(&session, &delivery)?;
                    }
                }
                Some((number, counted)) = self.settling.next() => {
                    if counted.with_context(|| format!("item {number}"))? {
                        *self.counted.entry(number).or_default() += 1;
                    }
                    if self.counted.len() >= KILL_AFTER && let Some(enough) = enough.take() {
                        // Whoever waited for it may have given up.
                        let _ = enough.send(());
                    }
                }
                _ = look.tick(), if self.counted.len() == good => {
                    // What remains are deliveries of poison; each of them is given back.
                    let queue = client.get_queue(GetQueueRequest { name: QUEUE.into(), ..Default::default() }).await?;
                    if queue.queue.context("no queue")?.size == 0 {
                        break;
                    }
                }
            }
        }
        ensure!(session.resumes() == 0, "the worker's own stream was lost");
        session.close().await;
        Ok(self)
    }

    fn take(&mut self, session: &Session, delivery: &Delivery) -> Result<()> {
        let number: u64 = std::str::from_utf8(&delivery.body)?.parse()?;
        if let Entry::Vacant(first) = self.came.entry(number) {
            first.insert(Instant::now());
            if let Like::Grouped(group) = like(number) {
                self.groups.entry(group).or_default().push(number);
            }
        }
        let (parent, deliveries) = (QUEUE.to_owned(), delivery.id.into_iter().collect());
        let settling = if like(number) == Like::Poison {
            let nack = NackDeliveriesRequest { parent, deliveries, reason: "poison".into(), ..Default::default() };
            let reply = session.nack_deliveries(nack);
            async move { (number, reply.await.map(|_| false)) }.boxed()
        } else {
            let reply = session.ack_deliveries(AckDeliveriesRequest { parent, deliveries, ..Default::default() });
            async move { (number, reply.await.map(|reply| reply.results().eq([AckResult::Acked]))) }.boxed()
        };
        self.settling.push(settling);
        Ok(())
    }
}

fn of_kind(which: impl Fn(Like) -> bool) -> BTreeSet<u64> {
    (0..ITEMS).filter(|number| which(like(*number))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_in_a_queue_survives_the_loss_of_its_leader() {
    with_cluster(|cluster| async move {
        let client = cluster.lock().await.client_with_room("worker", ROOM).await?;
        let settings =
            QueueSettings { max_attempts: Some(MAX_ATTEMPTS), lease: Some(LEASE.try_into()?), ..Default::default() };
        let create = CreateQueueRequest { name: QUEUE.into(), settings: Some(settings), ..Default::default() };
        client.create_queue(create).await?;

        let work = async {
            let sending = tokio::spawn(send(client.clone()));
            let (enough, killing) = oneshot::channel();
            let working = tokio::spawn(Worker::default().work(client.clone(), enough));
            if killing.await.is_ok() {
                let mut cluster = cluster.lock().await;
                let leader = cluster.leader_of(ROOM).await?;
                cluster.kill_host(leader)?;
                eprintln!("host {leader} killed");
                cluster.start_host(leader)?;
            }
            let began = sending.await??;
            anyhow::Ok((working.await??, began))
        };
        let (worker, began) = timeout(ALL_WITHIN, work).await.context("the work took too long")??;

        let good = of_kind(|kind| kind != Like::Poison);
        ensure!(worker.counted.keys().copied().collect::<BTreeSet<_>>() == good, "not the items that were sent");
        let twice: Vec<_> = worker.counted.iter().filter(|(_, count)| **count != 1).collect();
        ensure!(twice.is_empty(), "acknowledged more than once: {twice:?}");
        for (number, began) in &began {
            let waited = worker.came[number].duration_since(*began);
            ensure!(waited >= DELAY - EARLY_AT_MOST, "item {number} came after {waited:?} instead of {DELAY:?}");
        }
        for (group, items) in &worker.groups {
            ensure!(items.is_sorted(), "group {group} came in another order: {items:?}");
        }
        is_settled(&client).await?;
        let panics = cluster.lock().await.panics();
        ensure!(panics.is_empty(), "{panics:?}");
        Ok(())
    })
    .await;
}

/// The queue is empty, and all the poison is among the dead letters, once.
async fn is_settled(client: &Client) -> Result<()> {
    let (good, poison) = (of_kind(|kind| kind != Like::Poison), of_kind(|kind| kind == Like::Poison));
    let queue = client.get_queue(GetQueueRequest { name: QUEUE.into(), ..Default::default() }).await?;
    let queue = queue.queue.context("no queue")?;
    let totals = queue.totals.context("no totals")?;
    let (sent, acked, dead) = (totals.sent, totals.acked, totals.dead);
    ensure!(queue.size == 0 && sent == ITEMS, "{} of {sent} items are left", queue.size);
    ensure!((acked, dead) == (good.len() as u64, poison.len() as u64), "{acked} acknowledged, {dead} dead");

    let list = ListItemsRequest { parent: DEAD.into(), page_size: 1_000, ..Default::default() };
    let letters: Vec<QueueItem> = client.list_items(list).await?.items;
    ensure!(letters.len() == poison.len(), "{} dead letters", letters.len());
    let mut buried = BTreeSet::new();
    for letter in letters {
        let body = letter.content.context("no content")?.body;
        buried.insert(std::str::from_utf8(&body)?.parse::<u64>()?);
        let story = letter.dead_letter.context("no story")?;
        let told = (story.reason(), story.attempts, story.failures.len());
        ensure!(told == (Reason::TooManyAttempts, MAX_ATTEMPTS, MAX_ATTEMPTS as usize), "{story:?}");
    }
    ensure!(buried == poison, "not the poison: {buried:?}");
    Ok(())
}
