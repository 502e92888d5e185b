//! A queue whose sender remembers what was acknowledged.
//!
//! Items are sent one after the other, each with a request id and until it is acknowledged. So in the end the queue must
//! hold exactly the items that were sent: one that is missing was lost, one that is there twice was applied twice, and
//! one that nobody sent is a phantom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use conclave_client::Client;
use conclave_proto::v1::ack_deliveries_response::Result as AckResult;
use conclave_proto::v1::{AckDeliveriesRequest, Delivery, NewItem, ReceiveItemsRequest, SendItemsRequest};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;
use crate::promise;
use conclave_workload::patience::{POLL, eventually};

/// Longer than any fault of a test.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// One attempt to send, after which the same request is sent again.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Items of one answer.
const PAGE: u32 = 64;

#[derive(Debug)]
pub struct Receipts {
    client: Client,
    queue: String,
    /// Bodies of acknowledged items, in the order they were sent.
    sent: Vec<Bytes>,
}

/// Receipts of items that are being sent.
pub struct Sending {
    acknowledged: Arc<AtomicUsize>,
    taken_back: oneshot::Sender<()>,
    task: JoinHandle<Result<Receipts>>,
}

impl Sending {
    /// Waits until so many more items are acknowledged.
    pub async fn progress(&self, items: usize) -> Result<()> {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + items;
        let look = || async {
            let acknowledged = self.acknowledged.load(Ordering::SeqCst);
            anyhow::ensure!(acknowledged >= wanted, "{acknowledged} items are acknowledged, {wanted} are waited for");
            Ok(())
        };
        eventually("acknowledged items", look).await
    }

    /// Finishes the item that is on its way, and returns all receipts.
    pub async fn take_back(self) -> Result<Receipts> {
        // A task that failed has closed its end; its error is what comes next.
        let _ = self.taken_back.send(());
        self.task.await?
    }
}

impl Receipts {
    /// Waits until the cluster serves, and creates the room.
    pub async fn open(cluster: &Cluster, room: &str) -> Result<Receipts> {
        let client = cluster.client_with_room("sender", room).await?;
        Ok(Receipts { client, queue: format!("rooms/{room}/queues/receipts"), sent: Vec::new() })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn queue(&self) -> &str {
        &self.queue
    }

    pub fn acknowledged(&self) -> usize {
        self.sent.len()
    }

    /// Sends so many items, each once the one before is acknowledged.
    pub async fn send(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.send_body(format!("item {}", self.sent.len()).into()).await?;
        }
        Ok(())
    }

    /// Sends one item until it is acknowledged.
    pub async fn send_body(&mut self, body: Bytes) -> Result<()> {
        let request = self.request(body.clone());
        let until = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            let reason = match timeout(ATTEMPT, self.client.send_items(request.clone())).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) => anyhow::Error::from(error),
                Err(_) => anyhow::anyhow!("no answer within {ATTEMPT:?}"),
            };
            if Instant::now() > until {
                return Err(reason.context(format!("item {} is not acknowledged", self.sent.len())));
            }
            sleep(POLL).await;
        }
        self.sent.push(body);
        Ok(())
    }

    /// Sends by itself from now on, until it is taken back.
    pub fn keep_sending(mut self) -> Sending {
        let acknowledged = Arc::new(AtomicUsize::new(self.sent.len()));
        let (taken_back, mut stop) = oneshot::channel::<()>();
        let count = acknowledged.clone();
        let task = tokio::spawn(async move {
            while stop.try_recv() == Err(TryRecvError::Empty) {
                self.send(1).await?;
                count.store(self.sent.len(), Ordering::SeqCst);
            }
            Ok(self)
        });
        Sending { acknowledged, taken_back, task }
    }

    /// Makes one attempt to send one item; whether it was acknowledged in time.
    pub async fn try_send(&mut self, body: Bytes, within: Duration) -> bool {
        let request = self.request(body.clone());
        let acknowledged = matches!(timeout(within, self.client.send_items(request)).await, Ok(Ok(_)));
        if acknowledged {
            self.sent.push(body);
        }
        acknowledged
    }

    fn request(&self, body: Bytes) -> SendItemsRequest {
        let items = vec![NewItem { body, ..Default::default() }];
        let request_id = format!("item-{}", self.sent.len());
        SendItemsRequest { parent: self.queue.clone(), items, request_id, ..Default::default() }
    }

    /// Receives all that the queue holds and compares it with what was acknowledged. Items in `unknown` may be there
    /// or not: nobody was told what became of them.
    pub async fn settle(self, unknown: &[Bytes]) -> Result<()> {
        let held: Vec<Bytes> = self.receive_all().await?.into_iter().map(|delivery| delivery.body).collect();
        for (number, body) in self.sent.iter().enumerate() {
            let copies = held.iter().filter(|held| *held == body).count();
            promise!(copies > 0, "acknowledged item {number} of {} is lost", self.sent.len());
            promise!(copies == 1, "item {number} was sent once and is there {copies} times");
        }
        for body in &held {
            let is_known = self.sent.contains(body) || unknown.contains(body);
            promise!(is_known, "the queue holds an item that nobody sent: {:?}", &body[..body.len().min(80)]);
        }
        let in_order = held.iter().filter(|body| self.sent.contains(body)).eq(&self.sent);
        promise!(in_order, "items are not in the order in which they were acknowledged");
        Ok(())
    }

    async fn receive_all(&self) -> Result<Vec<Delivery>> {
        let mut deliveries = Vec::new();
        for number in 0.. {
            let page = self.receive_page(number).await?;
            if page.is_empty() {
                break;
            }
            // A queue lends only so many at once, and a fast machine has sent more.
            self.ack_page(number, &page).await?;
            deliveries.extend(page);
        }
        Ok(deliveries)
    }

    async fn ack_page(&self, number: u32, page: &[Delivery]) -> Result<()> {
        let request = AckDeliveriesRequest {
            parent: self.queue.clone(),
            deliveries: page.iter().filter_map(|delivery| delivery.id).collect(),
            request_id: format!("ack-{number}"),
        };
        let until = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            match timeout(ATTEMPT, self.client.ack_deliveries(request.clone())).await {
                Ok(Ok(response)) => {
                    let acked = response.results.iter().all(|result| *result == AckResult::Acked as i32);
                    anyhow::ensure!(acked, "deliveries of page {number} are not this reader's any more");
                    return Ok(());
                }
                Ok(Err(error)) if Instant::now() > until => return Err(error).context("the page is not acknowledged"),
                Err(_) if Instant::now() > until => anyhow::bail!("the page is not acknowledged in time"),
                Ok(Err(_)) | Err(_) => sleep(POLL).await,
            }
        }
    }

    /// One answer's worth; the same however often it is asked for.
    async fn receive_page(&self, number: u32) -> Result<Vec<Delivery>> {
        let request = ReceiveItemsRequest {
            parent: self.queue.clone(),
            max_items: PAGE,
            lease: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            request_id: format!("page-{number}"),
            ..Default::default()
        };
        let until = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            match timeout(ATTEMPT, self.client.receive_items(request.clone())).await {
                Ok(Ok(response)) => return Ok(response.deliveries),
                Ok(Err(error)) if Instant::now() > until => return Err(error).context("the queue cannot be read"),
                Err(_) if Instant::now() > until => anyhow::bail!("the queue cannot be read in time"),
                Ok(Err(_)) | Err(_) => sleep(POLL).await,
            }
        }
    }
}
