//! What queues do beside handing out items: take them back, bury them, hold to limits, and feed consumers.

mod coming_back;
mod consuming;
mod counted;
mod kept;
mod limits;
mod looking;
mod settling;

use std::time::Duration;

use bytes::Bytes;
use conclave_proto::time::duration_of_ms;
use conclave_proto::v1;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::event::Kind;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::calls::{AckResult, Caller, id, receive_request};
use crate::cluster::{Cluster, ONE_HOST, PATIENCE};

const JOBS: &str = "rooms/lab/queues/jobs";
/// Where dead letters of [`JOBS`] go.
const DEAD: &str = "rooms/lab/queues/jobs.dead";
const OTHER: &str = "rooms/lab/queues/other";
const NO_WAIT: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);
const SHORT_LEASE: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);
const LONG_LEASE: Duration = Duration::from_secs(12 * 60 * 60);

/// A cluster with a room in which [`JOBS`] was made so.
async fn with_queue(settings: v1::QueueSettings) -> (Cluster, Caller) {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    ada.create_queue(JOBS, settings).await.unwrap();
    (cluster, ada)
}

fn plain() -> v1::QueueSettings {
    v1::QueueSettings::default()
}

fn item(body: &str) -> v1::NewItem {
    v1::NewItem { body: Bytes::copy_from_slice(body.as_bytes()), ..Default::default() }
}

fn of_group(group: &str, body: &str) -> v1::NewItem {
    v1::NewItem { group: group.into(), ..item(body) }
}

fn batch(queue: &str, items: Vec<v1::NewItem>) -> v1::SendItemsRequest {
    v1::SendItemsRequest { parent: queue.into(), items, ..Default::default() }
}

fn up_to(queue: &str, max_items: u32) -> v1::ReceiveItemsRequest {
    v1::ReceiveItemsRequest { max_items, ..receive_request(queue, NO_WAIT, LONG_LEASE) }
}

/// A receive under the name of a consumer.
fn by(consumer: &str, request: v1::ReceiveItemsRequest) -> v1::ReceiveItemsRequest {
    v1::ReceiveItemsRequest { consumer: consumer.into(), ..request }
}

fn nack(deliveries: &[v1::Delivery]) -> v1::NackDeliveriesRequest {
    v1::NackDeliveriesRequest {
        parent: JOBS.into(),
        deliveries: deliveries.iter().map(id).collect(),
        ..Default::default()
    }
}

fn reject(deliveries: &[v1::Delivery], reason: &str) -> v1::NackDeliveriesRequest {
    v1::NackDeliveriesRequest { reject: true, reason: reason.into(), ..nack(deliveries) }
}

fn extend(deliveries: &[v1::Delivery], lease: Duration) -> v1::ExtendLeasesRequest {
    v1::ExtendLeasesRequest {
        parent: JOBS.into(),
        deliveries: deliveries.iter().map(id).collect(),
        lease: Some(lease.try_into().expect("a lease")),
        ..Default::default()
    }
}

fn consume(consumer: &str, window: u32) -> v1::ConsumeItemsRequest {
    let lease = Some(LONG_LEASE.try_into().expect("a lease"));
    v1::ConsumeItemsRequest { parent: JOBS.into(), consumer: consumer.into(), window, lease }
}

fn milliseconds(ms: u64) -> Option<prost_types::Duration> {
    Some(duration_of_ms(ms))
}

impl Caller {
    async fn create_queue(&self, queue: &str, settings: v1::QueueSettings) -> Result<v1::Queue, Status> {
        let request = v1::CreateQueueRequest { name: queue.into(), settings: Some(settings), ..Default::default() };
        Ok(self.queues().create_queue(self.request(request)).await?.into_inner().queue.expect("the queue"))
    }

    async fn update_queue(&self, queue: &str, settings: v1::QueueSettings) -> Result<v1::Queue, Status> {
        let request = v1::UpdateQueueRequest { name: queue.into(), settings: Some(settings), ..Default::default() };
        Ok(self.queues().update_queue(self.request(request)).await?.into_inner().queue.expect("the queue"))
    }

    async fn set_state(&self, state: v1::queue_settings::State) {
        let settings = v1::QueueSettings { state: Some(state.into()), ..plain() };
        let queue = self.update_queue(JOBS, settings).await.unwrap();
        assert_eq!(queue.settings.unwrap().state(), state);
    }

    async fn nack(&self, request: v1::NackDeliveriesRequest) -> Result<Vec<AckResult>, Status> {
        let response = self.queues().nack_deliveries(self.request(request)).await?.into_inner();
        Ok(response.results().collect())
    }

    async fn extend(&self, request: v1::ExtendLeasesRequest) -> Result<Vec<AckResult>, Status> {
        let response = self.queues().extend_leases(self.request(request)).await?.into_inner();
        Ok(response.results().collect())
    }

    async fn ack_all(&self, deliveries: &[v1::Delivery]) {
        let ids: Vec<_> = deliveries.iter().map(id).collect();
        let results = self.ack(JOBS, &ids).await.unwrap();
        assert!(results.iter().all(|result| *result == AckResult::Acked), "{results:?}");
    }

    async fn take_one(&self, consumer: &str) -> Vec<v1::Delivery> {
        let deliveries = self.receive(by(consumer, receive_request(JOBS, NO_WAIT, LONG_LEASE))).await.unwrap();
        assert_eq!(deliveries.len(), 1, "nothing for {consumer}");
        deliveries
    }

    async fn move_items(&self, from: &str, to: &str) -> Result<v1::MoveItemsResponse, Status> {
        let request = v1::MoveItemsRequest { parent: from.into(), destination: to.into(), ..Default::default() };
        Ok(self.queues().move_items(self.request(request)).await?.into_inner())
    }

    async fn stats(&self, queue: &str) -> Result<v1::QueueStats, Status> {
        let request = v1::GetQueueStatsRequest { name: queue.into(), ..Default::default() };
        let response = self.queues().get_queue_stats(self.request(request)).await?.into_inner();
        Ok(response.stats.expect("what is told"))
    }

    async fn look(&self, request: v1::ListItemsRequest) -> Result<v1::ListItemsResponse, Status> {
        Ok(self.queues().list_items(self.request(request)).await?.into_inner())
    }

    /// Consumes, and reads what the consumer held before.
    async fn consume(&self, request: v1::ConsumeItemsRequest) -> Result<Consuming, Status> {
        let stream = self.queues().consume_items(self.request(request)).await?.into_inner();
        let mut consuming = Consuming { stream, held: Vec::new() };
        loop {
            let element = consuming.element().await?;
            match element.body.expect("a body") {
                v1::consume_items_response::Body::EventBatch(batch) => {
                    assert_eq!(element.revision, 0, "what was held before has no revision");
                    consuming.held.extend(deliveries(batch.events().unwrap()));
                }
                v1::consume_items_response::Body::Live(_) => return Ok(consuming),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Makes the request of a session's frame by its unary method.
    async fn unary(&self, asked: Asked) -> Result<(), Status> {
        let mut queues = self.queues();
        match asked {
            Asked::SendItems(request) => queues.send_items(self.request(request)).await.map(drop),
            Asked::ReceiveItems(request) => queues.receive_items(self.request(request)).await.map(drop),
            Asked::AckDeliveries(request) => queues.ack_deliveries(self.request(request)).await.map(drop),
            Asked::NackDeliveries(request) => queues.nack_deliveries(self.request(request)).await.map(drop),
            Asked::ExtendLeases(request) => queues.extend_leases(self.request(request)).await.map(drop),
            Asked::CreateQueue(request) => queues.create_queue(self.request(request)).await.map(drop),
            Asked::UpdateQueue(request) => queues.update_queue(self.request(request)).await.map(drop),
            Asked::CancelItems(request) => queues.cancel_items(self.request(request)).await.map(drop),
            Asked::MoveItems(request) => queues.move_items(self.request(request)).await.map(drop),
            Asked::PurgeItems(request) => queues.purge_items(self.request(request)).await.map(drop),
            Asked::ListItems(request) => queues.list_items(self.request(request)).await.map(drop),
            Asked::GetQueue(request) => queues.get_queue(self.request(request)).await.map(drop),
            Asked::GetQueueStats(request) => queues.get_queue_stats(self.request(request)).await.map(drop),
            other => panic!("not of queues: {other:?}"),
        }
    }
}

/// A stream of deliveries that has come to what is new.
struct Consuming {
    stream: Streaming<v1::ConsumeItemsResponse>,
    /// What the consumer held when the stream began.
    held: Vec<v1::Delivery>,
}

impl Consuming {
    async fn element(&mut self) -> Result<v1::ConsumeItemsResponse, Status> {
        let element = timeout(PATIENCE, self.stream.message()).await.expect("the host is silent")?;
        element.ok_or_else(|| Status::ok("the stream is closed"))
    }

    /// What comes next.
    async fn next(&mut self) -> Vec<v1::Delivery> {
        let element = self.element().await.expect("the stream goes on");
        assert!(element.revision > 0, "{element:?}");
        match element.body {
            Some(v1::consume_items_response::Body::EventBatch(batch)) => deliveries(batch.events().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// So many deliveries, in whatever parts they come.
    async fn take(&mut self, count: usize) -> Vec<v1::Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.next().await);
        }
        assert_eq!(taken.len(), count, "more came than were to come");
        taken
    }
}

fn deliveries(events: Vec<v1::Event>) -> Vec<v1::Delivery> {
    let delivery = |event: v1::Event| match event.kind {
        Some(Kind::Delivery(delivery)) => delivery,
        other => panic!("no delivery: {other:?}"),
    };
    events.into_iter().map(delivery).collect()
}
