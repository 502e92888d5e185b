//! Calls with one request: collected, routed by field 1, forwarded as bytes, answered as bytes.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::envelope::peek_field_1;
use conclave_proto::status::ApiError;
use conclave_proto::v1::ErrorReason;
use conclave_types::limits::MAX_UNARY_BYTES;
use conclave_types::{RoomName, ShardId};
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::retry::budget::Budget;

use crate::auth::Caller;
use crate::core::Core;
use crate::course::{Course, Failed, Verdict};
use crate::frames::{Deframer, FrameError, PREFIX_BYTES, Run};
use crate::retry::{Repeat, precedes_recognition};
use crate::routing::ShardHost;
use crate::wire::{self, Onward, Read};

/// How long a call without a deadline of its own is tried again; longer than any election takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of one answer: a receive of 128 items of 256 KiB.
const MAX_ANSWER_BYTES: usize = 40 << 20;

/// One call on its way.
pub struct Call<'a> {
    pub core: &'a Core,
    pub caller: &'a Caller,
    pub path: &'static str,
    pub onward: Onward,
    /// When the caller stops waiting, on the monotonic clock.
    pub deadline: Option<Duration>,
}

/// A host's whole answer: what it said, byte for byte.
#[derive(Debug)]
pub struct Answer {
    head: HeaderMap,
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn into_response(self) -> http::Response<Body> {
        let body = Full::new(self.data).with_trailers(async move { self.trailers.map(Ok) });
        let mut response = http::Response::new(Body::new(body));
        *response.headers_mut() = self.head;
        response
    }

    /// The message inside.
    pub fn message(&self) -> &[u8] {
        self.data.get(PREFIX_BYTES..).unwrap_or_default()
    }
}

impl<'a> Call<'a> {
    pub fn new(core: &'a Core, caller: &'a Caller, path: &'static str, headers: &HeaderMap) -> Self {
        let deadline = wire::timeout(headers).map(|timeout| core.clock.monotonic() + timeout);
        Call { core, caller, path, onward: caller.onward(headers), deadline }
    }

    /// Forwards to the room's shard. `request` is one framed message; a write has a field for its request id.
    pub async fn to_room(&self, request: Run, write_id_field: Option<u32>) -> Result<Answer, Status> {
        let message = message_of(&request)?;
        let resource = peek_field_1(message).map_err(ApiError::from)?.unwrap_or_default();
        let room = room_of(resource)?;
        let repeat = match write_id_field {
            Some(field) if !has_request_id(message, field) => Repeat::Blind,
            _ => Repeat::Recognised,
        };
        let shard = shard_of(self.core, self.caller, &room).await?;
        self.course_to(shard, request.into_bytes(), repeat, write_id_field.is_some()).await
    }

    /// Forwards a read to a shard's leader, trying again as the retry table says.
    pub async fn to_shard(&self, shard: ShardId, request: Bytes) -> Result<Answer, Status> {
        self.course_to(shard, request, Repeat::Recognised, false).await
    }

    async fn course_to(
        &self,
        shard: ShardId,
        request: Bytes,
        repeat: Repeat,
        is_write: bool,
    ) -> Result<Answer, Status> {
        self.core.retries.deposit();
        let patience = self.deadline.map_or(PATIENCE, |deadline| deadline.saturating_sub(self.core.clock.monotonic()));
        let mut course = Course::new(self.core, shard, patience);
        // An attempt may have had its effect, and nobody has said so.
        let mut in_doubt = false;
        loop {
            let host = course.target().map_err(|_| Status::from(ApiError::no_leader()))?;
            let failed = match self.within_deadline(self.attempt_while_led(shard, &host, request.clone(), repeat)).await
            {
                None => return Err(late(repeat)),
                Some(Ok(answer)) => {
                    course.succeeded();
                    return Ok(answer);
                }
                Some(Err(failed)) => failed,
            };
            in_doubt |= is_write && failed.failure.leaves_doubt();
            if let ControlFlow::Break(verdict) = course.failed(failed, repeat).await {
                return Err(match verdict {
                    Verdict::Pass(status) if in_doubt && precedes_recognition(&status) => {
                        ApiError::outcome_unknown().into()
                    }
                    Verdict::Pass(status) => status,
                    Verdict::NobodyAnswered if !in_doubt => ApiError::no_leader().into(),
                    Verdict::Unknown | Verdict::NobodyAnswered => ApiError::outcome_unknown().into(),
                });
            }
        }
    }

    /// An attempt that is given up once another host leads, if the call may be made again: the one that was asked may
    /// hang.
    async fn attempt_while_led(
        &self,
        shard: ShardId,
        host: &ShardHost,
        request: Bytes,
        repeat: Repeat,
    ) -> Result<Answer, Failed> {
        tokio::select! {
            biased;
            answer = self.attempt(host, request) => answer,
            (leader, term) = self.core.router.led_elsewhere(shard, host.node), if repeat == Repeat::Recognised => {
                Err(Failed::deposed(&leader, term))
            }
        }
    }

    async fn attempt(&self, host: &ShardHost, request: Bytes) -> Result<Answer, Failed> {
        let timeout = self.deadline.map(|deadline| deadline.saturating_sub(self.core.clock.monotonic()));
        let request = self.onward.request(self.path, timeout, wire::single(request));
        let (response, _guard) = self.core.pool.call(&host.address, request).await?;
        let (head, mut body) = response.into_parts();
        if let Some(status) = wire::status_of(&head.headers).filter(|status| status.code() != Code::Ok) {
            return Err(Failed::ended(Some(status)));
        }
        let mut parts = Vec::new();
        let mut size = 0;
        let trailers = loop {
            match wire::read(&mut body).await {
                Read::Data(bytes) => {
                    size += bytes.len();
                    if size > MAX_ANSWER_BYTES {
                        let over = ApiError::request_too_large("answer", MAX_ANSWER_BYTES, size);
                        return Err(Failed::ended(Some(over.into())));
                    }
                    parts.push(bytes);
                }
                Read::End(trailers) => break trailers,
                Read::Broken => return Err(Failed::cut()),
            }
        };
        match trailers.as_ref().or(Some(&head.headers)).and_then(wire::status_of) {
            Some(status) if status.code() == Code::Ok => {
                Ok(Answer { head: head.headers, data: joined(parts), trailers })
            }
            Some(status) => Err(Failed::ended(Some(status))),
            // A body that ends without a status was cut by whatever carried it.
            None => Err(Failed::cut()),
        }
    }

    async fn within_deadline<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            None => Some(work.await),
            Some(deadline) => {
                let left = deadline.saturating_sub(self.core.clock.monotonic());
                tokio::time::timeout(left, work).await.ok()
            }
        }
    }
}

/// Reads a request's body: one message of at most 4 MiB.
pub async fn collect(mut body: Body) -> Result<Run, Status> {
    let mut deframer = Deframer::new(MAX_UNARY_BYTES);
    let mut request = Run::default();
    loop {
        match wire::read(&mut body).await {
            Read::Data(bytes) => {
                let run = deframer.push(bytes).map_err(|error| frame_refused("request", error))?;
                if run.messages().count() + request.messages().count() > 1 {
                    return Err(malformed("a unary call has one message"));
                }
                if !run.is_empty() {
                    request = run;
                }
            }
            Read::End(_) => break,
            Read::Broken => return Err(Status::cancelled("the call was cancelled")),
        }
    }
    deframer.finish().map_err(|error| frame_refused("request", error))?;
    if request.is_empty() { Err(malformed("a unary call has one message")) } else { Ok(request) }
}

/// The room that a resource name lies in.
pub fn room_of(resource: &str) -> Result<RoomName, Status> {
    conclave_proto::resource::room_of(resource).map_err(|error| ApiError::from(error).into())
}

/// The shard of one of the caller's rooms; waits a little for a gateway that has just started to get its shard map.
pub async fn shard_of(core: &Core, caller: &Caller, room: &RoomName) -> Result<ShardId, Status> {
    if core.router.map().is_none() {
        let _ = tokio::time::timeout(PATIENCE, core.router.newer_map(None)).await;
    }
    core.router.shard_of(caller.project(), room).ok_or_else(|| ApiError::no_leader().into())
}

/// The status for bytes that are not the messages they should be.
pub fn frame_refused(what: &str, error: FrameError) -> Status {
    match error {
        FrameError::TooLarge { limit, actual } => ApiError::request_too_large(what, limit, actual).into(),
        FrameError::Compressed => ApiError::unimplemented("message compression").into(),
        FrameError::Truncated => malformed("the body ended inside a message"),
    }
}

pub fn malformed(why: &'static str) -> Status {
    ApiError::new(ErrorReason::Malformed, why).into()
}

/// The caller's deadline passed while a host had the call.
fn late(repeat: Repeat) -> Status {
    match repeat {
        Repeat::Recognised => Status::deadline_exceeded("the deadline passed before an answer came"),
        Repeat::Blind => ApiError::outcome_unknown().into(),
    }
}

fn message_of(request: &Run) -> Result<&[u8], Status> {
    let message = request.messages().next().ok_or_else(|| malformed("a unary call has one message"))?;
    Ok(request.payload(message))
}

/// Whether this field of the request, a string, is set. Bytes that are no message have none; the host refuses them.
fn has_request_id(mut message: &[u8], field: u32) -> bool {
    let mut set = false;
    while !message.is_empty() {
        let Ok((number, wire_type)) = decode_key(&mut message) else { return false };
        let before = message;
        if skip_field(wire_type, number, &mut message, DecodeContext::default()).is_err() {
            return false;
        }
        if number == field {
            // One byte is the length of an empty string.
            set = wire_type == WireType::LengthDelimited && before.len() - message.len() > 1;
        }
    }
    set
}

fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 { parts.swap_remove(0) } else { parts.concat().into() }
}

#[cfg(test)]
mod tests {
    use conclave_proto::v1::SendItemsRequest;
    use prost::Message;

    use super::*;

    #[test]
    fn a_request_id_is_seen_only_where_it_is_and_when_it_is_set() {
        let request = |request_id: &str| {
            let parent = "rooms/a/queues/b".to_owned();
            SendItemsRequest { parent, request_id: request_id.to_owned(), ..Default::default() }.encode_to_vec()
        };
        assert!(has_request_id(&request("7"), 4));
        assert!(!has_request_id(&request(""), 4));
        assert!(!has_request_id(&request("7"), 3));
        assert!(!has_request_id(&[0x22, 0], 4), "set to the empty string");
        assert!(!has_request_id(&[0x22, 1, b'7', 0x22, 0], 4), "the last one counts");
        assert!(!has_request_id(&[0x22, 9], 4), "cut off");
    }
}
