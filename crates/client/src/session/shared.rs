//! What a session's owner, its driver and its stream's encoder share.
//!
//! The encoder takes frames out ([`FrameStream`], polled by the connection), the driver puts replies and events in. A
//! lock is held for a few instructions and never across an await.
//!
//! On a new stream leave, in this order: the participant and the subscriptions, which a gateway may not know; the frames
//! without a reply that an earlier one carried; then what is new. So a reply comes behind the events before it, also after
//! a loss.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::v1::client_frame::Body as Request;
use conclave_proto::v1::server_frame::Body as Response;
use conclave_proto::v1::{ClientFrame, Hello, Limits, Ping, Subscribe, Welcome};
use futures::Stream;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use tokio::sync::{Notify, mpsc};

use super::codec::Sent;
use super::presence::{Change, Presence};
use super::subscription::{Overflow, Subscriptions, Told};
use super::window::{FrameClass, Outgoing, Window, WindowLimits};
use super::{ReplySender, refuse};
use crate::ClientError;

/// How often a quiet stream is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Who waits for a reply, and what else it brings about.
#[derive(Debug)]
pub struct Waiting {
    pub reply: ReplySender,
    pub purpose: Purpose,
}

#[derive(Debug)]
pub enum Purpose {
    /// The caller alone cares.
    Ask,
    /// It begins this subscription.
    Subscribe(u64),
    /// It changes the session's participant.
    Present(Change),
}

#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// Frames may fit that did not before, or the session nears its end, or its participant is lost.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    window: Window<Waiting>,
    limits: WindowLimits,
    subscriptions: Subscriptions,
    presence: Presence,
    /// At most one ping.
    ping: Option<Outgoing>,
    /// Frames that want no reply, in their order. As many as there are subscriptions and a participant, and as many again
    /// that end them.
    asides: VecDeque<Bytes>,
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
            subscriptions: Subscriptions::default(),
            presence: Presence::default(),
            ping: None,
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
        Shared { state: Mutex::new(state), changed: Notify::new() }
    }

    pub fn enqueue(&self, class: FrameClass, body: Bytes, waiting: Waiting) {
        let mut state = self.state.lock();
        if let Some(over) = &state.over {
            let error = over.clone();
            drop(state);
            return refuse(waiting.reply, error);
        }
        let presents = matches!(waiting.purpose, Purpose::Present(_));
        if let Err((full, waiting)) = state.window.enqueue(class, body, waiting) {
            drop(state);
            return refuse(waiting.reply, full.into());
        }
        if presents {
            state.presence.ask();
        }
        wake(state);
    }

    pub async fn ready(&self) {
        self.until(|state| state.over.is_some() || state.window.has_room()).await;
    }

    pub fn add_subscription(&self, request: Subscribe) -> Result<(u64, mpsc::Receiver<Told>), ClientError> {
        self.state.lock().subscriptions.add(request)
    }

    /// Forgets a subscription that was refused.
    pub fn remove_subscription(&self, number: u64) {
        self.state.lock().subscriptions.remove(number);
    }

    /// The reader of a subscription has gone.
    pub fn unsubscribe(&self, number: u64) {
        let mut state = self.state.lock();
        // A stream that is yet to be welcomed will not take the subscription up.
        if let Some(frame) = state.subscriptions.abandon(number).filter(|_| state.stream.is_some()) {
            state.asides.push_back(frame);
            wake(state);
        }
    }

    pub fn credit(&self, number: u64, events: u32) {
        let mut state = self.state.lock();
        // A stream that is yet to be welcomed is told with the subscription.
        if let Some(frame) = state.subscriptions.credit(number, events).filter(|_| state.stream.is_some()) {
            state.asides.push_back(frame);
            wake(state);
        }
    }

    /// Lets the replies come that are due, and nothing else.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.subscriptions.clear();
        wake(state);
        self.changed.notify_waiters();
    }

    pub fn room_uid(&self) -> String {
        self.state.lock().room_uid.clone()
    }

    pub fn resumes(&self) -> u64 {
        self.state.lock().resumes
    }

    /// Why the session is over, if not because its owner wanted it so.
    pub fn failure(&self) -> Option<ClientError> {
        let state = self.state.lock();
        state.over.clone().filter(|error| !state.closing && *error != ClientError::closed())
    }

    /// Waits until the participant is lost or the session is over, and says why.
    pub async fn until_detached(&self) -> ClientError {
        self.until(|state| state.over.is_some() || state.presence.lost().is_some()).await;
        let state = self.state.lock();
        state.presence.lost().or(state.over.as_ref()).cloned().unwrap_or_else(ClientError::closed)
    }

    /// Waits until the owner wants an end.
    pub async fn until_closing(&self) {
        self.until(|state| state.closing || state.over.is_some()).await;
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let notified = self.changed.notified();
            if done(&self.state.lock()) {
                return;
            }
            notified.await;
        }
    }
}

/// What the driver does.
impl Shared {
    /// Begins a stream: the frames without a reply are in line again, held back until it is welcomed.
    pub fn begin(self: &Arc<Self>, room: &str) -> FrameStream {
        let mut state = self.state.lock();
        state.streams += 1;
        state.stream = None;
        state.ping = None;
        state.asides.clear();
        state.window.restart();
        let outdated = state.encoder.take();
        let hello = Hello {
            room: room.to_owned(),
            resume_token: state.resume_token.clone(),
            sent_sequence: state.window.highest_sent(),
            unanswered: state.window.is_owed(),
        };
        let hello = bare(0, encoded(Request::Hello(hello)));
        let number = state.streams;
        drop(state);
        if let Some(outdated) = outdated {
            outdated.wake();
        }
        FrameStream { shared: self.clone(), number, hello: Some(hello) }
    }

    pub fn welcome(&self, number: u64, welcome: Welcome) {
        let mut state = self.state.lock();
        if let Some(limits) = welcome.limits {
            let limits = narrower(state.limits, limits);
            state.window.set_limits(limits);
        }
        state.resume_token = welcome.resume_token;
        state.room_uid = welcome.room_uid;
        state.stream = Some(number);
        // First the participant: a subscription to ephemeral messages looks for it.
        let renewals = state.presence.renewal().into_iter().chain(state.subscriptions.renewals());
        state.asides = renewals.collect();
        wake(state);
    }

    pub fn count_resume(&self) {
        self.state.lock().resumes += 1;
    }

    pub fn answer(&self, sequence: u64, result: Result<Response, ClientError>) {
        let mut state = self.state.lock();
        let reply = state.window.answer(sequence).map(|waiting| {
            let aside = match waiting.purpose {
                Purpose::Ask => None,
                Purpose::Present(change) => state.presence.answered(change, &result),
                Purpose::Subscribe(number) if result.is_ok() => state.subscriptions.begin(number),
                Purpose::Subscribe(number) => {
                    state.subscriptions.remove(number);
                    None
                }
            };
            state.asides.extend(aside);
            waiting.reply
        });
        // A reply may open the window, or be the last that a closing session waits for.
        wake(state);
        self.changed.notify_waiters();
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }

    /// Hands an update to the reader of a subscription, and gives it back if there is no room.
    pub fn hand(&self, subscription: u64, told: Told) -> Option<Overflow> {
        self.state.lock().subscriptions.hand(subscription, told)
    }

    /// The participant could not be attached again.
    pub fn lose_participant(&self, why: ClientError) {
        self.state.lock().presence.lose(why);
        self.changed.notify_waiters();
    }

    /// How often the stream needs a sign of life.
    pub fn pulse(&self) -> Duration {
        self.state.lock().presence.pulse().map_or(PING_INTERVAL, |pulse| pulse.min(PING_INTERVAL))
    }

    /// Asks for a sign of life and, on the way, acknowledges what no frame has acknowledged yet.
    pub fn ping(&self) {
        let mut state = self.state.lock();
        let acknowledged = state.window.acknowledged();
        state.window.untold();
        state.ping.get_or_insert_with(|| bare(acknowledged, encoded(Request::Ping(Ping {}))));
        wake(state);
    }

    pub fn keep_token(&self, token: Bytes) {
        self.state.lock().resume_token = token;
    }

    pub fn is_closed(&self) -> bool {
        let state = self.state.lock();
        state.closing && state.window.is_idle()
    }

    /// The session is over: every frame without a reply fails, every subscription ends.
    pub fn finish(&self, error: ClientError) {
        let mut state = self.state.lock();
        state.over = Some(error.clone());
        state.stream = None;
        let abandoned = state.window.abandon();
        state.subscriptions.clear();
        wake(state);
        self.changed.notify_waiters();
        for (waiting, may_count) in abandoned {
            // Also where the cluster refuses the session for good: an earlier host may have taken the frame.
            refuse(waiting.reply, if may_count { ClientError::outcome_unknown(&error) } else { error.clone() });
        }
    }
}

/// Wakes the encoder once the lock is released, so that it does not run into it.
fn wake(mut state: MutexGuard<'_, State>) {
    let encoder = state.encoder.take();
    drop(state);
    if let Some(encoder) = encoder {
        encoder.wake();
    }
}

fn encoded(body: Request) -> Bytes {
    ClientFrame { body: Some(body), ..Default::default() }.encode_to_vec().into()
}

/// A frame that wants no reply.
fn bare(acknowledged: u64, body: Bytes) -> Outgoing {
    Outgoing { sequence: 0, acknowledged, body }
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
pub struct FrameStream {
    shared: Arc<Shared>,
    pub number: u64,
    hello: Option<Outgoing>,
}

impl State {
    fn next(&mut self) -> Option<Outgoing> {
        if let Some(ping) = self.ping.take() {
            return Some(ping);
        }
        match self.asides.pop_front() {
            Some(aside) => Some(bare(0, aside)),
            None => self.window.next(),
        }
    }
}

impl Stream for FrameStream {
    type Item = Sent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Sent>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Sent::Frame(hello)));
        }
        let mut state = self.shared.state.lock();
        if state.over.is_some() {
            return Poll::Ready(None);
        }
        if state.streams != self.number {
            return Poll::Ready(Some(Sent::Abandoned));
        }
        if state.stream == Some(self.number) {
            if let Some(frame) = state.next() {
                return Poll::Ready(Some(Sent::Frame(frame)));
            }
            if state.closing && state.window.is_idle() {
                // The last acknowledgement, then the end.
                let acknowledged = state.window.untold();
                return Poll::Ready(acknowledged.map(|acknowledged| Sent::Frame(bare(acknowledged, Bytes::new()))));
            }
        }
        state.encoder = Some(context.waker().clone());
        Poll::Pending
    }
}
