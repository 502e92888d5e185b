//! The calls of the cluster that is stood in for: the few that tests make, and refusals of the rest.

use std::pin::Pin;

use conclave_proto::page::RoomsPage;
use conclave_proto::status::ApiError;
use conclave_proto::v1::queue_service_server::QueueService;
use conclave_proto::v1::room_service_server::RoomService;
use conclave_proto::v1::{self, ErrorReason};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{Service, delivery, sent};

#[tonic::async_trait]
impl RoomService for Service {
    type WatchRoomStream = Pin<Box<dyn Stream<Item = Result<v1::WatchRoomResponse, Status>> + Send>>;

    async fn watch_room(&self, _: Request<v1::WatchRoomRequest>) -> Result<Response<Self::WatchRoomStream>, Status> {
        Err(ApiError::new(ErrorReason::RoomNotFound, "no such room").into())
    }

    async fn create_room(&self, _: Request<v1::CreateRoomRequest>) -> Result<Response<v1::CreateRoomResponse>, Status> {
        Err(ApiError::new(ErrorReason::RoomExists, "the room exists").into())
    }

    async fn get_room(&self, request: Request<v1::GetRoomRequest>) -> Result<Response<v1::GetRoomResponse>, Status> {
        self.leading(request.metadata())?;
        let name = request.into_inner().name;
        let room = v1::Room { name, ..Default::default() };
        Ok(Response::new(v1::GetRoomResponse { room: Some(room), revision: 7 }))
    }

    /// Two rooms in each of four shards.
    async fn list_rooms(
        &self,
        request: Request<v1::ListRoomsRequest>,
    ) -> Result<Response<v1::ListRoomsResponse>, Status> {
        self.leading(request.metadata())?;
        let request = request.into_inner();
        let page = RoomsPage::of_token(&request.page_token)?;
        let shard = page.shard.0;
        let first = if page.after.is_some() { 1 } else { 0 };
        let numbers: Vec<u16> = (first..2).take(request.page_size as usize).collect();
        let rooms =
            numbers.iter().map(|number| v1::Room { name: format!("rooms/{shard}-{number}"), ..Default::default() });
        let next_page_token = match numbers.last() {
            Some(0) => format!("{shard}.0.{shard}-0"),
            _ if shard < 3 => (shard + 1).to_string(),
            _ => String::new(),
        };
        Ok(Response::new(v1::ListRoomsResponse { rooms: rooms.collect(), next_page_token }))
    }

    async fn update_room(&self, _: Request<v1::UpdateRoomRequest>) -> Result<Response<v1::UpdateRoomResponse>, Status> {
        Err(ApiError::new(ErrorReason::RoomNotFound, "no such room").into())
    }

    async fn delete_room(&self, _: Request<v1::DeleteRoomRequest>) -> Result<Response<v1::DeleteRoomResponse>, Status> {
        Err(ApiError::new(ErrorReason::RoomNotFound, "no such room").into())
    }
}

#[tonic::async_trait]
impl QueueService for Service {
    async fn send_items(
        &self,
        request: Request<v1::SendItemsRequest>,
    ) -> Result<Response<v1::SendItemsResponse>, Status> {
        self.leading(request.metadata())?;
        let request = request.into_inner();
        let mut state = self.cluster.state.lock();
        let known = state.request_ids.get(&request.request_id).cloned();
        let response = known.unwrap_or_else(|| {
            state.items.extend(request.items.into_iter().map(|item| item.body));
            let count = state.items.len() as u64;
            sent(count)
        });
        if !request.request_id.is_empty() {
            state.request_ids.insert(request.request_id, response.clone());
        }
        let cut = state.cut_writes > 0;
        state.cut_writes = state.cut_writes.saturating_sub(1);
        drop(state);
        self.cluster.seen.send_modify(|seen| seen.unary_writes += 1);
        // A status that is not the cluster's own is what a broken connection looks like to the caller.
        if cut { Err(Status::unavailable("connection reset")) } else { Ok(Response::new(response)) }
    }

    async fn receive_items(
        &self,
        _: Request<v1::ReceiveItemsRequest>,
    ) -> Result<Response<v1::ReceiveItemsResponse>, Status> {
        Err(ApiError::new(ErrorReason::QueueNotFound, "no such queue").into())
    }

    async fn ack_deliveries(
        &self,
        _: Request<v1::AckDeliveriesRequest>,
    ) -> Result<Response<v1::AckDeliveriesResponse>, Status> {
        Err(ApiError::new(ErrorReason::QueueNotFound, "no such queue").into())
    }

    async fn get_queue(&self, _: Request<v1::GetQueueRequest>) -> Result<Response<v1::GetQueueResponse>, Status> {
        Err(ApiError::new(ErrorReason::QueueNotFound, "no such queue").into())
    }

    async fn list_queues(&self, _: Request<v1::ListQueuesRequest>) -> Result<Response<v1::ListQueuesResponse>, Status> {
        Err(ApiError::new(ErrorReason::QueueNotFound, "no such queue").into())
    }

    type ConsumeItemsStream = Pin<Box<dyn Stream<Item = Result<v1::ConsumeItemsResponse, Status>> + Send>>;

    /// Every item that there is, and nothing more until the leader changes.
    async fn consume_items(
        &self,
        request: Request<v1::ConsumeItemsRequest>,
    ) -> Result<Response<Self::ConsumeItemsStream>, Status> {
        self.leading(request.metadata())?;
        let mut state = self.cluster.state.lock();
        state.consumed.push(request.into_inner());
        let events: Vec<_> = (1..).zip(&state.items).map(|(item, body)| delivery(item, body)).collect();
        drop(state);
        let batch = conclave_proto::events::EventBatch::of(&events);
        let body = Some(v1::consume_items_response::Body::EventBatch(batch));
        let element = v1::ConsumeItemsResponse { revision: events.len() as u64, body };
        let (service, mut seen) = (self.clone(), self.cluster.seen.subscribe());
        let end = async move {
            let deposed = seen.wait_for(|seen| seen.leader != service.number).await;
            deposed
                .map_or_else(|_| Err(Status::unavailable("the cluster is gone")), |_| Err(service.cluster.not_leader()))
        };
        let elements = futures::stream::once(async { Ok(element) }).chain(futures::stream::once(end));
        Ok(Response::new(Box::pin(elements)))
    }

    async fn nack_deliveries(
        &self,
        _: Request<v1::NackDeliveriesRequest>,
    ) -> Result<Response<v1::NackDeliveriesResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn extend_leases(
        &self,
        _: Request<v1::ExtendLeasesRequest>,
    ) -> Result<Response<v1::ExtendLeasesResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn create_queue(
        &self,
        _: Request<v1::CreateQueueRequest>,
    ) -> Result<Response<v1::CreateQueueResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn update_queue(
        &self,
        _: Request<v1::UpdateQueueRequest>,
    ) -> Result<Response<v1::UpdateQueueResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn cancel_items(
        &self,
        _: Request<v1::CancelItemsRequest>,
    ) -> Result<Response<v1::CancelItemsResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn move_items(&self, _: Request<v1::MoveItemsRequest>) -> Result<Response<v1::MoveItemsResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn purge_items(&self, _: Request<v1::PurgeItemsRequest>) -> Result<Response<v1::PurgeItemsResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn list_items(&self, _: Request<v1::ListItemsRequest>) -> Result<Response<v1::ListItemsResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }

    async fn get_queue_stats(
        &self,
        _: Request<v1::GetQueueStatsRequest>,
    ) -> Result<Response<v1::GetQueueStatsResponse>, Status> {
        Err(ApiError::unimplemented("this call").into())
    }
}
