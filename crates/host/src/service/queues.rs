//! `QueueService`.

use conclave_proto::v1;
use conclave_proto::v1::queue_service_server::QueueService;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{Outcome, Receiver};
use tonic::{Request, Response, Status};

use super::{Located, PublicApi, other_outcome, propose};
use crate::faults::Fault;
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
        let operation = admit::send_items(uid, queue, claims.participant.clone(), request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::Sent { first_item, revision } => {
                Ok(Response::new(v1::SendItemsResponse { first_item, revision: revision.0 }))
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
        let receive = admit::receive_items(uid, queue, participant, receiver, false, request)?;
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
        let operation = admit::ack_deliveries(uid, queue, request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::Acked { results, revision } => {
                let results = convert::ack_results(results);
                Ok(Response::new(v1::AckDeliveriesResponse { results, revision: revision.0 }))
            }
            other => Ok(other_outcome("ack_deliveries", &other)?),
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
