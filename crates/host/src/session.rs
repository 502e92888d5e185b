//! A client's live stream in a room.
//!
//! Frames are taken in order. Durable ones are checked, gathered while more are ready, and queued together; their
//! outcomes come back in order and are answered in order. Reads are answered in their place, receives when they are
//! done. Whatever cannot be proposed ends the stream, never just the frame: the gateway attaches to the new leader and
//! sends every unanswered frame again, and the kept outcomes make that safe.
//!
//! Bounds: frames not answered (then the stream is not read), durable frames not acknowledged (then they are refused).

mod attach;
mod outbound;
mod replies;
mod window;

use std::sync::Arc;

use conclave_auth::Claims;
use conclave_proto::v1;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::wire::Malformed;
use conclave_room::{Command, Operation, Origin, Outcome, Receiver, Refusal, SessionFrame};
use conclave_types::Sequence;
use conclave_types::limits::{MAX_BATCH_BYTES, MAX_UNACKNOWLEDGED_FRAMES};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, Stream};
use prost::Message;
use std::pin::Pin;
use tokio::sync::watch;
use tonic::Status;

use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::reads;
use crate::receive::{self, Receive};
use crate::shard::Shard;
use crate::streams::EndReason;
use crate::{admit, convert, scope};

use attach::Attachment;
pub use attach::attach;
use outbound::Unsent;
pub use outbound::{Outbound, outbound};
use replies::{Answer, Durable, Owing, frame};
use window::Window;

/// Frames of a session that may wait for answers; with more the stream is not read.
const MAX_UNANSWERED: usize = MAX_UNACKNOWLEDGED_FRAMES;
/// Receives of a session that may wait at once.
const MAX_WAITING_RECEIVES: usize = 256;
/// Durable frames queued together.
const GATHER_FRAMES: usize = 64;

pub type Inbound = Pin<Box<dyn Stream<Item = Result<v1::ClientFrame, Status>> + Send>>;

type ReceiveFuture = Pin<Box<dyn Future<Output = (Sequence, Result<v1::ReceiveItemsResponse, Fault>)> + Send>>;

/// A stream after its Welcome.
pub struct Session {
    shard: Arc<Shard>,
    leading: Arc<Leading>,
    claims: Arc<Claims>,
    at: Attachment,
    outbound: Outbound,
    ended: watch::Receiver<Option<EndReason>>,
    owing: Owing,
    receives: FuturesUnordered<ReceiveFuture>,
    window: Window,
    /// Durable frames checked and not queued yet.
    gathered: Vec<Command>,
    gathered_frames: Vec<(Sequence, Durable)>,
    gathered_bytes: usize,
}

/// Why a stream ends.
enum End {
    /// The client closed its side or went away.
    Client,
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        End::Fault(fault)
    }
}

impl Session {
    pub fn new(shard: Arc<Shard>, leading: Arc<Leading>, claims: Arc<Claims>, at: Attachment, out: Outbound) -> Self {
        let ended = leading.streams.join(at.session, at.room, at.attachment);
        Session {
            shard,
            leading,
            claims,
            at,
            outbound: out,
            ended,
            owing: Owing::default(),
            receives: FuturesUnordered::new(),
            window: Window::default(),
            gathered: Vec::new(),
            gathered_frames: Vec::new(),
            gathered_bytes: 0,
        }
    }

    /// Serves the stream to its end and says why it ended.
    pub async fn run(mut self, mut inbound: Inbound) {
        let end = self.serve(&mut inbound).await;
        self.leading.streams.leave(self.at.session, self.at.attachment);
        self.outbound.end(match end {
            Err(End::Fault(fault)) => Some(fault.into()),
            Ok(()) | Err(End::Client) => None,
        });
    }

    async fn serve(&mut self, inbound: &mut Inbound) -> Result<(), End> {
        let mut open = true;
        loop {
            if !open && self.owing.is_empty() && self.receives.is_empty() {
                return Ok(());
            }
            let readable = open && self.owing.len() < MAX_UNANSWERED && self.receives.len() < MAX_WAITING_RECEIVES;
            tokio::select! {
                biased;
                () = self.leading.ended.cancelled() => return Err(self.shard.not_leader().into()),
                _ = self.ended.changed() => return Err(self.end_reason().into()),
                // Whether it is read or not: nothing may be leased for a client that is gone.
                () = self.outbound.closed() => return Err(End::Client),
                answers = self.owing.next() => match answers {
                    Ok(answers) => self.answer(answers).await?,
                    Err(unproposed) => return Err(self.shard.unproposed(unproposed).into()),
                },
                Some((sequence, result)) = self.receives.next() => self.answer_receive(sequence, result).await?,
                next = inbound.next(), if readable => match next {
                    Some(Ok(first)) => self.take_ready(first, inbound).await?,
                    Some(Err(status)) => return Err(End::Fault(faults::inbound(&status))),
                    None => open = false,
                },
            }
        }
    }

    fn end_reason(&self) -> Fault {
        match *self.ended.borrow() {
            Some(EndReason::RoomDeleted) => faults::room_not_found(&self.at.room_name),
            Some(EndReason::Superseded) | None => Refusal::Superseded.into(),
        }
    }

    /// Takes a frame and those that are ready behind it, so that they share a log entry.
    async fn take_ready(&mut self, first: v1::ClientFrame, inbound: &mut Inbound) -> Result<(), End> {
        self.take(first).await?;
        while self.gathered.len() < GATHER_FRAMES && self.gathered_bytes < MAX_BATCH_BYTES {
            match inbound.next().now_or_never() {
                Some(Some(Ok(next))) => self.take(next).await?,
                Some(Some(Err(status))) => return Err(End::Fault(faults::inbound(&status))),
                Some(None) | None => break,
            }
        }
        self.queue_gathered().await
    }

    async fn take(&mut self, frame: v1::ClientFrame) -> Result<(), End> {
        self.window.acknowledge(Sequence(frame.acknowledged));
        let bytes = frame.encoded_len();
        let Some(body) = frame.body else {
            return match frame.sequence {
                0 => Ok(()),
                _ => {
                    Err(Fault::malformed(&Malformed("the frame has a sequence and no body that this version knows"))
                        .into())
                }
            };
        };
        if frame.sequence == 0 {
            return self.take_unnumbered(body).await;
        }
        let sequence = Sequence(frame.sequence);
        self.window.number(sequence)?;
        match self.admit(sequence, body) {
            Ok(Admitted::Durable(kind, operation)) => match self.window.open(sequence, bytes) {
                Ok(()) => self.gather(sequence, kind, operation, bytes),
                Err(fault) => self.known(sequence, Err(fault)).await?,
            },
            Ok(Admitted::Read(read)) => {
                self.queue_gathered().await?;
                self.owing.read(sequence, read);
            }
            Ok(Admitted::Receive(request)) => {
                // Queue what came before it: a receive sees the session's own sends.
                self.queue_gathered().await?;
                self.receives.push(run_receive(self.shard.clone(), self.leading.clone(), sequence, request));
            }
            Err(fault) => self.known(sequence, Err(fault)).await?,
        }
        Ok(())
    }

    async fn take_unnumbered(&mut self, body: Asked) -> Result<(), End> {
        match body {
            Asked::Ping(_) => self.send(frame(Sequence(0), 0, Body::Pong(v1::Pong {}))).await,
            Asked::Hello(_) => Err(Fault::hello_expected().into()),
            Asked::Credit(_) | Asked::Unsubscribe(_) => Ok(()),
            _ => Err(Fault::field_invalid("sequence", "must be set on a frame that wants a reply").into()),
        }
    }

    /// Checks a frame's request. A fault is the frame's answer; the stream goes on.
    fn admit(&self, sequence: Sequence, body: Asked) -> Result<Admitted, Fault> {
        let claims = &*self.claims;
        let (room, participant) = (self.at.room, claims.participant.clone());
        Ok(match body {
            Asked::UpdateRoom(request) => {
                scope::rooms_write(claims)?;
                self.at.same_room(&request.name)?;
                Admitted::Durable(Durable::UpdateRoom, admit::update_room(room, request)?)
            }
            Asked::SendItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_send(claims, &queue)?;
                Admitted::Durable(Durable::SendItems, admit::send_items(room, queue, participant, request)?)
            }
            Asked::AckDeliveries(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                Admitted::Durable(Durable::AckDeliveries, admit::ack_deliveries(room, queue, request)?)
            }
            Asked::ReceiveItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                let receiver = Receiver::Session { session: self.at.session, sequence };
                let again = sequence <= self.at.sent;
                Admitted::Receive(admit::receive_items(room, queue, participant, receiver, again, request)?)
            }
            Asked::GetRoom(request) => {
                scope::rooms_read(claims)?;
                self.at.same_room(&request.name)?;
                Admitted::Read(Box::pin(reads::get_room(self.shard.clone(), self.at.in_room(), request)))
            }
            Asked::GetQueue(request) => {
                let queue = self.at.queue(&request.name)?;
                scope::queue_list(claims)?;
                Admitted::Read(Box::pin(reads::get_queue(self.shard.clone(), self.at.in_room(), queue, request)))
            }
            Asked::ListQueues(request) => {
                self.at.same_room(&request.parent)?;
                scope::queue_list(claims)?;
                Admitted::Read(Box::pin(reads::list_queues(self.shard.clone(), self.at.in_room(), request)))
            }
            Asked::Subscribe(_) => return Err(Fault::unimplemented("subscriptions")),
            Asked::Hello(_) | Asked::Ping(_) | Asked::Unsubscribe(_) | Asked::Credit(_) => {
                return Err(Fault::field_invalid("sequence", "must be 0 on this frame"));
            }
        })
    }

    fn gather(&mut self, sequence: Sequence, kind: Durable, operation: Operation, bytes: usize) {
        let origin = Origin::Session(SessionFrame {
            room: self.at.room,
            session: self.at.session,
            attachment: self.at.attachment,
            owner: self.claims.participant.clone(),
            sequence,
            acknowledged: self.window.acknowledged(),
        });
        self.gathered.push(Command { origin, operation });
        self.gathered_frames.push((sequence, kind));
        self.gathered_bytes += bytes;
    }

    /// An answer that is known already, in its place behind what was gathered.
    async fn known(&mut self, sequence: Sequence, result: Result<Body, Fault>) -> Result<(), End> {
        self.queue_gathered().await?;
        self.owing.known(sequence, result);
        Ok(())
    }

    async fn queue_gathered(&mut self) -> Result<(), End> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.gathered_bytes = 0;
        let commands = std::mem::take(&mut self.gathered);
        let frames = std::mem::take(&mut self.gathered_frames);
        match self.leading.proposer.queue(commands).await {
            Ok(outcomes) => {
                self.owing.proposed(outcomes, frames);
                Ok(())
            }
            Err(unproposed) => Err(self.shard.unproposed(unproposed).into()),
        }
    }

    async fn answer(&mut self, answers: replies::Answers) -> Result<(), End> {
        for (sequence, answer) in answers {
            let reply = match answer {
                Ok(Answer::Body(body)) => Ok(body),
                Ok(Answer::Outcome(kind, outcome)) => self.reply(kind, outcome)?,
                Err(fault) => Err(fault),
            };
            self.send_reply(sequence, reply).await?;
        }
        Ok(())
    }

    /// Shapes an outcome into the reply its request has. A refusal of the session itself ends the stream.
    fn reply(&self, kind: Durable, outcome: Outcome) -> Result<Result<Body, Fault>, End> {
        Ok(Ok(match (kind, outcome) {
            (_, Outcome::Refused(refusal)) => match refusal {
                Refusal::Superseded | Refusal::SessionForeign | Refusal::SessionExpired => {
                    return Err(Fault::from(refusal).into());
                }
                refusal => return Ok(Err(refusal.into())),
            },
            (Durable::UpdateRoom, Outcome::RoomUpdated { revision }) => {
                let room = self.shard.room(self.at.room)?.as_ref().map(reads::room);
                Body::UpdateRoom(v1::UpdateRoomResponse { room, revision: revision.0 })
            }
            (Durable::SendItems, Outcome::Sent { first_item, revision }) => {
                Body::SendItems(v1::SendItemsResponse { first_item, revision: revision.0 })
            }
            (Durable::AckDeliveries, Outcome::Acked { results, revision }) => {
                let results = convert::ack_results(results);
                Body::AckDeliveries(v1::AckDeliveriesResponse { results, revision: revision.0 })
            }
            (_, other) => return Err(faults::other_outcome("session", &other).into()),
        }))
    }

    async fn answer_receive(
        &mut self,
        sequence: Sequence,
        result: Result<v1::ReceiveItemsResponse, Fault>,
    ) -> Result<(), End> {
        match result {
            Ok(response) => self.send_reply(sequence, Ok(Body::ReceiveItems(response))).await,
            Err(fault) if faults::ends_stream(&fault) => Err(fault.into()),
            Err(fault) => self.send_reply(sequence, Err(fault)).await,
        }
    }

    async fn send_reply(&mut self, sequence: Sequence, reply: Result<Body, Fault>) -> Result<(), End> {
        match reply {
            Ok(body) => {
                let revision = revision_of(&body);
                self.send(frame(sequence, revision, body)).await
            }
            Err(fault) if faults::ends_stream(&fault) => Err(fault.into()),
            Err(fault) => self.send(frame(sequence, 0, Body::Status(fault.into()))).await,
        }
    }

    /// Sends a frame. A client that does not read holds its session up, but not the end of the stream.
    async fn send(&mut self, frame: v1::ServerFrame) -> Result<(), End> {
        let frame = match self.outbound.try_send(frame) {
            Ok(()) => return Ok(()),
            Err(Unsent::Gone) => return Err(End::Client),
            Err(Unsent::Full(frame)) => frame,
        };
        tokio::select! {
            biased;
            () = self.leading.ended.cancelled() => Err(self.shard.not_leader().into()),
            _ = self.ended.changed() => Err(self.end_reason().into()),
            sent = self.outbound.send(*frame) => sent.map_err(|_| End::Client),
        }
    }
}

enum Admitted {
    Durable(Durable, Operation),
    Read(replies::ReadFuture),
    Receive(Receive),
}

fn run_receive(shard: Arc<Shard>, leading: Arc<Leading>, sequence: Sequence, request: Receive) -> ReceiveFuture {
    Box::pin(async move { (sequence, receive::receive(&shard, &leading, request).await) })
}

fn revision_of(body: &Body) -> u64 {
    match body {
        Body::UpdateRoom(response) => response.revision,
        Body::SendItems(response) => response.revision,
        Body::AckDeliveries(response) => response.revision,
        Body::GetRoom(response) => response.revision,
        Body::ReceiveItems(response) => response.revision,
        Body::GetQueue(response) => response.revision,
        Body::ListQueues(response) => response.revision,
        Body::Welcome(_)
        | Body::Status(_)
        | Body::EventBatch(_)
        | Body::Gap(_)
        | Body::Live(_)
        | Body::GoAway(_)
        | Body::Pong(_) => 0,
    }
}
