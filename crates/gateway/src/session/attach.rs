//! Attaches a session to the leader of its shard: Hello out, Welcome in.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::envelope::{ServerEnvelope, body};
use conclave_proto::status::ApiError;
use conclave_types::ShardId;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::core::Core;
use crate::course::{Course, Failed, Verdict};
use crate::frames::{Deframer, Run};
use crate::pool::StreamGuard;
use crate::retry::{Failure, Refusal, Repeat};
use crate::routing::ShardHost;
use crate::session::CONNECT_PATH;
use crate::wire::{self, Onward, Part, Read};

/// How long a session looks for a leader before its client is told; an election takes a second or two.
const PATIENCE: Duration = Duration::from_secs(10);
/// A host that does not welcome in this time is passed over: a host that hangs must not use up the patience. Long,
/// because an attachment that commits after it was given up supersedes the next attempt with the same token.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Most bytes of one frame of a host: 128 deliveries of 256 KiB and their envelopes.
const MAX_HOST_FRAME_BYTES: usize = 40 << 20;

/// Where and as whom a session attaches, again and again.
pub struct Attaching<'a> {
    pub core: &'a Core,
    pub onward: &'a Onward,
    pub shard: ShardId,
}

/// A stream to a host that has welcomed the session.
pub struct Attached {
    pub host: ShardHost,
    /// Dropped to tell the host that the client will send no more.
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
        let (mut course, mut failed) = match lost {
            None => (Course::new(self.core, self.shard, PATIENCE), None),
            Some(lost) => (Course::after(self.core, self.shard, PATIENCE, lost.host), Some(lost.failed)),
        };
        loop {
            if let Some(failed) = failed.take()
                && let ControlFlow::Break(verdict) = course.failed(failed, Repeat::Recognised).await
            {
                return Err(given_up(verdict));
            }
            let host = course.target().map_err(|_| Status::from(ApiError::no_leader()))?;
            let attempt = async {
                tokio::select! {
                    biased;
                    attached = self.attempt(&host, hello.clone()) => attached,
                    // A host that hangs must not hold the session up once another leads.
                    (leader, term) = self.core.router.led_elsewhere(self.shard, host.node) => {
                        Err(Failed::deposed(&leader, term))
                    }
                }
            };
            match tokio::time::timeout(ATTEMPT.min(course.remaining()), attempt).await {
                Ok(Ok(attached)) => {
                    course.succeeded();
                    return Ok(attached);
                }
                Ok(Err(error)) => failed = Some(error),
                Err(_late) => failed = Some(Failed { failure: Failure::Cut, status: None }),
            }
        }
    }

    async fn attempt(&self, host: &ShardHost, hello: Bytes) -> Result<Attached, Failed> {
        let lost = |failure| Failed { failure, status: None };
        let (to_host, request_body) = wire::written();
        // The channel is empty, so this does not wait.
        to_host.send(Part::Data(hello)).await.map_err(|_| lost(Failure::Cut))?;
        let request = self.onward.request(CONNECT_PATH, None, request_body);
        let (response, guard) = self.core.pool.call(&host.address, request).await.map_err(lost)?;
        let (head, mut body) = response.into_parts();
        if let Some(status) = wire::status_of(&head.headers) {
            return Err(ended(Some(status)));
        }
        let mut deframer = Deframer::new(MAX_HOST_FRAME_BYTES);
        loop {
            match wire::read(&mut body).await {
                Read::Data(bytes) => {
                    let first = deframer.push(bytes).map_err(|_| lost(Failure::Cut))?;
                    if first.is_empty() {
                        continue;
                    }
                    if !welcomes(&first) {
                        return Err(ended(Some(ApiError::internal("no welcome").into())));
                    }
                    let host = host.clone();
                    return Ok(Attached { host, to_host: Some(to_host), body, deframer, first, _guard: guard });
                }
                Read::End(trailers) => return Err(ended(trailers.as_ref().and_then(wire::status_of))),
                Read::Broken => return Err(lost(Failure::Cut)),
            }
        }
    }
}

/// A host's stream that ended before or after its Welcome.
pub fn ended(status: Option<Status>) -> Failed {
    match status {
        Some(status) => Failed { failure: Failure::Refused(Refusal::from(&status)), status: Some(status) },
        // A body that ends without a status was cut by whatever carried it.
        None => Failed { failure: Failure::Cut, status: None },
    }
}

fn welcomes(first: &Run) -> bool {
    let Some(message) = first.messages().next() else { return false };
    let envelope = ServerEnvelope::peek(first.payload(message));
    envelope.is_ok_and(|envelope| envelope.body.is_some_and(|body| body.field == body::WELCOME))
}

fn given_up(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Pass(status) if status.code() == Code::Ok => ApiError::no_leader().into(),
        Verdict::Pass(status) => status,
        Verdict::Unknown | Verdict::NobodyAnswered => ApiError::no_leader().into(),
    }
}
