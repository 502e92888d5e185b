//! `SessionService`.

use std::pin::Pin;
use std::sync::Arc;

use conclave_proto::resource::RoomPath;
use conclave_proto::v1;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::session_service_server::SessionService;
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Located, PublicApi};
use crate::faults::{self, Fault};
use crate::session::{Session, attach, outbound};

#[tonic::async_trait]
impl SessionService for PublicApi {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::ServerFrame, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ClientFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let mut inbound = request.into_inner();
        let first = inbound.message().await.map_err(|status| faults::inbound(&status))?;
        let Some(v1::ClientFrame { body: Some(Asked::Hello(hello)), .. }) = first else {
            return Err(Fault::hello_expected().into());
        };
        let RoomPath { room } = hello.room.parse::<RoomPath>().map_err(Fault::from)?;
        let Located { shard, leading, name, uid } = self.locate(&claims, room).await?;
        let secrets = self.serving.secrets()?;
        let (attachment, welcome) = attach(&shard, &leading, &claims, &secrets, name, uid, hello).await?;

        let (outbound, replies) = outbound();
        let welcome = v1::ServerFrame { body: Some(Body::Welcome(welcome)), ..Default::default() };
        if outbound.try_send(welcome).is_err() {
            return Err(Fault::internal("welcome").into());
        }
        let session = Session::new(shard.clone(), leading, claims, attachment, outbound);
        shard.spawn(session.run(Box::pin(inbound)));
        Ok(Response::new(Box::pin(replies)))
    }
}
