//! A client's live stream in a room.
//!
//! Frames are taken in order. Durable ones are checked, gathered while more are ready, and queued together; their
//! outcomes come back in order and are answered in order. Reads are answered in their place, receives when they are
//! done. Whatever cannot be proposed ends the stream, never just the frame: the gateway attaches to the new leader and
//! sends every unanswered frame again, and the kept outcomes make that safe.
//!
//! Events of the session's subscriptions go between the replies, as the client has room for them. One order holds between
//! the two: before the reply of revision r, every event up to r of a subscription that is live was sent, also of one that
//! was live at the host before. Changes are published before their outcomes are answered, so what is due is there when a
//! reply is.
//!
//! Bounds: frames not answered (then the stream is not read), durable frames not acknowledged (then they are refused),
//! subscriptions, frames of events that wait for the client (then feeds are not pulled).

mod admission;
mod attach;
mod life;
mod outbound;
mod replies;
mod sending;
mod subscriptions;
mod window;

use std::pin::Pin;
use std::sync::Arc;

use conclave_auth::Claims;
use conclave_proto::v1;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::wire::Malformed;
use conclave_room::{Command, Operation, Origin, SessionFrame};
use conclave_types::limits::{MAX_BATCH_BYTES, MAX_UNACKNOWLEDGED_FRAMES};
use conclave_types::{Revision, Sequence};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, Stream};
use prost::Message;
use tonic::Status;

use crate::faults::{self, Fault};
use crate::feed::{self, Subject};
use crate::leadership::Leading;
use crate::receive::{self, Receive};
use crate::shard::Shard;

use admission::Admitted;
use attach::Attachment;
pub use attach::attach;
use life::Life;
pub use outbound::{Outbound, outbound};
use replies::{Answer, Durable, Owing, frame, revision_of};
use subscriptions::{Opened, Reserved, Subscriptions};
use window::Window;

/// Frames of a session that may wait for answers; with more the stream is not read.
const MAX_UNANSWERED: usize = MAX_UNACKNOWLEDGED_FRAMES;
/// Receives of a session that may wait at once.
const MAX_WAITING_RECEIVES: usize = 256;
/// Durable frames queued together.
const GATHER_FRAMES: usize = 64;

pub type Inbound = Pin<Box<dyn Stream<Item = Result<v1::ClientFrame, Status>> + Send>>;

type ReceiveFuture = Pin<Box<dyn Future<Output = (Sequence, Result<v1::ReceiveItemsResponse, Fault>)> + Send>>;
type OpeningFuture = Pin<Box<dyn Future<Output = Opened> + Send>>;

/// A stream after its Welcome.
pub struct Session {
    shard: Arc<Shard>,
    leading: Arc<Leading>,
    claims: Arc<Claims>,
    at: Attachment,
    outbound: Outbound,
    life: Life,
    owing: Owing,
    receives: FuturesUnordered<ReceiveFuture>,
    subscriptions: Subscriptions,
    /// Subscriptions that a gateway takes up again: nobody waits for an answer.
    reopening: FuturesUnordered<OpeningFuture>,
    window: Window,
    /// Durable frames checked and not queued yet.
    gathered: Vec<Command>,
    gathered_frames: Vec<(Sequence, Durable)>,
    gathered_bytes: usize,
}

/// Why a stream ends.
enum End {
    /// The client went away.
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
        let life = Life::begin(&shard, &leading, &at);
        Session {
            shard,
            leading,
            claims,
            at,
            outbound: out,
            life,
            owing: Owing::default(),
            receives: FuturesUnordered::new(),
            subscriptions: Subscriptions::default(),
            reopening: FuturesUnordered::new(),
            window: Window::default(),
            gathered: Vec::new(),
            gathered_frames: Vec::new(),
            gathered_bytes: 0,
        }
    }

    /// Serves the stream to its end and says why it ended.
    pub async fn run(mut self, mut inbound: Inbound) {
        let end = self.serve(&mut inbound).await;
        self.leading.streams.leave(self.at.session, self.at.attachment, || {
            if end.is_ok() {
                // The client said that it leaves. One that is cut off may come back: its lease runs on.
                self.leading.presence.session_left(self.at.session);
                self.leading.awareness.session_left(self.at.session);
            }
        });
        self.outbound.end(match end {
            Err(End::Fault(fault)) => Some(fault.into()),
            Ok(()) | Err(End::Client) => None,
        });
    }

    async fn serve(&mut self, inbound: &mut Inbound) -> Result<(), End> {
        let mut open = true;
        let wake = self.subscriptions.wake.clone();
        loop {
            if !open && self.owing.is_empty() && self.receives.is_empty() {
                return Ok(());
            }
            // One element, then everybody else has a turn.
            let sent_events = self.send_next_event().await?;
            let readable = open && self.owing.len() < MAX_UNANSWERED && self.receives.len() < MAX_WAITING_RECEIVES;
            tokio::select! {
                biased;
                fault = self.life.over() => return Err(fault.into()),
                // Whether it is read or not: nothing may be leased for a client that is gone.
                () = self.outbound.closed() => return Err(End::Client),
                answers = self.owing.next() => match answers {
                    Ok(answers) => self.answer(answers).await?,
                    Err(unproposed) => return Err(self.shard.unproposed(unproposed).into()),
                },
                Some((sequence, result)) = self.receives.next() => self.answer_receive(sequence, result).await?,
                Some(opened) = self.reopening.next() => self.reopened(opened).await?,
                next = inbound.next(), if readable => match next {
                    Some(Ok(first)) => self.take_ready(first, inbound).await?,
                    Some(Err(status)) => return Err(End::Fault(faults::inbound(&status))),
                    None => open = false,
                },
                () = wake.notified(), if !self.subscriptions.is_pending() => self.subscriptions.woken(),
                // Given back at once: the next round takes it.
                _ = self.outbound.place(), if self.subscriptions.is_pending() && !sent_events => {}
                () = tokio::task::consume_budget(), if sent_events => {}
            }
        }
    }

    /// Takes a frame and those that are ready behind it, so that they share a log entry.
    async fn take_ready(&mut self, first: v1::ClientFrame, inbound: &mut Inbound) -> Result<(), End> {
        self.leading.presence.renew(self.at.session);
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
            return self.take_unnumbered(frame.subscription, body).await;
        }
        let sequence = Sequence(frame.sequence);
        self.window.number(sequence)?;
        match self.admit(sequence, body).await {
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
                self.receives.push(self.run_receive(sequence, request));
            }
            Ok(Admitted::Subscribe(subject, after)) => match self.subscriptions.reserve(frame.subscription) {
                Ok(reserved) => {
                    self.queue_gathered().await?;
                    let opening = self.open_feed(reserved, subject, after);
                    self.owing.opening(Box::pin(async move { (sequence, opening.await) }));
                }
                Err(fault) => self.known(sequence, Err(fault)).await?,
            },
            Ok(Admitted::Done(body)) => self.known(sequence, Ok(body)).await?,
            Err(fault) => self.known(sequence, Err(fault)).await?,
        }
        Ok(())
    }

    async fn take_unnumbered(&mut self, subscription: u64, body: Asked) -> Result<(), End> {
        match body {
            Asked::Ping(_) => self.send(frame(Sequence(0), 0, Body::Pong(v1::Pong {}))).await,
            Asked::Hello(_) => Err(Fault::hello_expected().into()),
            Asked::Credit(credit) => {
                self.subscriptions.credit(subscription, credit.events);
                Ok(())
            }
            Asked::Unsubscribe(_) => {
                self.subscriptions.end(subscription);
                Ok(())
            }
            Asked::Subscribe(request) => {
                let after = Revision(request.after_revision);
                let subject = self.subject(request);
                match subject.and_then(|subject| Ok((self.subscriptions.resume(subscription, after.0)?, subject))) {
                    Ok((reserved, subject)) => {
                        self.reopening.push(self.open_feed(reserved, subject, after));
                        Ok(())
                    }
                    Err(fault) => self.send_end_of(subscription, fault).await,
                }
            }
            Asked::AttachParticipant(request) => match self.attach(request) {
                Ok(_) => Ok(()),
                Err(fault) => self.send_end_of(0, fault).await,
            },
            _ => Err(Fault::field_invalid("sequence", "must be set on a frame that wants a reply").into()),
        }
    }

    fn open_feed(&self, reserved: Reserved, subject: Subject, after: Revision) -> OpeningFuture {
        let (wake, turns) = (self.subscriptions.wake.clone(), self.subscriptions.turns.clone());
        let opening = feed::open_in_turn(self.feed_place(), subject, after, wake, turns);
        Box::pin(async move { Opened { reserved, feed: opening.await } })
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
        let (at, mut replies) = (self.at.in_room(), Vec::with_capacity(answers.len()));
        for (sequence, answer) in answers {
            let reply = match answer {
                Ok(Answer::Body(body)) => Ok(body),
                Ok(Answer::Outcome(kind, outcome)) => replies::reply(&self.shard, &at, kind, outcome)?,
                Ok(Answer::Opened(opened)) => {
                    self.answer_opened(sequence, opened).await?;
                    continue;
                }
                Err(fault) => Err(fault),
            };
            replies.push((sequence, reply));
        }
        let revision = replies.iter().filter_map(|(_, reply)| reply.as_ref().ok()).map(revision_of).max();
        self.send_events_upto(revision.unwrap_or_default()).await?;
        for (sequence, reply) in replies {
            self.send_reply(sequence, reply).await?;
        }
        Ok(())
    }

    async fn answer_receive(
        &mut self,
        sequence: Sequence,
        result: Result<v1::ReceiveItemsResponse, Fault>,
    ) -> Result<(), End> {
        if let Ok(response) = &result {
            self.send_events_upto(response.revision).await?;
        }
        self.send_reply(sequence, result.map(Body::ReceiveItems)).await
    }

    /// The answer comes before the first event.
    async fn answer_opened(&mut self, sequence: Sequence, opened: Opened) -> Result<(), End> {
        let Opened { reserved, feed } = opened;
        match feed {
            Ok(feed) => {
                let subscribed = frame(sequence, 0, Body::Subscribed(v1::Subscribed {}));
                self.send(v1::ServerFrame { subscription: reserved.number, ..subscribed }).await?;
                self.subscriptions.begin(reserved, feed);
                Ok(())
            }
            Err(fault) => {
                self.subscriptions.give_up(reserved);
                self.send_reply(sequence, Err(fault)).await
            }
        }
    }

    async fn reopened(&mut self, Opened { reserved, feed }: Opened) -> Result<(), End> {
        match feed {
            Ok(feed) => self.subscriptions.begin(reserved, feed),
            Err(fault) => {
                if self.subscriptions.give_up(reserved) {
                    self.send_end_of(reserved.number, fault).await?;
                }
            }
        }
        Ok(())
    }

    fn run_receive(&self, sequence: Sequence, request: Receive) -> ReceiveFuture {
        let (shard, leading) = (self.shard.clone(), self.leading.clone());
        let has_followed = !self.subscriptions.is_empty();
        Box::pin(async move {
            let mut result = receive::receive(&shard, &leading, request).await;
            // An empty answer is a read: see `behind_events`.
            if has_followed
                && result.as_ref().is_ok_and(|response| response.deliveries.is_empty())
                && let Err(fault) = shard.read_barrier().await
            {
                result = Err(fault);
            }
            (sequence, result)
        })
    }
}
