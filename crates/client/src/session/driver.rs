//! The life of a session: attach, read replies and events, lose the stream, attach again.

use std::sync::Arc;
use std::time::Duration;

use conclave_proto::v1::ServerFrame;
use conclave_proto::v1::server_frame::Body as Response;
use http::uri::PathAndQuery;
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Status, Streaming};

use super::SessionOptions;
use super::codec::FrameCodec;
use super::shared::Shared;
use super::subscription::Overflow;
use crate::client::MAX_ANSWER_BYTES;
use crate::reconnect::Attempts;
use crate::{Client, ClientError, Update, UpdateKind};

const CONNECT: PathAndQuery = PathAndQuery::from_static("/conclave.v1.SessionService/Connect");
/// Trailer with the newest resume token when a gateway gives a stream up.
const RESUME_TOKEN_TRAILER: &str = "conclave-resume-token-bin";
/// Silence after which a stream counts as lost.
const MAX_SILENCE: Duration = Duration::from_secs(45);

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
    let mut attempts = Attempts::new(options.reconnect_for);
    let error = loop {
        let attached = tokio::time::timeout_at(attempts.deadline(), attach(&shared, &client, &room));
        let ended = match attached.await {
            Err(_late) => Ended::Failed(ClientError::from(Status::unavailable("no reply to Hello in time"))),
            Ok(Err(error)) => Ended::Failed(error),
            Ok(Ok(mut stream)) => {
                match opened.take() {
                    Some(opened) => drop(opened.send(Ok(()))),
                    None => shared.count_resume(),
                }
                let ended = read(&shared, &mut stream).await;
                attempts.restart();
                ended
            }
        };
        if shared.is_closed() {
            break ClientError::closed();
        }
        let try_at = match ended {
            Ended::Failed(error) if !error.is_loss() || attempts.are_over() => break error,
            Ended::Failed(error) => {
                tracing::debug!(%error, "session lost its stream");
                attempts.next(error.retry_after)
            }
            Ended::Closed => attempts.next(None),
            Ended::Announced(pause) => Instant::now() + pause.min(options.reconnect_for),
        };
        tokio::time::sleep_until(try_at).await;
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

/// Signs of life: when to ask for one, and when the last was heard.
struct Pulse {
    every: Duration,
    ticks: Interval,
    heard: Instant,
}

impl Pulse {
    fn new(every: Duration) -> Self {
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        // One ping after a pause says as much as many.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pulse { every, ticks, heard: Instant::now() }
    }

    fn set(&mut self, every: Duration) {
        if every != self.every {
            *self = Pulse::new(every);
        }
    }
}

/// Reads replies and events until the stream ends.
async fn read(shared: &Shared, stream: &mut Streaming<ServerFrame>) -> Ended {
    let mut announced = None;
    let mut pulse = Pulse::new(shared.pulse());
    loop {
        let frame = tokio::select! {
            // A stream that always has something must not keep the pings from leaving.
            biased;
            _ = pulse.ticks.tick() => {
                if pulse.heard.elapsed() >= MAX_SILENCE {
                    return Ended::Failed(Status::unavailable("the stream is silent").into());
                }
                shared.ping();
                continue;
            }
            frame = stream.message() => frame,
        };
        pulse.heard = Instant::now();
        match frame {
            Ok(Some(frame)) => match take(shared, frame) {
                Taken::Event => {}
                Taken::Answer => pulse.set(shared.pulse()),
                Taken::Farewell(pause) => announced = Some(pause),
                Taken::Overflow(overflow) => wait_for_reader(shared, overflow, &mut pulse).await,
            },
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

/// Reads nothing until the reader of a full subscription has taken an update, has gone, or the session is to end.
/// Pings go on meanwhile: a slow reader is alive.
async fn wait_for_reader(shared: &Shared, overflow: Overflow, pulse: &mut Pulse) {
    let taken = overflow.reader.send(overflow.told);
    let closing = shared.until_closing();
    tokio::pin!(taken, closing);
    loop {
        tokio::select! {
            // What was sent to a reader that has gone is nobody's.
            _ = &mut taken => break,
            () = &mut closing => break,
            _ = pulse.ticks.tick() => shared.ping(),
        }
    }
    // What came meanwhile was not listened for.
    pulse.heard = Instant::now();
}

/// What a frame was.
enum Taken {
    Event,
    Answer,
    /// The stream is about to end; come back after this time.
    Farewell(Duration),
    Overflow(Overflow),
}

fn take(shared: &Shared, frame: ServerFrame) -> Taken {
    let Some(body) = frame.body else { return Taken::Event };
    let kind = match body {
        Response::EventBatch(batch) => UpdateKind::Events(batch),
        Response::Gap(gap) => UpdateKind::Gap(gap),
        Response::Live(live) => UpdateKind::Live(live),
        Response::GoAway(farewell) => {
            let after = farewell.reconnect_after.and_then(|after| Duration::try_from(after).ok());
            return Taken::Farewell(after.unwrap_or_default());
        }
        Response::Welcome(welcome) => {
            shared.keep_token(welcome.resume_token);
            return Taken::Answer;
        }
        Response::Status(status) if frame.reply_to > 0 => {
            shared.answer(frame.reply_to, Err(status.into()));
            return Taken::Answer;
        }
        Response::Status(status) if frame.subscription > 0 => {
            return shared.hand(frame.subscription, Err(status.into())).map_or(Taken::Event, Taken::Overflow);
        }
        Response::Status(status) => {
            shared.lose_participant(status.into());
            return Taken::Answer;
        }
        response => {
            if frame.reply_to > 0 {
                shared.answer(frame.reply_to, Ok(response));
            }
            return Taken::Answer;
        }
    };
    let update = Update { revision: frame.revision, kind };
    shared.hand(frame.subscription, Ok(update)).map_or(Taken::Event, Taken::Overflow)
}

fn taking_token(shared: &Shared, status: Status) -> ClientError {
    let token = status.metadata().get_bin(RESUME_TOKEN_TRAILER);
    if let Some(token) = token.and_then(|token| token.to_bytes().ok()) {
        shared.keep_token(token);
    }
    status.into()
}
