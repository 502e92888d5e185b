//! One lane to one node: the calling side of a stream, with its connection.
//!
//! ```text
//!  unused ──call──► connecting ──► up ──lost──► down ──call, after a pause──► connecting
//!                        └─────failed──────────►┘
//! ```
//! Calls wait during the first attempt only. While the lane is down they fail at once, so that nothing above waits for
//! a node that is gone; a lane that nobody wants is not reconnected.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::internal::v1::{MuxMessage, PeerClock, PeerFrame, peer_service_client::PeerServiceClient};
use conclave_raft::{Lane, PeerAddress, PeerError};
use conclave_types::{NodeUuid, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::clocks::PeerClocks;
use crate::frames::{answer_from_frame, clock_message, hello_message, pack};
use crate::handshake::{HandshakeError, LocalIdentity, is_handshake_refusal};
use crate::options::{MAX_MESSAGE_BYTES, PeerTransportOptions};

pub(crate) type Answer = Result<Bytes, PeerError>;

/// A call on its way.
pub(crate) struct Outgoing {
    pub frame: PeerFrame,
    pub answer: oneshot::Sender<Answer>,
}

/// What callers hold of a lane.
pub(crate) struct LinkHandle {
    queue: mpsc::Sender<Outgoing>,
    state: Arc<LinkState>,
}

#[derive(Default)]
struct LinkState {
    /// Why the lane is down; none while it is unused, connecting for the first time, or up.
    down: Mutex<Option<PeerError>>,
    /// Somebody called.
    wanted: Notify,
}

impl LinkHandle {
    /// Queues a call, or says at once why not.
    pub fn send(&self, outgoing: Outgoing) -> Result<(), PeerError> {
        self.state.wanted.notify_one();
        if let Some(reason) = self.state.down.lock().clone() {
            return Err(reason);
        }
        self.queue.try_send(outgoing).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => PeerError::Busy,
            mpsc::error::TrySendError::Closed(_) => PeerError::Unreachable("the transport has stopped".into()),
        })
    }
}

/// What all lanes of a transport share.
pub(crate) struct LinkContext {
    pub options: PeerTransportOptions,
    pub identity: Arc<LocalIdentity>,
    pub clocks: Arc<PeerClocks>,
    pub cancelled: CancellationToken,
}

/// The task behind a [`LinkHandle`].
pub(crate) struct Link {
    target: PeerAddress,
    lane: Lane,
    context: Arc<LinkContext>,
    queue: mpsc::Receiver<Outgoing>,
    state: Arc<LinkState>,
}

impl Link {
    pub fn new(target: PeerAddress, lane: Lane, context: Arc<LinkContext>) -> (LinkHandle, Link) {
        let (sender, queue) = mpsc::channel(context.options.queue_frames.clamp(64, 1_024));
        let state = Arc::new(LinkState::default());
        (LinkHandle { queue: sender, state: state.clone() }, Link { target, lane, context, queue, state })
    }

    /// Serves the lane until the transport stops, or until nobody has wanted it for long.
    pub async fn serve_until_unwanted(&mut self) {
        let cancelled = self.context.cancelled.clone();
        cancelled.run_until_cancelled(self.serve()).await;
    }

    /// Nothing waits that was queued while the lane decided to end.
    pub fn is_finished(&self) -> bool {
        self.context.cancelled.is_cancelled() || self.queue.is_empty()
    }

    async fn serve(&mut self) {
        let (shortest, longest) = self.context.options.backoff;
        let mut pause = shortest;
        while timeout(self.context.options.forget_after, self.state.wanted.notified()).await.is_ok() {
            let reason = match self.connect().await {
                Ok(line) => {
                    tracing::debug!(address = self.target.address, lane = ?self.lane, "peer lane is up");
                    *self.state.down.lock() = None;
                    pause = shortest;
                    self.converse(line).await
                }
                Err(reason) => reason,
            };
            tracing::debug!(address = self.target.address, lane = ?self.lane, %reason, "peer lane is down");
            self.fail_queued(reason);
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn fail_queued(&mut self, reason: PeerError) {
        // Down first: what is queued after this line was refused already.
        *self.state.down.lock() = Some(reason.clone());
        while let Ok(outgoing) = self.queue.try_recv() {
            // The caller may have stopped waiting.
            let _ = outgoing.answer.send(Err(reason.clone()));
        }
    }

    async fn connect(&self) -> Result<Line, PeerError> {
        let limit = self.context.options.connect_timeout;
        match timeout(limit, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(PeerError::Unreachable(format!("{} did not answer in {limit:?}", self.target.address))),
        }
    }

    async fn open(&self) -> Result<Line, PeerError> {
        let channel = self.dial().await?;
        // One message of room: while it waits for the line, the next one fills up.
        let (outbound, messages) = mpsc::channel(1);
        let hello = self.context.identity.hello(self.target.node, self.lane);
        let sent = outbound.send(hello_message(hello, self.context.clocks.own())).await;
        debug_assert!(sent.is_ok(), "the receiver is alive in this scope");
        let mut inbound = PeerServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
            .mux(ReceiverStream::new(messages))
            .await
            .map_err(|status| self.lost(status))?
            .into_inner();
        let first = inbound.message().await.map_err(|status| self.lost(status))?;
        let first = first.ok_or_else(|| PeerError::Unreachable("the stream ended before the hello".into()))?;
        let peer = first
            .hello
            .as_ref()
            .ok_or(HandshakeError::Malformed("hello"))
            .and_then(|hello| self.context.identity.confirm(hello, self.target.node))
            .map_err(|refusal| PeerError::Refused(refusal.to_string()))?;
        let line = Line { peer, outbound, inbound };
        line.hear(first.clock, &self.context.clocks);
        Ok(line)
    }

    async fn dial(&self) -> Result<Channel, PeerError> {
        let options = &self.context.options;
        let address = &self.target.address;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| PeerError::Unreachable(format!("{address} is not host:port")))?
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .keep_alive_while_idle(true);
        let connected = options.network.connect(&endpoint).await;
        connected.map_err(|error| PeerError::Unreachable(format!("{address}: {}", with_source(&error))))
    }

    /// Carries calls until the line is lost, and says why it was.
    async fn converse(&mut self, mut line: Line) -> PeerError {
        let context = self.context.clone();
        let pending = Pending::new(context.options.pending_calls);
        let reason = tokio::select! {
            reason = send_calls(&mut self.queue, &line.outbound, &pending, self.lane, &context) => reason,
            status = receive_answers(&mut line.inbound, line.peer, &pending, &context.clocks) => self.lost(status),
        };
        // Down before the waiting calls learn of it: a caller that tries again at once must not be queued.
        *self.state.down.lock() = Some(reason.clone());
        pending.fail(&reason);
        reason
    }

    fn lost(&self, status: Status) -> PeerError {
        let reason = format!("{}: {}", self.target.address, status.message());
        if is_handshake_refusal(&status) { PeerError::Refused(reason) } else { PeerError::Unreachable(reason) }
    }
}

/// An open stream whose both ends know each other.
struct Line {
    peer: NodeUuid,
    outbound: mpsc::Sender<MuxMessage>,
    inbound: Streaming<MuxMessage>,
}

impl Line {
    fn hear(&self, clock: Option<PeerClock>, clocks: &PeerClocks) {
        if let Some(clock) = clock {
            clocks.hear(self.peer, Timestamp(clock.wall_ms));
        }
    }
}

/// Sends what is queued, message by message; on the control lane also the clock.
async fn send_calls(
    queue: &mut mpsc::Receiver<Outgoing>,
    outbound: &mpsc::Sender<MuxMessage>,
    pending: &Pending,
    lane: Lane,
    context: &LinkContext,
) -> PeerError {
    let mut tick = interval(context.options.clock_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_id = 1;
    loop {
        // Room first, then packing: the message takes all that came while the line was busy.
        let Ok(room) = outbound.reserve().await else {
            return PeerError::Unreachable("the stream has ended".into());
        };
        tokio::select! {
            first = queue.recv() => {
                let Some(first) = first else {
                    return PeerError::Unreachable("the transport has stopped".into());
                };
                room.send(pack(first, queue, context.options.message_bytes, |outgoing| {
                    pending.admit(outgoing, &mut next_id)
                }));
            }
            _ = tick.tick() => {
                pending.forget_abandoned();
                if lane == Lane::Control {
                    room.send(clock_message(context.clocks.own()));
                }
            }
        }
    }
}

async fn receive_answers(
    inbound: &mut Streaming<MuxMessage>,
    peer: NodeUuid,
    pending: &Pending,
    clocks: &PeerClocks,
) -> Status {
    loop {
        let message = match inbound.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Status::unavailable("the stream has ended"),
            Err(status) => return status,
        };
        if let Some(clock) = message.clock {
            clocks.hear(peer, Timestamp(clock.wall_ms));
        }
        for frame in message.frames {
            pending.answer(frame);
        }
    }
}

/// Calls that were sent and wait for their answer.
struct Pending {
    limit: usize,
    calls: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Pending {
    fn new(limit: usize) -> Self {
        Pending { limit, calls: Mutex::default() }
    }

    /// Numbers a call and keeps its place. None if the caller has gone, or if too many wait.
    fn admit(&self, outgoing: Outgoing, next_id: &mut u64) -> Option<PeerFrame> {
        let Outgoing { mut frame, answer } = outgoing;
        if answer.is_closed() {
            return None;
        }
        let mut calls = self.calls.lock();
        if calls.len() >= self.limit {
            // The caller may have stopped waiting.
            let _ = answer.send(Err(PeerError::Busy));
            return None;
        }
        frame.request_id = *next_id;
        *next_id += 1;
        calls.insert(frame.request_id, answer);
        Some(frame)
    }

    fn answer(&self, frame: PeerFrame) {
        // An answer to nobody: its caller's deadline has passed.
        let waiting = self.calls.lock().remove(&frame.request_id);
        if let Some(answer) = waiting {
            let _ = answer.send(answer_from_frame(frame));
        }
    }

    fn forget_abandoned(&self) {
        self.calls.lock().retain(|_, answer| !answer.is_closed());
    }

    fn fail(&self, reason: &PeerError) {
        for (_, answer) in self.calls.lock().drain() {
            let _ = answer.send(Err(reason.clone()));
        }
    }
}

/// Waits for the answer of a queued call, at most until its deadline.
pub(crate) async fn wait(answer: oneshot::Receiver<Answer>, deadline: Duration) -> Answer {
    match tokio::time::timeout_at(Instant::now() + deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(PeerError::Unreachable("the line was lost".into())),
        Err(_) => Err(PeerError::Timeout(deadline)),
    }
}

/// tonic's own message says "transport error" only; the cause is what helps.
fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_source(source)),
        None => error.to_string(),
    }
}
