//! `RoomService`.

use std::pin::Pin;
use std::sync::Arc;

use conclave_proto::page::RoomsPage;
use conclave_proto::resource::RoomPath;
use conclave_proto::v1;
use conclave_proto::v1::room_service_server::RoomService;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{Operation, Outcome};
use conclave_types::{Revision, RoomUid};
use futures::{Stream, StreamExt};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::{Located, PublicApi, other_outcome, propose};
use crate::faults::Fault;
use crate::feed::{self, FeedPlace, Subject, Topics};
use crate::hub::Listener;
use crate::reads::{self, InRoom};
use crate::shard::Shard;
use crate::{admit, scope};

#[tonic::async_trait]
impl RoomService for PublicApi {
    type WatchRoomStream = Pin<Box<dyn Stream<Item = Result<v1::WatchRoomResponse, Status>> + Send>>;

    async fn create_room(
        &self,
        request: Request<v1::CreateRoomRequest>,
    ) -> Result<Response<v1::CreateRoomResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let RoomPath { room } = request.name.parse::<RoomPath>().map_err(Fault::from)?;
        scope::rooms_write(&claims)?;
        scope::in_room(&claims, &room)?;
        admit::labels("metadata", &request.metadata)?;
        admit::labels("annotations", &request.annotations)?;
        let (shard, slot) = self.serving.shard_of(&claims, &room)?;
        let leading = shard.leading()?;
        let operation = Operation::CreateRoom {
            slot,
            project: claims.project.clone(),
            room,
            metadata: request.metadata,
            annotations: request.annotations,
        };
        match propose(&shard, &leading, &claims, &request.request_id, operation).await? {
            Outcome::RoomCreated { room, revision } => {
                let room = present_room(&shard, room)?;
                Ok(Response::new(v1::CreateRoomResponse { room, revision: revision.0 }))
            }
            other => Ok(other_outcome("create_room", &other)?),
        }
    }

    async fn get_room(&self, request: Request<v1::GetRoomRequest>) -> Result<Response<v1::GetRoomResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        scope::rooms_read(&claims)?;
        let Located { shard, name, uid, .. } = self.locate_room(&claims, &request.name).await?;
        match reads::get_room(shard, InRoom { uid, name }, request).await? {
            Body::GetRoom(response) => Ok(Response::new(response)),
            _ => Err(Fault::internal("get_room").into()),
        }
    }

    async fn list_rooms(
        &self,
        request: Request<v1::ListRoomsRequest>,
    ) -> Result<Response<v1::ListRoomsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        scope::rooms_list(&claims)?;
        if !request.parent.is_empty() {
            return Err(Fault::field_invalid("parent", "must be empty: rooms belong to the token's project").into());
        }
        let page = RoomsPage::of_token(&request.page_token)?;
        let shard = self.serving.shard(page.shard)?;
        let count = self.serving.shard_count()?;
        let response = reads::list_rooms(shard, &claims.project, page, request.page_size, count).await?;
        Ok(Response::new(response))
    }

    async fn update_room(
        &self,
        request: Request<v1::UpdateRoomRequest>,
    ) -> Result<Response<v1::UpdateRoomResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        scope::rooms_write(&claims)?;
        let Located { shard, leading, uid, .. } = self.locate_room(&claims, &request.name).await?;
        let request_id = request.request_id.clone();
        let operation = admit::update_room(uid, request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::RoomUpdated { revision } => {
                let room = present_room(&shard, uid)?;
                Ok(Response::new(v1::UpdateRoomResponse { room, revision: revision.0 }))
            }
            other => Ok(other_outcome("update_room", &other)?),
        }
    }

    async fn delete_room(
        &self,
        request: Request<v1::DeleteRoomRequest>,
    ) -> Result<Response<v1::DeleteRoomResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        scope::rooms_write(&claims)?;
        let Located { shard, leading, uid, .. } = self.locate_room(&claims, &request.name).await?;
        let operation = Operation::DeleteRoom { room: uid, expected_etag: admit::etag(uid, &request.etag)? };
        match propose(&shard, &leading, &claims, &request.request_id, operation).await? {
            Outcome::RoomDeleted { revision: Revision(revision) } => {
                Ok(Response::new(v1::DeleteRoomResponse { revision }))
            }
            other => Ok(other_outcome("delete_room", &other)?),
        }
    }

    async fn watch_room(
        &self,
        request: Request<v1::WatchRoomRequest>,
    ) -> Result<Response<Self::WatchRoomStream>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let request = request.into_inner();
        let topics = Topics::named(&request.topics)?;
        let located = self.locate_room(&claims, &request.name).await?;
        let Located { shard, leading, name: room_name, uid: room } = located;
        let listener = Listener::Anybody;
        let at = FeedPlace { shard, leading: leading.clone(), claims, room, room_name, listener };
        let wake = Arc::new(Notify::new());
        let after = Revision(request.after_revision);
        let feed = feed::open(at, Subject::Room { topics }, after, wake.clone()).await?;
        let responses = feed::stream(feed, wake, leading).map(|element| element.map(Into::into));
        Ok(Response::new(Box::pin(responses)))
    }
}

/// The room as it is now; none if it was deleted meanwhile.
fn present_room(shard: &Shard, uid: RoomUid) -> Result<Option<v1::Room>, Fault> {
    Ok(shard.room(uid)?.as_ref().map(reads::room))
}
