//! Server streams: one request, elements for as long as the client listens.
//!
//! ```text
//! request ──► collected ──► asking the leader ──► open: elements are handed on
//!                                 ▲   │ 10 s without a leader, or refused      │ the host's last word, client gone,
//!                                 │   └──────────────► ended ◄─────────────────┤ the gateway stops
//!                                 └────────────────────────────────────────────┘ host lost
//! ```
//!
//! A stream outlives its host as a session does: the next leader is asked with the same request and, where the method
//! has a place for it, with the last revision that the client was given; the client notices a pause. What it was given
//! is never sent again and nothing is passed over, because an element's revision counts once the element is handed on.
//! A method without such a place is begun anew.
//!
//! Elements are handed on as bytes, many at a time; of each only its revision is read. The host is not read while the
//! client's stream is full: that is the back pressure. A stream may be silent for ever, and a deadline is the client's
//! own to keep.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::envelope::{peek_field_1, peek_revision, with_after_revision};
use conclave_proto::status::ApiError;
use conclave_types::ShardId;
use http::HeaderMap;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::auth::Caller;
use crate::core::Core;
use crate::course::{Course, Failed, STREAM_PATIENCE};
use crate::frames::{Deframer, Run, prefixed};
use crate::methods::{NO_CREATE, Resume};
use crate::pool::StreamGuard;
use crate::retained::RetainedBudget;
use crate::routing::ShardHost;
use crate::session::{COME_BACK_WITHIN_MS, MAX_HOST_FRAME_BYTES};
use crate::unary;
use crate::wire::{self, Onward, Part, Read};

/// How long a client whose stream finds no place is asked to stay away.
const OVERLOADED_FOR: Duration = Duration::from_secs(1);

/// What the gateway knows of a streaming method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    pub path: &'static str,
    pub resume: Resume,
}

/// Opens the client's stream and serves it in a task of its own, owned by the gateway.
pub fn open(core: &Arc<Core>, caller: Caller, method: Method, headers: &HeaderMap, body: Body) -> http::Response<Body> {
    if core.streams.len() >= core.options.max_streams {
        return wire::refused(&ApiError::overloaded(OVERLOADED_FOR).into());
    }
    let (to_client, response_body) = wire::written();
    let onward = caller.onward(headers);
    core.streams.spawn(serve(core.clone(), caller, onward, method, body, to_client));
    wire::response(response_body)
}

async fn serve(
    core: Arc<Core>,
    caller: Caller,
    onward: Onward,
    method: Method,
    body: Body,
    to_client: mpsc::Sender<Part>,
) {
    let last_word = tokio::select! {
        biased;
        () = to_client.closed() => return,
        () = core.closing.cancelled() => {
            let wait = core.jitter.duration_ms(COME_BACK_WITHIN_MS);
            ApiError::draining().retry_after(wait).into()
        }
        status = drive(&core, &caller, &onward, method, body, &to_client) => status,
    };
    // Fails only when the client has gone.
    let _ = to_client.send(Part::Trailers(wire::trailers(&last_word))).await;
}

/// Serves the stream to its end. Losing a host is no end.
async fn drive(
    core: &Core,
    caller: &Caller,
    onward: &Onward,
    method: Method,
    body: Body,
    to_client: &mpsc::Sender<Part>,
) -> Status {
    let mut asked = match Asked::collect(core, caller, onward, method, body).await {
        Ok(asked) => asked,
        Err(status) => return status,
    };
    let mut course = Course::new(core, asked.shard, STREAM_PATIENCE);
    let mut failed = None;
    loop {
        let opened = match course.open(failed.take(), |host| asked.attempt(host)).await {
            Ok(opened) => opened,
            Err(status) => return status,
        };
        let host = opened.host.clone();
        let (taken, stopped) = asked.hand_on(opened, &course, to_client).await;
        match stopped {
            Stopped::Ended(status) => return status,
            Stopped::Lost(lost) => {
                tracing::debug!(path = method.path, failure = ?lost.failure, "stream lost its host");
                // A host that takes streams and loses them at once uses up the patience as a silent one does.
                if taken == Taken::Elements {
                    course = Course::after(core, asked.shard, STREAM_PATIENCE, host);
                }
                failed = Some(lost);
            }
        }
    }
}

/// A stream at a host.
struct Opened {
    host: ShardHost,
    body: Body,
    _guard: StreamGuard,
}

/// What came of a host before its stream stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Nothing,
    Elements,
}

enum Stopped {
    /// With the client's last word.
    Ended(Status),
    /// The host is lost; the stream is not.
    Lost(Failed),
}

/// What the client asked for, and how far it was answered.
struct Asked<'a> {
    core: &'a Core,
    onward: &'a Onward,
    method: Method,
    shard: ShardId,
    request: Request,
    /// The last one that an element carried which the client was given; 0 before that.
    revision: u64,
}

impl<'a> Asked<'a> {
    async fn collect(
        core: &'a Core,
        caller: &Caller,
        onward: &'a Onward,
        method: Method,
        body: Body,
    ) -> Result<Self, Status> {
        let request = unary::collect(body).await?;
        let resource = peek_field_1(request.single()).map_err(ApiError::from)?.unwrap_or_default();
        let room = unary::room_of(resource)?;
        let request = Request::keep(request.single(), core.retained.clone())?;
        let shard = unary::shard_of(core, caller, &room).await?;
        Ok(Asked { core, onward, method, shard, request, revision: 0 })
    }

    async fn attempt(&self, host: ShardHost) -> Result<Opened, Failed> {
        let request = self.onward.request(self.method.path, None, wire::single(prefixed(&self.request_now())));
        let (response, guard) = self.core.pool.call(&host.address, request).await?;
        let (head, body) = response.into_parts();
        match wire::status_of(&head.headers) {
            Some(status) => Err(Failed::ended(Some(status))),
            None => Ok(Opened { host, body, _guard: guard }),
        }
    }

    /// The request, to go on behind what the client was given.
    fn request_now(&self) -> Bytes {
        match self.method.resume {
            _ if self.revision == 0 => self.request.message.clone(),
            Resume::AfterRevision => with_after_revision(&self.request.message, self.revision),
            Resume::AfterRevisionIfThere => {
                [&with_after_revision(&self.request.message, self.revision)[..], &NO_CREATE].concat().into()
            }
            Resume::Anew => self.request.message.clone(),
        }
    }

    /// Hands elements on until the stream stops, or until another host is known to lead the shard.
    async fn hand_on(
        &mut self,
        mut opened: Opened,
        course: &Course<'_>,
        to_client: &mpsc::Sender<Part>,
    ) -> (Taken, Stopped) {
        let mut led_elsewhere = pin!(self.core.router.led_elsewhere(self.shard, opened.host.node));
        let mut deframer = Deframer::new(MAX_HOST_FRAME_BYTES);
        let mut taken = Taken::Nothing;
        loop {
            let read = tokio::select! {
                biased;
                read = wire::read(&mut opened.body) => read,
                (leader, term) = &mut led_elsewhere => return (taken, Stopped::Lost(Failed::deposed(&leader, term))),
            };
            let runs = match read {
                Read::Data(bytes) => match deframer.push_apart(bytes) {
                    Ok(runs) => runs,
                    Err(_) => return (taken, Stopped::Lost(Failed::cut())),
                },
                Read::Broken => return (taken, Stopped::Lost(Failed::cut())),
                Read::End(trailers) => return (taken, ended(trailers.as_ref().and_then(wire::status_of))),
            };
            for run in runs.into_iter().filter(|run| !run.is_empty()) {
                if taken == Taken::Nothing {
                    course.succeeded();
                    taken = Taken::Elements;
                }
                if let Err(status) = self.note(&run) {
                    return (taken, Stopped::Ended(status));
                }
                if to_client.send(Part::Data(run.into_bytes())).await.is_err() {
                    return (taken, Stopped::Ended(Status::cancelled("the client has gone")));
                }
            }
        }
    }

    /// Takes note of the revisions of what is handed on next.
    fn note(&mut self, run: &Run) -> Result<(), Status> {
        for message in run.messages() {
            let revision = peek_revision(run.payload(message)).map_err(|error| {
                tracing::error!(path = self.method.path, %error, "a host broke the protocol");
                Status::from(ApiError::internal("a host's element"))
            })?;
            if revision > 0 {
                self.revision = revision;
            }
        }
        Ok(())
    }
}

/// A host's end of a stream: well, with a status to look into, or cut off.
fn ended(status: Option<Status>) -> Stopped {
    match status {
        Some(status) if status.code() == Code::Ok => Stopped::Ended(status),
        status => Stopped::Lost(Failed::ended(status)),
    }
}

/// A request that is kept as long as its stream.
struct Request {
    /// In a buffer of its own.
    message: Bytes,
    budget: Arc<RetainedBudget>,
}

impl Request {
    fn keep(message: &[u8], budget: Arc<RetainedBudget>) -> Result<Self, Status> {
        if !budget.take_standing(message.len()) {
            return Err(ApiError::overloaded(OVERLOADED_FOR).into());
        }
        Ok(Request { message: Bytes::copy_from_slice(message), budget })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.budget.give_back_standing(self.message.len());
    }
}
