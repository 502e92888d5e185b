//! `QueueService`.

use std::pin::Pin;
use std::sync::Arc;

use conclave_proto::resource::QueuePath;
use conclave_proto::v1;
use conclave_proto::v1::queue_service_server::QueueService;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{Outcome, Receiver};
use conclave_types::Revision;
use futures::{Stream, StreamExt};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::{Located, PublicApi, other_outcome, propose};
use crate::admit::queues;
use crate::faults::Fault;
use crate::feed::{self, FeedPlace, Subject};
use crate::hub::Listener;
use crate::reads::{self, InRoom};
use crate::{admit, convert, receive, scope};

#[tonic::async_trait]
impl QueueService for PublicApi {
    async fn send_items(
        &self,
        request: Request<v1::SendItemsRequest>,
    ) -> Result<Response<v1::SendItemsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_send(&claims, &queue)?;
        let request_id = request.request_id.clone();
        let now = leading.time.stamp();
        let operation = queues::send_items(uid, queue, claims.participant.clone(), request, now)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::Sent { first_item, revision, duplicates } => {
                Ok(Response::new(v1::SendItemsResponse { first_item, revision: revision.0, duplicates }))
            }
            other => Ok(other_outcome("send_items", &other)?),
        }
    }

    async fn receive_items(
        &self,
        request: Request<v1::ReceiveItemsRequest>,
    ) -> Result<Response<v1::ReceiveItemsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_receive(&claims, &queue)?;
        let participant = claims.participant.clone();
        let receiver = match admit::request_id(&request.request_id)? {
            Some(request_id) => Receiver::Request { participant: participant.clone(), request_id },
            None => Receiver::Unnamed,
        };
        let receive = queues::receive_items(uid, queue, participant, receiver, false, request)?;
        Ok(Response::new(receive::receive(&shard, &leading, receive).await?))
    }

    async fn ack_deliveries(
        &self,
        request: Request<v1::AckDeliveriesRequest>,
    ) -> Result<Response<v1::AckDeliveriesResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_receive(&claims, &queue)?;
        let request_id = request.request_id.clone();
        let operation = queues::ack_deliveries(uid, queue, request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::Settled { results, revision } => {
                let results = convert::delivery_results(results);
                Ok(Response::new(v1::AckDeliveriesResponse { results, revision: revision.0 }))
            }
            other => Ok(other_outcome("ack_deliveries", &other)?),
        }
    }

    async fn nack_deliveries(
        &self,
        request: Request<v1::NackDeliveriesRequest>,
    ) -> Result<Response<v1::NackDeliveriesResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_receive(&claims, &queue)?;
        let request_id = request.request_id.clone();
        let operation = queues::nack_deliveries(uid, queue, request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::Settled { results, revision } => {
                let results = convert::delivery_results(results);
                Ok(Response::new(v1::NackDeliveriesResponse { results, revision: revision.0 }))
            }
            other => Ok(other_outcome("nack_deliveries", &other)?),
        }
    }

    async fn extend_leases(
        &self,
        request: Request<v1::ExtendLeasesRequest>,
    ) -> Result<Response<v1::ExtendLeasesResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_receive(&claims, &queue)?;
        let request_id = request.request_id.clone();
        let operation = queues::extend_leases(uid, queue, request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::Settled { results, revision } => {
                let results = convert::delivery_results(results);
                Ok(Response::new(v1::ExtendLeasesResponse { results, revision: revision.0 }))
            }
            other => Ok(other_outcome("extend_leases", &other)?),
        }
    }

    type ConsumeItemsStream = Pin<Box<dyn Stream<Item = Result<v1::ConsumeItemsResponse, Status>> + Send>>;

    async fn consume_items(
        &self,
        request: Request<v1::ConsumeItemsRequest>,
    ) -> Result<Response<Self::ConsumeItemsStream>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let v1::ConsumeItemsRequest { parent, consumer, window, lease } = request.into_inner();
        let (Located { shard, leading, name, uid }, queue) = self.locate_queue(&claims, &parent).await?;
        let asked = queues::consume(queue, true, &consumer, window, lease, &claims.participant)?;
        let listener = Listener::Anybody;
        let at = FeedPlace { shard, leading: leading.clone(), claims, room: uid, room_name: name, listener };
        let wake = Arc::new(Notify::new());
        let feed = feed::open(at, Subject::Deliveries(asked), Revision(0), wake.clone()).await?;
        let elements = feed::stream(feed, wake, leading);
        Ok(Response::new(Box::pin(elements.map(|element| element.map(v1::ConsumeItemsResponse::from)))))
    }

    async fn create_queue(
        &self,
        request: Request<v1::CreateQueueRequest>,
    ) -> Result<Response<v1::CreateQueueResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, name, uid }, queue) = self.locate_queue(&claims, &request.name).await?;
        scope::queue_send(&claims, &queue)?;
        let request_id = request.request_id.clone();
        let operation = queues::create_queue(uid, queue.clone(), request)?;
        scope::queue_configure(&claims, &operation)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::QueueConfigured { revision } => {
                let queue = reads::queue_now(&shard, &InRoom { uid, name }, &queue)?;
                Ok(Response::new(v1::CreateQueueResponse { queue, revision: revision.0 }))
            }
            other => Ok(other_outcome("create_queue", &other)?),
        }
    }

    async fn update_queue(
        &self,
        request: Request<v1::UpdateQueueRequest>,
    ) -> Result<Response<v1::UpdateQueueResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, name, uid }, queue) = self.locate_queue(&claims, &request.name).await?;
        scope::queue_send(&claims, &queue)?;
        let request_id = request.request_id.clone();
        let operation = queues::update_queue(uid, queue.clone(), request)?;
        scope::queue_configure(&claims, &operation)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::QueueConfigured { revision } => {
                let queue = reads::queue_now(&shard, &InRoom { uid, name }, &queue)?;
                Ok(Response::new(v1::UpdateQueueResponse { queue, revision: revision.0 }))
            }
            other => Ok(other_outcome("update_queue", &other)?),
        }
    }

    async fn cancel_items(
        &self,
        request: Request<v1::CancelItemsRequest>,
    ) -> Result<Response<v1::CancelItemsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_send(&claims, &queue)?;
        let request_id = request.request_id.clone();
        let operation = queues::cancel_items(uid, queue, request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::ItemsCancelled { results, revision } => {
                let results = convert::cancel_results(results);
                Ok(Response::new(v1::CancelItemsResponse { results, revision: revision.0 }))
            }
            other => Ok(other_outcome("cancel_items", &other)?),
        }
    }

    async fn move_items(
        &self,
        request: Request<v1::MoveItemsRequest>,
    ) -> Result<Response<v1::MoveItemsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, name, uid }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_receive(&claims, &queue)?;
        let to = match request.destination.as_str() {
            "" => None,
            destination => Some(destination.parse::<QueuePath>().map_err(Fault::from)?),
        };
        if to.as_ref().is_some_and(|to| to.room != name) {
            return Err(Fault::field_invalid("destination", "must be a queue of the same room").into());
        }
        let to = to.map(|to| to.queue);
        to.iter().try_for_each(|to| scope::queue_send(&claims, to))?;
        let operation = queues::move_items(uid, queue, to, &request)?;
        match propose(&shard, &leading, &claims, &request.request_id, operation).await? {
            Outcome::ItemsMoved { moved, left, revision } => Ok(Response::new(convert::moved(moved, left, revision))),
            other => Ok(other_outcome("move_items", &other)?),
        }
    }

    async fn purge_items(
        &self,
        request: Request<v1::PurgeItemsRequest>,
    ) -> Result<Response<v1::PurgeItemsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_receive(&claims, &queue)?;
        let operation = queues::purge_items(uid, queue, &request)?;
        match propose(&shard, &leading, &claims, &request.request_id, operation).await? {
            Outcome::ItemsPurged { purged, left, revision } => {
                Ok(Response::new(convert::purged(purged, left, revision)))
            }
            other => Ok(other_outcome("purge_items", &other)?),
        }
    }

    async fn list_items(
        &self,
        request: Request<v1::ListItemsRequest>,
    ) -> Result<Response<v1::ListItemsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, name, uid, .. }, queue) = self.locate_queue(&claims, &request.parent).await?;
        scope::queue_receive(&claims, &queue)?;
        match reads::list_items(shard, InRoom { uid, name }, queue, request).await? {
            Body::ListItems(response) => Ok(Response::new(response)),
            _ => Err(Fault::internal("list_items").into()),
        }
    }

    async fn get_queue_stats(
        &self,
        request: Request<v1::GetQueueStatsRequest>,
    ) -> Result<Response<v1::GetQueueStatsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, name, uid }, queue) = self.locate_queue(&claims, &request.name).await?;
        scope::queue_list(&claims)?;
        match reads::get_queue_stats(shard, leading, InRoom { uid, name }, queue, request).await? {
            Body::GetQueueStats(response) => Ok(Response::new(response)),
            _ => Err(Fault::internal("get_queue_stats").into()),
        }
    }

    async fn get_queue(&self, request: Request<v1::GetQueueRequest>) -> Result<Response<v1::GetQueueResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, name, uid, .. }, queue) = self.locate_queue(&claims, &request.name).await?;
        scope::queue_list(&claims)?;
        match reads::get_queue(shard, InRoom { uid, name }, queue, request).await? {
            Body::GetQueue(response) => Ok(Response::new(response)),
            _ => Err(Fault::internal("get_queue").into()),
        }
    }

    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let Located { shard, name, uid, .. } = self.locate_room(&claims, &request.parent).await?;
        scope::queue_list(&claims)?;
        match reads::list_queues(shard, InRoom { uid, name }, request).await? {
            Body::ListQueues(response) => Ok(Response::new(response)),
            _ => Err(Fault::internal("list_queues").into()),
        }
    }
}
