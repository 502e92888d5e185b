//! Compares a book with what its room holds.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use conclave_client::{Client, UpdateKind};
use conclave_proto::v1::ack_deliveries_response::Result as Acked;
use conclave_proto::v1::event::Kind as EventKind;
use conclave_proto::v1::{AckDeliveriesRequest, Delivery, FollowMessagesRequest, ReceiveItemsRequest};

use super::book::{Book, Kind};
use super::{Shelf, lock};
use conclave_workload::patience::eventually;

/// A room that is read without a word for so long does not serve.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// Most items of one receive.
const ITEMS_AT_ONCE: u32 = 128;
/// Of an item that is taken out here. An acknowledgement that gets lost brings it back after this time.
const LEASE: Duration = Duration::from_secs(30);
/// Violations that are told one by one; more do not say more.
const MAX_TOLD: usize = 20;

/// What a comparison found.
#[derive(Debug, Default, Clone)]
pub struct Account {
    /// Acknowledged writes that were looked for.
    pub acknowledged: u64,
    /// Those of which nobody can know.
    pub unknown: u64,
    pub reads: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// There and written by nobody, or not with these bytes.
    pub phantom: u64,
    /// There more than once, or out of order, or again after it was done.
    pub disordered: u64,
    pub stale_reads: u64,
    told: Vec<String>,
}

impl Account {
    pub fn violations(&self) -> u64 {
        self.lost + self.phantom + self.disordered + self.stale_reads
    }

    pub fn check(&self) -> Result<()> {
        ensure!(self.violations() == 0, "{self}\n{}", self.told.join("\n"));
        Ok(())
    }

    fn tell(&mut self, what: String) {
        if self.told.len() < MAX_TOLD {
            self.told.push(what);
        }
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Account) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.reads += other.reads;
        self.lost += other.lost;
        self.phantom += other.phantom;
        self.disordered += other.disordered;
        self.stale_reads += other.stale_reads;
        other.told.into_iter().for_each(|what| self.tell(what));
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged writes ({} lost), {} of unknown outcome, {} phantom values, {} out of order or repeated, \
             {} reads ({} stale)",
            self.acknowledged, self.lost, self.unknown, self.phantom, self.disordered, self.reads, self.stale_reads
        )
    }
}

/// What a room held, in its order.
type Log = Vec<(u64, Bytes)>;

pub async fn of_room(client: &Client, book: &Shelf) -> Result<Account> {
    // Before the room is read: what is acknowledged meanwhile need not be in what is read.
    let (room, messages, items) = {
        let book = lock(book);
        (book.room().to_owned(), book.messages.clone(), book.items.clone())
    };
    let log = eventually("the room's log", || read_log(client, &room)).await?;
    let mut account = Account::default();
    drain(client, book, &mut account).await?;
    let book = lock(book);
    account.acknowledged = (messages.len() + items.len()) as u64;
    (account.unknown, account.reads) = (book.unknown, book.reads);
    compare_messages(&book, &messages, &log, &mut account);
    compare_items(&book, &items, &mut account);
    account.stale_reads = book.stale_reads.len() as u64;
    book.stale_reads.iter().for_each(|stale| account.tell(stale.clone()));
    Ok(account)
}

fn compare_messages(book: &Book, acknowledged: &BTreeMap<u64, u64>, log: &Log, account: &mut Account) {
    let mut revisions = BTreeMap::new();
    let mut last = 0;
    for (revision, body) in log {
        if *revision <= last {
            account.disordered += 1;
            account.tell(format!("{}: revision {revision} comes after {last}", book.room()));
        }
        last = *revision;
        match book.number_of(Kind::Message, body) {
            Some(number) if number <= book.asked() => {
                if let Some(earlier) = revisions.insert(number, *revision) {
                    account.disordered += 1;
                    account.tell(format!("{}: message {number} is at {earlier} and at {revision}", book.room()));
                }
            }
            _ => {
                account.phantom += 1;
                account.tell(format!("{}: nobody wrote what is at {revision}: {body:?}", book.room()));
            }
        }
    }
    let mut last = 0;
    for (number, revision) in acknowledged {
        if revisions.get(number) != Some(revision) {
            account.lost += 1;
            let found = revisions.get(number);
            account.tell(format!("{}: message {number}, acknowledged at {revision}, is at {found:?}", book.room()));
        }
        if *revision <= last {
            account.disordered += 1;
            account.tell(format!("{}: message {number} has revision {revision}, one before it {last}", book.room()));
        }
        last = *revision;
    }
}

fn compare_items(book: &Book, acknowledged: &BTreeMap<u64, u64>, account: &mut Account) {
    let mut last = 0;
    for (number, place) in acknowledged {
        if book.received.get(place) != Some(number) {
            account.lost += 1;
            let found = book.received.get(place);
            account.tell(format!("{}: item {number} was sent to place {place}, where {found:?} was", book.room()));
        }
        if *place <= last {
            account.disordered += 1;
            account.tell(format!("{}: item {number} has place {place}, one before it {last}", book.room()));
        }
        last = *place;
    }
}

/// The whole log as it is now.
async fn read_log(client: &Client, room: &str) -> Result<Log> {
    let mut stream = client.follow_messages(FollowMessagesRequest { parent: room.into(), after_revision: 0 }).await?;
    let mut log = Log::new();
    loop {
        let update = tokio::time::timeout(SILENT_FOR, stream.next()).await.context("the room is silent")?;
        match update.context("the log ended before it was live")??.kind {
            UpdateKind::Events(batch) => {
                for event in batch.events()? {
                    if let Some(EventKind::Message(message)) = event.kind {
                        log.push((event.revision, message.body));
                    }
                }
            }
            UpdateKind::Gap(gap) => bail!("a gap in a log that keeps everything: {gap:?}"),
            UpdateKind::Live(_) => return Ok(log),
        }
    }
}

/// Takes out and acknowledges all items that wait.
async fn drain(client: &Client, book: &Shelf, account: &mut Account) -> Result<()> {
    let queue = lock(book).queue();
    loop {
        let receive = || async {
            let request = ReceiveItemsRequest {
                parent: queue.clone(),
                max_items: ITEMS_AT_ONCE,
                lease: Some(LEASE.try_into()?),
                ..Default::default()
            };
            Ok(client.receive_items(request).await?.deliveries)
        };
        let deliveries = eventually("a receive", receive).await?;
        if deliveries.is_empty() {
            return Ok(());
        }
        deliveries.iter().for_each(|delivery| note_delivery(&mut lock(book), delivery, account));
        let ids: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.id).collect();
        let ack = || async {
            let request = AckDeliveriesRequest { parent: queue.clone(), deliveries: ids.clone(), ..Default::default() };
            Ok(client.ack_deliveries(request).await?)
        };
        let answer = eventually("an acknowledgement", ack).await?;
        let done = answer.results().zip(&ids).filter(|(result, _)| *result != Acked::Stale);
        lock(book).done.extend(done.map(|(_, id)| id.item));
    }
}

fn note_delivery(book: &mut Book, delivery: &Delivery, account: &mut Account) {
    let place = delivery.id.map(|id| id.item).unwrap_or_default();
    match book.number_of(Kind::Item, &delivery.body) {
        Some(number) if number <= book.asked() => {
            if book.done.contains(&place) {
                account.disordered += 1;
                account.tell(format!("{}: item {number} came again after it was done", book.room()));
            }
            if book.received.insert(place, number).is_some_and(|earlier| earlier != number) {
                account.disordered += 1;
                account.tell(format!("{}: place {place} held another item before {number}", book.room()));
            }
        }
        _ => {
            account.phantom += 1;
            account.tell(format!("{}: nobody sent what was received: {:?}", book.room(), delivery.body));
        }
    }
}
