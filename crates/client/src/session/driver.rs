//! The life of a session: attach, read replies, lose the stream, attach again.
//!
//! Two parties work on [`State`]: the stream's encoder takes frames out ([`FrameStream`], polled by the connection), the
//! driver puts replies in. A lock is held for a few instructions and never across an await.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::v1::client_frame::Body as Request;
use conclave_proto::v1::server_frame::Body as Response;
use conclave_proto::v1::{ClientFrame, Hello, Limits, Ping, ServerFrame, Welcome};
use futures::Stream;
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::codec::FrameCodec;
use super::window::{FrameClass, Outgoing, Window, WindowLimits};
use super::{ReplySender, SessionOptions, refuse};
use crate::client::MAX_ANSWER_BYTES;
use crate::{Client, ClientError};

const CONNECT: PathAndQuery = PathAndQuery::from_static("/conclave.v1.SessionService/Connect");
/// Trailer with the newest resume token when a gateway gives a stream up.
const RESUME_TOKEN_TRAILER: &str = "conclave-resume-token-bin";
/// How often a quiet stream is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Silence after which a stream counts as lost.
const MAX_SILENCE: Duration = Duration::from_secs(45);
/// Waits between attempts to take a session up again: from, to. Each is doubled and spread by half.
const RECONNECT_WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// One attempt; the gateway itself looks for a leader for 10 s.
const ATTEMPT: Duration = Duration::from_secs(12);

/// What the session's owner and its tasks share.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// Frames may fit that did not before.
    room: Notify,
}

#[derive(Debug)]
struct State {
    window: Window<ReplySender>,
    limits: WindowLimits,
    /// Frames that want no reply: pings.
    asides: VecDeque<Outgoing>,
    /// The stream that may take frames; older ones find themselves outdated. None while there is none.
    stream: Option<u64>,
    streams: u64,
    resumes: u64,
    encoder: Option<Waker>,
    resume_token: Bytes,
    room_uid: String,
    /// The owner wants no more than the replies that are due.
    closing: bool,
    /// Why the session is over.
    over: Option<ClientError>,
}

impl Shared {
    pub fn new(limits: WindowLimits) -> Self {
        let state = State {
            window: Window::new(limits),
            limits,
            asides: VecDeque::new(),
            stream: None,
            streams: 0,
            resumes: 0,
            encoder: None,
            resume_token: Bytes::new(),
            room_uid: String::new(),
            closing: false,
            over: None,
        };
        Shared { state: Mutex::new(state), room: Notify::new() }
    }

    pub fn enqueue(&self, class: FrameClass, body: Bytes, reply: ReplySender) {
        let mut state = self.state.lock();
        if let Some(over) = &state.over {
            let error = over.clone();
            drop(state);
            return refuse(reply, error);
        }
        if let Err((full, reply)) = state.window.enqueue(class, body, reply) {
            drop(state);
            return refuse(reply, full.into());
        }
        wake(state);
    }

    pub async fn ready(&self) {
        loop {
            let notified = self.room.notified();
            {
                let state = self.state.lock();
                if state.over.is_some() || state.window.has_room() {
                    return;
                }
            }
            notified.await;
        }
    }

    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        wake(state);
    }

    pub fn room_uid(&self) -> String {
        self.state.lock().room_uid.clone()
    }

    pub fn resumes(&self) -> u64 {
        self.state.lock().resumes
    }

    /// Begins a stream: the frames without a reply are in line again, held back until it is welcomed.
    fn begin(self: &Arc<Self>, room: &str) -> FrameStream {
        let mut state = self.state.lock();
        state.streams += 1;
        state.stream = None;
        state.asides.clear();
        state.window.restart();
        let hello = Hello {
            room: room.to_owned(),
            resume_token: state.resume_token.clone(),
            sent_sequence: state.window.highest_sent(),
            unanswered: state.window.is_owed(),
        };
        let hello = aside(0, Request::Hello(hello));
        FrameStream { shared: self.clone(), number: state.streams, hello: Some(hello) }
    }

    fn welcome(&self, number: u64, welcome: Welcome) {
        let mut state = self.state.lock();
        if let Some(limits) = welcome.limits {
            let limits = narrower(state.limits, limits);
            state.window.set_limits(limits);
        }
        state.resume_token = welcome.resume_token;
        state.room_uid = welcome.room_uid;
        state.stream = Some(number);
        wake(state);
    }

    fn answer(&self, sequence: u64, result: Result<Response, ClientError>) {
        let mut state = self.state.lock();
        let waiting = state.window.answer(sequence);
        // A reply may open the window, or be the last that a closing session waits for.
        wake(state);
        self.room.notify_waiters();
        if let Some(reply) = waiting {
            let _ = reply.send(result);
        }
    }

    /// Asks for a sign of life and, on the way, acknowledges what no frame has acknowledged yet.
    fn ping(&self) {
        let mut state = self.state.lock();
        let acknowledged = state.window.acknowledged();
        state.window.untold();
        if state.asides.is_empty() {
            state.asides.push_back(aside(acknowledged, Request::Ping(Ping {})));
        }
        wake(state);
    }

    fn keep_token(&self, token: Bytes) {
        self.state.lock().resume_token = token;
    }

    fn is_closed(&self) -> bool {
        let state = self.state.lock();
        state.closing && state.window.is_idle()
    }

    /// The session is over: every frame without a reply fails.
    pub fn finish(&self, error: ClientError) {
        let mut state = self.state.lock();
        state.over = Some(error.clone());
        state.stream = None;
        let abandoned = state.window.abandon();
        wake(state);
        self.room.notify_waiters();
        for (reply, sent) in abandoned {
            // What the cluster refuses for good it says so; a loss leaves open what was sent.
            let unknown = sent && error.is_loss();
            refuse(reply, if unknown { ClientError::outcome_unknown() } else { error.clone() });
        }
    }
}

/// Wakes the encoder once the lock is released, so that it does not run into it.
fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let encoder = state.encoder.take();
    drop(state);
    if let Some(encoder) = encoder {
        encoder.wake();
    }
}

fn aside(acknowledged: u64, body: Request) -> Outgoing {
    let body = ClientFrame { body: Some(body), ..Default::default() }.encode_to_vec();
    Outgoing { sequence: 0, acknowledged, body: body.into() }
}

fn narrower(own: WindowLimits, cluster: Limits) -> WindowLimits {
    let least = |own: usize, cluster: u32| match cluster {
        0 => own,
        cluster => own.min(cluster as usize),
    };
    WindowLimits {
        frames: least(own.frames, cluster.max_unacknowledged_frames),
        bytes: least(own.bytes, cluster.max_unacknowledged_bytes),
    }
}

/// The frames of one stream, as the encoder takes them: all that are ready, one after the other.
struct FrameStream {
    shared: Arc<Shared>,
    number: u64,
    hello: Option<Outgoing>,
}

impl Stream for FrameStream {
    type Item = Outgoing;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(hello));
        }
        let mut state = self.shared.state.lock();
        if state.streams != self.number || state.over.is_some() {
            return Poll::Ready(None);
        }
        if state.stream == Some(self.number) {
            if let Some(frame) = state.asides.pop_front().or_else(|| state.window.next()) {
                return Poll::Ready(Some(frame));
            }
            if state.closing && state.window.is_idle() {
                // The last acknowledgement, then the end.
                let bare = |acknowledged| Outgoing { sequence: 0, acknowledged, body: Bytes::new() };
                return Poll::Ready(state.window.untold().map(bare));
            }
        }
        state.encoder = Some(context.waker().clone());
        Poll::Pending
    }
}

/// How a stream ended.
enum Ended {
    /// The host or gateway closed it properly, which it does after the client did.
    Closed,
    Failed(ClientError),
    /// It was announced; come back after this time.
    Announced(Duration),
}

/// Runs the session until it is closed, refused for good, or cannot be taken up again in time.
pub async fn run(
    shared: Arc<Shared>,
    client: Client,
    room: String,
    options: SessionOptions,
    opened: oneshot::Sender<Result<(), ClientError>>,
) {
    let mut opened = Some(opened);
    let mut give_up_at = Instant::now() + options.reconnect_for;
    let mut wait = RECONNECT_WAIT.0;
    let error = loop {
        let attached =
            tokio::time::timeout_at(give_up_at.min(Instant::now() + ATTEMPT), attach(&shared, &client, &room));
        let ended = match attached.await {
            Err(_late) => Ended::Failed(ClientError::from(Status::unavailable("no reply to Hello in time"))),
            Ok(Err(error)) => Ended::Failed(error),
            Ok(Ok(mut stream)) => {
                match opened.take() {
                    Some(opened) => drop(opened.send(Ok(()))),
                    None => shared.state.lock().resumes += 1,
                }
                let ended = read(&shared, &mut stream).await;
                give_up_at = Instant::now() + options.reconnect_for;
                wait = RECONNECT_WAIT.0;
                ended
            }
        };
        if shared.is_closed() {
            break ClientError::closed();
        }
        let pause = match ended {
            Ended::Failed(error) if !error.is_loss() => break error,
            Ended::Failed(error) if Instant::now() >= give_up_at => break error,
            Ended::Failed(error) => {
                tracing::debug!(%error, "session lost its stream");
                error.retry_after.unwrap_or_default().max(spread(wait))
            }
            Ended::Closed => spread(wait),
            Ended::Announced(pause) => pause,
        };
        wait = (wait * 2).min(RECONNECT_WAIT.1);
        tokio::time::sleep_until(give_up_at.min(Instant::now() + pause)).await;
    };
    if let Some(opened) = opened {
        let _ = opened.send(Err(error.clone()));
    }
    shared.finish(error);
}

/// Opens a stream and waits for its Welcome.
async fn attach(shared: &Arc<Shared>, client: &Client, room: &str) -> Result<Streaming<ServerFrame>, ClientError> {
    let frames = shared.begin(room);
    let number = frames.number;
    let mut grpc = tonic::client::Grpc::new(client.channel()).max_decoding_message_size(MAX_ANSWER_BYTES);
    grpc.ready().await.map_err(|error| ClientError::from(Status::unavailable(error.to_string())))?;
    let response = grpc.streaming(client.request(frames), CONNECT, FrameCodec).await?;
    let mut stream = response.into_inner();
    let first = stream.message().await.map_err(|status| taking_token(shared, status))?;
    match first.and_then(|frame| frame.body) {
        Some(Response::Welcome(welcome)) => shared.welcome(number, welcome),
        Some(_) => return Err(Status::internal("the first frame is not Welcome").into()),
        None => return Err(Status::unavailable("the stream ended before Welcome").into()),
    }
    Ok(stream)
}

/// Reads replies until the stream ends.
async fn read(shared: &Shared, stream: &mut Streaming<ServerFrame>) -> Ended {
    let mut announced = None;
    let mut ticks = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let mut heard = Instant::now();
    loop {
        let frame = tokio::select! {
            biased;
            frame = stream.message() => frame,
            _ = ticks.tick() => {
                if heard.elapsed() >= MAX_SILENCE {
                    return Ended::Failed(Status::unavailable("the stream is silent").into());
                }
                shared.ping();
                continue;
            }
        };
        heard = Instant::now();
        match frame {
            Ok(Some(frame)) => {
                if let Some(pause) = take(shared, frame) {
                    announced = Some(pause);
                }
            }
            Ok(None) => return announced.map_or(Ended::Closed, Ended::Announced),
            Err(status) => {
                let error = taking_token(shared, status);
                return match announced {
                    Some(pause) if error.is_loss() => Ended::Announced(pause),
                    _ => Ended::Failed(error),
                };
            }
        }
    }
}

/// Takes one frame in. Returns how long to stay away if it is a farewell.
fn take(shared: &Shared, frame: ServerFrame) -> Option<Duration> {
    let sequence = frame.reply_to;
    match frame.body? {
        Response::Welcome(welcome) => shared.keep_token(welcome.resume_token),
        Response::GoAway(farewell) => {
            let after = farewell.reconnect_after.and_then(|after| Duration::try_from(after).ok());
            return Some(after.unwrap_or_default());
        }
        Response::Status(status) if sequence > 0 => shared.answer(sequence, Err(status.into())),
        response if sequence > 0 => shared.answer(sequence, Ok(response)),
        _ => {}
    }
    None
}

fn taking_token(shared: &Shared, status: Status) -> ClientError {
    let token = status.metadata().get_bin(RESUME_TOKEN_TRAILER);
    if let Some(token) = token.and_then(|token| token.to_bytes().ok()) {
        shared.keep_token(token);
    }
    status.into()
}

/// Half of the wait to one and a half of it, so that sessions that were lost together do not come back together.
fn spread(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1_000;
    wait / 2 + wait.mul_f64(random as f64 / 1_000.0)
}
