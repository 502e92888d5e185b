//! `MessagingService`.

use std::pin::Pin;
use std::sync::Arc;

use conclave_proto::v1;
use conclave_proto::v1::messaging_service_server::MessagingService;
use conclave_room::Outcome;
use conclave_types::Revision;
use futures::{Stream, StreamExt};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::{Located, PublicApi, other_outcome, propose};
use crate::faults::Fault;
use crate::feed::{self, FeedPlace, Subject};
use crate::hub::Listener;
use crate::{ephemeral, presence, scope};

#[tonic::async_trait]
impl MessagingService for PublicApi {
    type FollowMessagesStream = Pin<Box<dyn Stream<Item = Result<v1::FollowMessagesResponse, Status>> + Send>>;
    type ReceiveEphemeralStream = Pin<Box<dyn Stream<Item = Result<v1::ReceiveEphemeralResponse, Status>> + Send>>;

    async fn post_message(
        &self,
        request: Request<v1::PostMessageRequest>,
    ) -> Result<Response<v1::PostMessageResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let Located { shard, leading, uid, .. } = self.locate_room(&claims, &request.parent).await?;
        scope::messaging_broadcast(&claims)?;
        let request_id = request.request_id.clone();
        let operation = ephemeral::admit_post(uid, claims.participant.clone(), request)?;
        match propose(&shard, &leading, &claims, &request_id, operation).await? {
            Outcome::Posted { revision } => {
                let lane = v1::Lane::Durable.into();
                Ok(Response::new(v1::PostMessageResponse { revision: revision.0, lane }))
            }
            other => Ok(other_outcome("post_message", &other)?),
        }
    }

    async fn follow_messages(
        &self,
        request: Request<v1::FollowMessagesRequest>,
    ) -> Result<Response<Self::FollowMessagesStream>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let request = request.into_inner();
        let located = self.locate_room(&claims, &request.parent).await?;
        let Located { shard, leading, name: room_name, uid: room } = located;
        let listener = Listener::Anybody;
        let at = FeedPlace { shard, leading: leading.clone(), claims, room, room_name, listener };
        let wake = Arc::new(Notify::new());
        let feed = feed::open(at, Subject::Messages, Revision(request.after_revision), wake.clone()).await?;
        let responses = feed::stream(feed, wake, leading).map(|element| element.map(Into::into));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn send_ephemeral(
        &self,
        request: Request<v1::SendEphemeralRequest>,
    ) -> Result<Response<v1::SendEphemeralResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let Located { leading, name, uid, .. } = self.locate_room(&claims, &request.parent).await?;
        Ok(Response::new(ephemeral::send(&leading, &claims, uid, &name, None, request)?))
    }

    async fn receive_ephemeral(
        &self,
        request: Request<v1::ReceiveEphemeralRequest>,
    ) -> Result<Response<Self::ReceiveEphemeralStream>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let request = request.into_inner();
        let located = self.locate_room(&claims, &request.parent).await?;
        let Located { shard, leading, name: room_name, uid: room } = located;
        // Before a participant's lease is held: who may not listen keeps nobody here.
        scope::messaging_read(&claims)?;
        let (listener, held) = match presence::uid("participant_uid", &request.participant_uid)? {
            None => (Listener::Anybody, None),
            Some(uid) => {
                let held = leading.presence.hold(room, uid, &claims.participant);
                let held = held.ok_or_else(|| Fault::participant_not_found(&request.participant_uid))?;
                (Listener::Participant(uid), Some(held))
            }
        };
        let at = FeedPlace { shard, leading: leading.clone(), claims, room, room_name, listener };
        let wake = Arc::new(Notify::new());
        let feed = feed::open(at, Subject::Ephemeral, Revision(0), wake.clone()).await?;
        let responses = feed::stream(feed, wake, leading).map(move |element| {
            // As long as the stream is open.
            let _ = &held;
            element.map(Into::into)
        });
        Ok(Response::new(Box::pin(responses)))
    }
}
