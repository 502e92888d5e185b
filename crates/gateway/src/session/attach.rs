//! Attaches a session to the leader of its shard: Hello out, Welcome in.

use bytes::Bytes;
use conclave_proto::envelope::{ServerEnvelope, body};
use conclave_proto::status::ApiError;
use conclave_types::ShardId;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

use crate::core::Core;
use crate::course::{Course, Failed, STREAM_PATIENCE};
use crate::frames::{Deframer, Run};
use crate::pool::StreamGuard;
use crate::routing::ShardHost;
use crate::session::CONNECT_PATH;
use crate::wire::{self, Onward, Part, Read};

/// Most bytes of one frame of a host: 128 deliveries of 256 KiB and their envelopes.
pub const MAX_HOST_FRAME_BYTES: usize = 40 << 20;

/// Where and as whom a session attaches, again and again.
pub struct Attaching<'a> {
    pub core: &'a Core,
    pub onward: &'a Onward,
    pub shard: ShardId,
}

/// A stream to a host that has welcomed the session.
pub struct Attached {
    pub host: ShardHost,
    /// None once the host was told that the client will send no more. Dropped without that, as when the client is cut off
    /// or the gateway stops, it resets the stream: the host keeps the session's participant for its lease.
    pub to_host: Option<mpsc::Sender<Part>>,
    pub body: Body,
    pub deframer: Deframer,
    /// Begins with Welcome; not looked through yet.
    pub first: Run,
    pub _guard: StreamGuard,
}

/// A stream that ended while the session lives on.
pub struct Lost {
    pub host: ShardHost,
    pub failed: Failed,
}

impl Attaching<'_> {
    /// Attaches with this `Hello`. `lost`: the stream before, if there was one.
    pub async fn attach(&self, hello: Bytes, lost: Option<Lost>) -> Result<Attached, Status> {
        let (mut course, failed) = match lost {
            None => (Course::new(self.core, self.shard, STREAM_PATIENCE), None),
            Some(lost) => (Course::after(self.core, self.shard, STREAM_PATIENCE, lost.host), Some(lost.failed)),
        };
        let attached = course.open(failed, |host| self.attempt(host, hello.clone())).await?;
        course.succeeded();
        Ok(attached)
    }

    async fn attempt(&self, host: ShardHost, hello: Bytes) -> Result<Attached, Failed> {
        let (to_host, request_body) = wire::written();
        // The channel is empty, so this does not wait.
        to_host.send(Part::Data(hello)).await.map_err(|_| Failed::cut())?;
        let request = self.onward.request(CONNECT_PATH, None, request_body);
        let (response, guard) = self.core.pool.call(&host.address, request).await?;
        let (head, mut body) = response.into_parts();
        if let Some(status) = wire::status_of(&head.headers) {
            return Err(Failed::ended(Some(status)));
        }
        let mut deframer = Deframer::new(MAX_HOST_FRAME_BYTES);
        loop {
            match wire::read(&mut body).await {
                Read::Data(bytes) => {
                    let first = deframer.push(bytes).map_err(|_| Failed::cut())?;
                    if first.is_empty() {
                        continue;
                    }
                    if !welcomes(&first) {
                        return Err(Failed::ended(Some(ApiError::internal("no welcome").into())));
                    }
                    return Ok(Attached { host, to_host: Some(to_host), body, deframer, first, _guard: guard });
                }
                Read::End(trailers) => return Err(Failed::ended(trailers.as_ref().and_then(wire::status_of))),
                Read::Broken => return Err(Failed::cut()),
            }
        }
    }
}

fn welcomes(first: &Run) -> bool {
    let Some(message) = first.messages().next() else { return false };
    let envelope = ServerEnvelope::peek(first.payload(message));
    envelope.is_ok_and(|envelope| envelope.body.is_some_and(|body| body.field == body::WELCOME))
}
