//! A client that types a trace into a queue, and clients that take it out again and rebuild the text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_client::{Client, Session};
use conclave_proto::v1::ack_deliveries_response::Result as AckResult;
use conclave_proto::v1::{
    AckDeliveriesRequest, AckDeliveriesResponse, Delivery, NewItem, ReceiveItemsRequest, SendItemsRequest,
    SendItemsResponse,
};
use futures::StreamExt;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use tokio::sync::mpsc;

use crate::progress::Progress;
use crate::trace::{Patch, Text, Transaction};

/// Items of one receive.
const RECEIVE_ITEMS: u32 = 128;
/// How long one receive waits before it asks again.
const RECEIVE_WAIT: Duration = Duration::from_secs(1);
/// Long against any fault of a test: an item that comes a second time was not delivered once.
const LEASE: Duration = Duration::from_secs(300);

/// Sends every transaction as one item, as many at once as the session lets through, and checks that each got the next
/// position.
pub async fn type_in(session: &Session, queue: &str, transactions: &[Transaction], progress: &Progress) -> Result<()> {
    let mut replies = FuturesOrdered::new();
    let mut remaining = transactions.iter();
    let mut next_item = 1;
    while remaining.len() > 0 || !replies.is_empty() {
        tokio::select! {
            Some(reply) = replies.next(), if !replies.is_empty() => {
                let reply: SendItemsResponse = Result::context(reply, "a send failed")?;
                next_item = check_position(reply.first_item, next_item)?;
                progress.note(1);
            }
            () = session.ready(), if remaining.len() > 0 => {
                let Some(transaction) = remaining.next() else { continue };
                let body = serde_json::to_vec(&transaction.patches)?.into();
                replies.push_back(session.send_items(SendItemsRequest {
                    parent: queue.to_owned(),
                    items: vec![NewItem { body, ..Default::default() }],
                    ..Default::default()
                }));
            }
        }
    }
    Ok(())
}

fn check_position(got: u64, expected: u64) -> Result<u64> {
    ensure!(got == expected, "a send got position {got} instead of {expected}: an item was lost, doubled or reordered");
    Ok(expected + 1)
}

/// Receives and acknowledges until told to stop, handing deliveries on. Positions a consumer sees only go up.
pub async fn consume(
    session: &Session,
    queue: &str,
    deliveries: mpsc::Sender<Delivery>,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<()> {
    let mut acks = FuturesUnordered::new();
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let receive = session.receive_items(ReceiveItemsRequest {
            parent: queue.to_owned(),
            max_items: RECEIVE_ITEMS,
            wait: Some(RECEIVE_WAIT.try_into()?),
            lease: Some(LEASE.try_into()?),
            ..Default::default()
        });
        let received = receive.await.context("a receive failed")?.deliveries;
        let ids: Vec<_> = received.iter().filter_map(|delivery| delivery.id).collect();
        for id in &ids {
            ensure!(id.item > last, "item {} was delivered after item {last}", id.item);
            ensure!(id.attempt == 1, "item {} was delivered {} times", id.item, id.attempt);
            last = id.item;
        }
        if !ids.is_empty() {
            let request = AckDeliveriesRequest { parent: queue.to_owned(), deliveries: ids, ..Default::default() };
            acks.push(session.ack_deliveries(request));
        }
        for delivery in received {
            deliveries.send(delivery).await.context("nobody rebuilds the text")?;
        }
        while let Some(Some(acked)) = futures::FutureExt::now_or_never(acks.next()) {
            note_acks(acked.context("an acknowledgement failed")?, progress)?;
        }
    }
    while let Some(acked) = acks.next().await {
        note_acks(acked.context("an acknowledgement failed")?, progress)?;
    }
    Ok(())
}

fn note_acks(acked: AckDeliveriesResponse, progress: &Progress) -> Result<()> {
    let good = i32::from(AckResult::Acked);
    ensure!(acked.results.iter().all(|result| *result == good), "acknowledgements did not count: {:?}", acked.results);
    progress.note(acked.results.len() as u64);
    Ok(())
}

/// Rebuilds the text from deliveries that come in any order between consumers; each position exactly once.
pub async fn rebuild(mut deliveries: mpsc::Receiver<Delivery>, count: usize) -> Result<String> {
    let mut text = Text::default();
    let mut early: BTreeMap<u64, Delivery> = BTreeMap::new();
    let mut next = 1;
    while next <= count as u64 {
        let delivery = deliveries.recv().await.context("the consumers ended before the text was complete")?;
        let item = delivery.id.context("a delivery has no id")?.item;
        ensure!(item >= next && !early.contains_key(&item), "item {item} was delivered twice");
        early.insert(item, delivery);
        while let Some(delivery) = early.remove(&next) {
            let patches: Vec<Patch> = serde_json::from_slice(&delivery.body)?;
            patches.iter().try_for_each(|patch| text.apply(patch))?;
            next += 1;
        }
    }
    ensure!(early.is_empty(), "items beyond the last one were delivered");
    Ok(text.as_str().to_owned())
}

/// Types `transactions` into a queue of its own through one session while `consumers` sessions take them out; returns
/// the rebuilt text.
pub async fn type_and_rebuild(
    client: &Client,
    room: &str,
    queue: &str,
    transactions: Arc<Vec<Transaction>>,
    consumers: usize,
    sent: Arc<Progress>,
    acked: Arc<Progress>,
) -> Result<String> {
    let room = format!("rooms/{room}");
    let queue = format!("{room}/queues/{queue}");
    let (deliver, deliveries) = mpsc::channel(4_096);
    let stop = Arc::new(AtomicBool::new(false));
    let mut consuming = Vec::new();
    for _ in 0..consumers {
        let session = Session::open(client, &room).await.context("open a consumer's session")?;
        let (queue, deliver, acked, stop) = (queue.clone(), deliver.clone(), acked.clone(), stop.clone());
        consuming.push(tokio::spawn(async move {
            let consumed = consume(&session, &queue, deliver, &acked, &stop).await;
            session.close().await;
            consumed
        }));
    }
    drop(deliver);
    let count = transactions.len();
    let typing = tokio::spawn({
        let session = Session::open(client, &room).await.context("open the sender's session")?;
        async move {
            let typed = type_in(&session, &queue, &transactions, &sent).await;
            session.close().await;
            typed
        }
    });
    let text = rebuild(deliveries, count).await;
    stop.store(true, Ordering::Relaxed);
    // A consumer's or the sender's own error says more than that the text is incomplete.
    for consumer in consuming {
        consumer.await??;
    }
    typing.await??;
    text
}
