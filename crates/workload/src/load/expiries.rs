//! Lets leases end, as many as are wanted: consumers take whatever is ready and acknowledge nothing, or too late; then
//! others come and take everything out.
//!
//! Nobody gives anything back here and nothing dies, so each further attempt of an item stands for a lease that has ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use conclave_client::Client;
use conclave_proto::v1::{GetQueueRequest, QueueSettings, SendItemsRequest};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::actor::{Actor, pace};
use super::consumer::{ack, receive_request, received};
use super::queues::{PLAIN, dead_letters, make, name};
use super::recorder::{Faults, Recorder};
use super::reply::Told;
use super::sender::sent;
use super::{Load, Workload, ending, queue_name};
use crate::history::{Answer, Call, Delivery, Ending, History, QueueRules, Value};
use crate::patience::eventually;

/// The shortest lease there is.
const LEASE: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(500);
const RECEIVE_ITEMS: u32 = 128;
/// Consumers of each room that acknowledge nothing.
const IDLE: usize = 3;
/// What the consumer who is too late takes at once, and how long after the lease is over it acknowledges, at most.
const LATE_ITEMS: u32 = 8;
const LATE_BY: Duration = Duration::from_secs(2);
/// Items of one send, while the queue is filled; afterwards one now and then, so that there are writes.
const FILL: u32 = 100;
const NOW_AND_THEN: Duration = Duration::from_secs(1);
/// Between two turns: a receive waits for items by itself.
const PACE: Duration = Duration::from_millis(20);
/// Items of each room: so few that the run lasts through many changes of leaders, so many that it ends.
const SHARE_OF_WANTED: u64 = 80;
const FEWEST_ITEMS: u64 = 20;
const MOST_ITEMS: u64 = 900;

/// Leases that are made to end.
pub struct Expiries {
    workload: Workload,
    ended: Arc<Ended>,
}

/// What came of it.
pub struct Forced {
    pub history: History,
    /// Leases that ended, by the attempts that were delivered.
    pub ended: u64,
    /// Failed deliveries as the queues themselves count them.
    pub counted: u64,
}

/// The newest attempt of each item, by room and number.
pub struct Ended {
    attempts: Mutex<BTreeMap<(usize, u64), u32>>,
    leases: AtomicU64,
    wanted: u64,
    enough: Notify,
}

impl Ended {
    fn note(&self, room: usize, Delivery { item, attempt }: Delivery) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = attempts.entry((room, item)).or_insert(1);
        let more = attempt.saturating_sub(*newest);
        *newest = attempt.max(*newest);
        if self.leases.fetch_add(more.into(), Ordering::Relaxed) + u64::from(more) >= self.wanted {
            self.enough.notify_one();
        }
    }

    /// Leases that have ended so far.
    pub fn leases(&self) -> u64 {
        self.leases.load(Ordering::Relaxed)
    }

    fn is_enough(&self) -> bool {
        self.leases() >= self.wanted
    }

    /// Waits until as many leases have ended as are wanted. For one who waits.
    pub async fn enough(&self) {
        while !self.is_enough() {
            self.enough.notified().await;
        }
    }
}

impl Expiries {
    /// Fills a queue in each room and lets its leases end.
    pub async fn start(clients: Vec<Client>, load: Load, wanted: u64) -> Result<Expiries> {
        let rules = vec![QueueRules { name: name(PLAIN), max_attempts: 0 }];
        let mut workload = Workload::prepare(clients, load, rules).await?;
        let ended =
            Arc::new(Ended { attempts: Mutex::default(), leases: AtomicU64::new(0), wanted, enough: Notify::new() });
        let rooms = workload.load.rooms.len();
        let items = (wanted / SHARE_OF_WANTED / rooms as u64).clamp(FEWEST_ITEMS, MOST_ITEMS) as u32;
        let stopped = workload.stop.subscribe();
        for room in 0..rooms {
            let settings = QueueSettings { max_attempts: Some(0), ..QueueSettings::default() };
            let actor = |workload: &Workload| Actor { pace: pace(PACE), ..workload.actor(room, &stopped) };
            let first = actor(&workload);
            make(&first.client, queue_name(&first.name, PLAIN), settings).await?;
            workload.actors.spawn(fill(first, items));
            for _ in 0..IDLE {
                workload.actors.spawn(take(actor(&workload), ended.clone()));
            }
            workload.actors.spawn(take_and_be_late(actor(&workload), ended.clone()));
        }
        Ok(Expiries { workload, ended })
    }

    pub fn faults(&self) -> Faults {
        self.workload.faults()
    }

    pub fn ended(&self) -> Arc<Ended> {
        self.ended.clone()
    }

    /// Takes everything out of the queues and acknowledges it. All hosts must be up.
    pub async fn finish(mut self) -> Result<Forced> {
        self.workload.stop_actors().await?;
        let client = self.workload.clients.first().context("a load needs a client")?.clone();
        let recorder = self.workload.recorder();
        let (mut endings, mut counted) = (Vec::new(), 0);
        for (room, name) in recorder.rooms().into_iter().enumerate() {
            let name = format!("rooms/{name}");
            let (ending, failed) =
                read(&client, &recorder, room, &name).await.with_context(|| format!("read {name}"))?;
            endings.push(ending);
            counted += failed;
        }
        let history = History { endings, ..recorder.take() };
        let mut newest: BTreeMap<(usize, u64), u32> = BTreeMap::new();
        for operation in &history.operations {
            let Some(Answer::Received { deliveries }) = operation.answer() else { continue };
            for Delivery { item, attempt } in deliveries.iter().map(|received| received.delivery) {
                let newest = newest.entry((operation.room, item)).or_insert(1);
                *newest = attempt.max(*newest);
            }
        }
        let ended = newest.values().map(|attempt| u64::from(attempt - 1)).sum();
        Ok(Forced { history, ended, counted })
    }
}

/// A room in the end, and the failed deliveries that its queue counts.
async fn read(client: &Client, recorder: &Arc<Recorder>, room: usize, name: &str) -> Result<(Ending, u64)> {
    let left_in_queues = ending::drain(client, recorder, room, name, PLAIN..PLAIN + 1).await?;
    let dead_letters = eventually("dead letters", || dead_letters(client, name, PLAIN)).await?;
    let queue = eventually("a queue's totals", || async {
        let request = GetQueueRequest { name: queue_name(name, PLAIN), ..Default::default() };
        client.get_queue(request).await?.queue.context("a queue")
    });
    let failed = queue.await?.totals.context("totals")?.failed;
    let revision = ending::revision(client, name).await?;
    Ok((Ending { revision, left_in_queues, dead_letters, ..Ending::default() }, failed))
}

/// Fills the queue, then sends an item now and then.
async fn fill(mut actor: Actor, items: u32) {
    let (writer, mut serial) = (actor.recorder.next_writer(), 0);
    let queue = queue_name(&actor.name, PLAIN);
    while actor.turn().await {
        let count = items.saturating_sub(serial).clamp(1, FILL);
        let values: Vec<Value> = (serial + 1..=serial + count).map(|serial| Value { writer, serial }).collect();
        serial += count;
        let request = SendItemsRequest {
            parent: queue.clone(),
            items: super::sender::items(&values),
            request_id: format!("fill-{}", values[0]),
            ..Default::default()
        };
        let call = Call::Send { queue: PLAIN, values, options: Vec::new() };
        // Its outcome is recorded; a few items more or less make no difference.
        let _ = actor.ask(None, call, || actor.client.send_items(request), sent).await;
        if serial >= items {
            tokio::select! {
                () = sleep(NOW_AND_THEN) => {}
                () = actor.stopped() => {}
            }
        }
    }
}

/// Takes what is ready and acknowledges nothing, by a session for as long as it lasts.
async fn take(mut actor: Actor, ended: Arc<Ended>) {
    while !ended.is_enough() {
        let Some(attached) = actor.attach().await else { return };
        while !ended.is_enough() && actor.turn().await {
            let (request, call) = receive(&actor, RECEIVE_ITEMS);
            let send = || attached.session.receive_items(request);
            let told = actor.ask(Some(attached.number), call, send, received).await;
            let Told::Done(response) = told else { break };
            deliveries(received(&response).1).for_each(|delivery| ended.note(actor.room, delivery));
        }
        attached.close().await;
    }
}

/// Takes a few and acknowledges them when their lease is over.
async fn take_and_be_late(mut actor: Actor, ended: Arc<Ended>) {
    let mut late: VecDeque<(Instant, Vec<Delivery>)> = VecDeque::new();
    while actor.turn().await {
        if let Some((_, deliveries)) = late.pop_front_if(|(due, _)| *due <= Instant::now()) {
            // It is stale; what it came to is recorded.
            let _ = ack(&actor, None, PLAIN, deliveries).await;
        }
        if ended.is_enough() {
            continue;
        }
        let (request, call) = receive(&actor, LATE_ITEMS);
        let told = actor.ask(None, call, || actor.client.receive_items(request), received).await;
        let Told::Done(response) = told else { continue };
        let taken: Vec<Delivery> = deliveries(received(&response).1).collect();
        taken.iter().for_each(|delivery| ended.note(actor.room, *delivery));
        if !taken.is_empty() {
            late.push_back((Instant::now() + LEASE + actor.dice.time(LATE_BY), taken));
        }
    }
}

fn receive(actor: &Actor, most: u32) -> (conclave_proto::v1::ReceiveItemsRequest, Call) {
    let request = receive_request(&actor.name, PLAIN, most, WAIT, LEASE);
    (request, Call::Receive { queue: PLAIN, lease_ms: LEASE.as_millis() as u64 })
}

fn deliveries(answer: Answer) -> impl Iterator<Item = Delivery> {
    let deliveries = match answer {
        Answer::Received { deliveries } => deliveries,
        _ => Vec::new(),
    };
    deliveries.into_iter().map(|received| received.delivery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_attempt_is_a_lease_that_ended() {
        let ended = Ended { attempts: Mutex::default(), leases: AtomicU64::new(0), wanted: 4, enough: Notify::new() };
        for (room, item, attempt) in [(0, 1, 1), (0, 1, 3), (0, 1, 2), (1, 1, 2), (0, 2, 1)] {
            ended.note(room, Delivery { item, attempt });
        }
        assert_eq!((ended.leases(), ended.is_enough()), (3, false));
        ended.note(0, Delivery { item: 2, attempt: 2 });
        assert!(ended.is_enough());
    }
}
