//! `ParticipantService`.

use std::pin::Pin;
use std::sync::Arc;

use conclave_proto::resource::ParticipantPath;
use conclave_proto::v1;
use conclave_proto::v1::participant_service_server::ParticipantService;
use conclave_types::Revision;
use futures::{Stream, StreamExt};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::{Located, PublicApi};
use crate::faults::Fault;
use crate::feed::{self, FeedPlace, Subject};
use crate::hub::Listener;
use crate::scope;

#[tonic::async_trait]
impl ParticipantService for PublicApi {
    type WatchParticipantsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchParticipantsResponse, Status>> + Send>>;

    async fn attach_participant(
        &self,
        request: Request<v1::AttachParticipantRequest>,
    ) -> Result<Response<v1::AttachParticipantResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let Located { leading, name, uid, .. } = self.locate_room(&claims, &request.parent).await?;
        Ok(Response::new(leading.presence.attach(&claims, uid, &name, None, request)?))
    }

    async fn detach_participant(
        &self,
        request: Request<v1::DetachParticipantRequest>,
    ) -> Result<Response<v1::DetachParticipantResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let ParticipantPath { room, .. } = request.name.parse::<ParticipantPath>().map_err(Fault::from)?;
        let Located { leading, name, uid, .. } = self.locate(&claims, room).await?;
        Ok(Response::new(leading.presence.detach(&claims, uid, &name, None, request)?))
    }

    async fn list_participants(
        &self,
        request: Request<v1::ListParticipantsRequest>,
    ) -> Result<Response<v1::ListParticipantsResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let Located { leading, name, uid, .. } = self.locate_room(&claims, &request.parent).await?;
        scope::participants_list(&claims)?;
        Ok(Response::new(leading.presence.list(uid, &name, &request)?))
    }

    async fn watch_participants(
        &self,
        request: Request<v1::WatchParticipantsRequest>,
    ) -> Result<Response<Self::WatchParticipantsStream>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let located = self.locate_room(&claims, &request.get_ref().parent).await?;
        let Located { shard, leading, name: room_name, uid: room } = located;
        let listener = Listener::Anybody;
        let at = FeedPlace { shard, leading: leading.clone(), claims, room, room_name, listener };
        let wake = Arc::new(Notify::new());
        let feed = feed::open(at, Subject::Participants, Revision(0), wake.clone()).await?;
        let responses = feed::stream(feed, wake, leading).map(|element| element.map(Into::into));
        Ok(Response::new(Box::pin(responses)))
    }
}
