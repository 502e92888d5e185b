//! The answering side: takes the streams that peers open and feeds their calls to the handler.

mod dispatch;

use std::sync::Arc;

use conclave_proto::internal::v1::{
    MuxMessage, PeerFrame,
    peer_service_server::{PeerService, PeerServiceServer},
};
use conclave_raft::{Lane, PeerHandler};
use conclave_types::{NodeUuid, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::frames::{clock_message, hello_message, pack};
use crate::grpc_transport::GrpcTransport;
use crate::handshake::HandshakeError;
use crate::link::LinkContext;
use crate::options::MAX_MESSAGE_BYTES;
use dispatch::Dispatcher;

/// Answers that wait for a stream; a full queue stops reading the stream, so a peer that does not read is not served.
const ANSWER_QUEUE: usize = 1_024;

/// The service for the host's internal listener. Its tasks belong to `transport` and end with it.
pub fn peer_service(transport: &GrpcTransport, handler: Arc<dyn PeerHandler>) -> PeerServiceServer<PeerMux> {
    let mux = PeerMux { handler, context: transport.context().clone(), tasks: transport.tasks().clone() };
    PeerServiceServer::new(mux)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

pub struct PeerMux {
    handler: Arc<dyn PeerHandler>,
    context: Arc<LinkContext>,
    tasks: TaskTracker,
}

#[tonic::async_trait]
impl PeerService for PeerMux {
    type MuxStream = ReceiverStream<Result<MuxMessage, Status>>;

    async fn mux(&self, request: Request<Streaming<MuxMessage>>) -> Result<Response<Self::MuxStream>, Status> {
        if self.context.cancelled.is_cancelled() {
            return Err(Status::unavailable("the transport has stopped"));
        }
        let mut inbound = request.into_inner();
        let (peer, lane) = self.greet(&mut inbound).await?;
        // One message of room: while it waits for the line, the next one fills up.
        let (outbound, messages) = mpsc::channel(1);
        let hello = hello_message(self.context.identity.hello(None, lane), self.context.clocks.own());
        outbound.try_send(Ok(hello)).map_err(|_| Status::internal("a new stream has no room"))?;

        let (answers, waiting) = mpsc::channel(ANSWER_QUEUE);
        let dispatcher = Dispatcher::new(self.handler.clone(), lane, answers, self.tasks.clone(), self.context.clone());
        let stream = PeerStream { peer, lane, context: self.context.clone(), outbound };
        self.tasks.spawn(stream.serve(inbound, dispatcher, waiting));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

impl PeerMux {
    async fn greet(&self, inbound: &mut Streaming<MuxMessage>) -> Result<(NodeUuid, Lane), Status> {
        let first = timeout(self.context.options.connect_timeout, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??
            .ok_or_else(|| Status::cancelled("the stream ended before the hello"))?;
        let hello = first.hello.ok_or(HandshakeError::Malformed("hello"))?;
        let accepted = self.context.identity.accept(&hello).inspect_err(|refusal| {
            tracing::warn!(%refusal, "refused a peer");
        })?;
        if let Some(clock) = first.clock {
            self.context.clocks.hear(accepted.0, Timestamp(clock.wall_ms));
        }
        Ok(accepted)
    }
}

/// One open stream of one peer.
struct PeerStream {
    peer: NodeUuid,
    lane: Lane,
    context: Arc<LinkContext>,
    outbound: mpsc::Sender<Result<MuxMessage, Status>>,
}

impl PeerStream {
    async fn serve(self, inbound: Streaming<MuxMessage>, dispatcher: Dispatcher, answers: mpsc::Receiver<PeerFrame>) {
        tokio::select! {
            () = self.context.cancelled.cancelled() => {
                // The peer learns why at once, unless it does not read.
                let _ = self.outbound.try_send(Err(Status::unavailable("the node is stopping")));
            }
            () = self.receive(inbound, dispatcher) => {}
            () = self.answer(answers) => {}
        }
        tracing::debug!(peer = %self.peer, lane = ?self.lane, "peer stream has ended");
    }

    async fn receive(&self, mut inbound: Streaming<MuxMessage>, dispatcher: Dispatcher) {
        while let Ok(Some(message)) = inbound.message().await {
            if let Some(clock) = message.clock {
                self.context.clocks.hear(self.peer, Timestamp(clock.wall_ms));
            }
            for frame in message.frames {
                dispatcher.accept(frame).await;
            }
        }
    }

    async fn answer(&self, mut answers: mpsc::Receiver<PeerFrame>) {
        let mut tick = interval(self.context.options.clock_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Ok(room) = self.outbound.reserve().await else { return };
            tokio::select! {
                first = answers.recv() => {
                    let Some(first) = first else { return };
                    room.send(Ok(pack(first, &mut answers, self.context.options.message_bytes, Some)));
                }
                _ = tick.tick(), if self.lane == Lane::Control => {
                    room.send(Ok(clock_message(self.context.clocks.own())));
                }
            }
        }
    }
}
