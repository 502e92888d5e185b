//! Sessions: streams that outlive the host they are attached to.
//!
//! ```text
//! client frames ──► ledger (until answered) ──► host
//! client        ◄── replies, each once      ◄── host
//!
//!    Hello            Welcome              stream lost, GoAway, no leader
//! ───────► attaching ─────────► attached ─────────────────────────────────► attaching …
//!              │ 10 s without Welcome, or refused         │ the host's last word, client gone
//!              └──────────────► ended ◄───────────────────┘
//! ```
//!
//! [`ledger`] keeps what is owed, [`standing`] what stays in force, [`attach`] finds the leader and says Hello,
//! [`relay`] moves frames both ways. While attaching the client is not read; it notices a pause. Frames are moved as the
//! bytes they came in, many at a time.
//!
//! A frame is sent again byte for byte, so a receive that waits begins its wait anew after a loss: its reply may come
//! later than asked by the time that was waited before. `acknowledged` is the client's word alone and is never made up
//! here; a bare acknowledgement or a ping that was under way when a host was lost is not sent again, because the next
//! frame makes up for it.

mod attach;
mod ledger;
mod relay;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::envelope::{ClientEnvelope, peek_field_1};
use conclave_proto::status::ApiError;
use conclave_proto::v1::{GoAway, Hello, ServerFrame, server_frame};
use conclave_types::limits::MAX_FRAME_BYTES;
use http::HeaderMap;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataValue;

use crate::auth::Caller;
use crate::core::Core;
use crate::frames::{Deframer, Run, framed};
use crate::unary;
use crate::wire::{self, Onward, Part, Read};

pub use attach::MAX_HOST_FRAME_BYTES;

use attach::Attaching;
use ledger::Ledger;
use relay::Relay;
use standing::Standing;

pub const CONNECT_PATH: &str = "/conclave.v1.SessionService/Connect";
/// Trailer with the newest resume token when a stream ends that may be resumed.
pub const RESUME_TOKEN_TRAILER: &str = "conclave-resume-token-bin";
/// Clients of a gateway that shuts down come back spread over this time.
pub const COME_BACK_WITHIN_MS: std::ops::Range<u64> = 0..500;

/// Opens the client's stream and serves it in a task of its own, owned by the gateway.
pub fn connect(core: &Arc<Core>, caller: Caller, headers: &HeaderMap, body: Body) -> http::Response<Body> {
    if core.sessions.len() >= core.options.max_sessions {
        return wire::refused(&ApiError::overloaded(Duration::from_secs(1)).into());
    }
    let (to_client, response_body) = wire::written();
    let onward = caller.onward(headers);
    let client = Client { body, deframer: Deframer::new(MAX_FRAME_BYTES), rest: Run::default(), open: true, to_client };
    core.sessions.spawn(serve(core.clone(), caller, onward, client));
    wire::response(response_body)
}

/// The client's side of the stream.
struct Client {
    body: Body,
    deframer: Deframer,
    /// Frames that came together with Hello and wait for Welcome.
    rest: Run,
    /// The client may send more.
    open: bool,
    to_client: mpsc::Sender<Part>,
}

impl Client {
    /// The next frames; an empty run when the client has closed its side.
    async fn read(&mut self) -> Result<Run, End> {
        match wire::read(&mut self.body).await {
            Read::Data(bytes) => {
                self.deframer.push(bytes).map_err(|error| End::Status(unary::frame_refused("frame", error)))
            }
            Read::End(_) => {
                self.open = false;
                self.deframer.finish().map_err(|error| End::Status(unary::frame_refused("frame", error)))?;
                Ok(Run::default())
            }
            Read::Broken => Err(End::ClientGone),
        }
    }

    /// Reads frames until there are some; none when the client closed before it said anything.
    async fn first(&mut self) -> Result<Option<Run>, End> {
        while self.open {
            let run = self.read().await?;
            if !run.is_empty() {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }
}

/// Why a client's stream ends.
#[derive(Debug)]
enum End {
    /// The host's last word, or the gateway's.
    Status(Status),
    ClientGone,
    /// The gateway shuts down.
    Closing,
}

/// What is known of the session beyond its streams.
struct Session {
    /// `Hello` as the client sent it, framed.
    hello: Bytes,
    room: String,
    /// Of the last `Welcome`; none before the first.
    resume_token: Option<Bytes>,
    /// There were streams before the present one, so a host may answer a frame again.
    repeated: bool,
    ledger: Ledger,
    standing: Standing,
}

impl Session {
    /// What to attach with now, framed.
    fn hello(&self) -> Bytes {
        match &self.resume_token {
            None => self.hello.clone(),
            Some(token) => framed(&conclave_proto::v1::ClientFrame {
                body: Some(conclave_proto::v1::client_frame::Body::Hello(Hello {
                    room: self.room.clone(),
                    resume_token: token.clone(),
                    sent_sequence: self.ledger.highest_sent(),
                    unanswered: self.ledger.has_durable(),
                })),
                ..Default::default()
            }),
        }
    }
}

async fn serve(core: Arc<Core>, caller: Caller, onward: Onward, mut client: Client) {
    let mut session = None;
    let gone = client.to_client.clone();
    let end = tokio::select! {
        biased;
        () = gone.closed() => End::ClientGone,
        () = core.closing.cancelled() => End::Closing,
        end = drive(&core, &caller, &onward, &mut client, &mut session) => end,
    };
    let token = session.and_then(|session| session.resume_token);
    let parts = match end {
        End::ClientGone => return,
        End::Status(status) => vec![last_word(status, token)],
        End::Closing => {
            let wait = core.jitter.duration_ms(COME_BACK_WITHIN_MS);
            vec![Part::Data(go_away(wait)), last_word(ApiError::draining().into(), token)]
        }
    };
    for part in parts {
        if client.to_client.send(part).await.is_err() {
            return;
        }
    }
}

/// Serves the stream to its end. Losing a host is no end.
async fn drive(
    core: &Core,
    caller: &Caller,
    onward: &Onward,
    client: &mut Client,
    session: &mut Option<Session>,
) -> End {
    let first = match client.first().await {
        Ok(Some(run)) => run,
        Ok(None) => return End::Status(ApiError::hello_expected().into()),
        Err(end) => return end,
    };
    let (hello, rest) = match open(core, first) {
        Ok(opened) => opened,
        Err(status) => return End::Status(status),
    };
    client.rest = rest;
    let session = session.insert(hello);
    let attaching = match attaching(core, caller, onward, session).await {
        Ok(attaching) => attaching,
        Err(status) => return End::Status(status),
    };
    let mut lost = None;
    loop {
        let attached = match attaching.attach(session.hello(), lost.take()).await {
            Ok(attached) => attached,
            Err(status) => return End::Status(status),
        };
        match Relay::new(client, session, attached).run(&core.router, attaching.shard).await {
            relay::Stopped::End(end) => return end,
            relay::Stopped::Lost(failed) => {
                tracing::debug!(failure = ?failed.failed.failure, "session lost its host");
                session.repeated = true;
                lost = Some(failed);
            }
        }
    }
}

async fn attaching<'a>(
    core: &'a Core,
    caller: &Caller,
    onward: &'a Onward,
    session: &Session,
) -> Result<Attaching<'a>, Status> {
    let room = unary::room_of(&session.room)?;
    let shard = unary::shard_of(core, caller, &room).await?;
    Ok(Attaching { core, onward, shard })
}

/// Reads `Hello`, which must come first, and gives back the frames behind it.
fn open(core: &Core, first: Run) -> Result<(Session, Run), Status> {
    let (hello_frame, rest) = first.split_first();
    let envelope = ClientEnvelope::peek(hello_frame.single()).map_err(ApiError::from)?;
    let hello = envelope.hello().ok_or_else(ApiError::hello_expected)?;
    let room = peek_field_1(hello).map_err(ApiError::from)?.unwrap_or_default().to_owned();
    let hello = Hello::decode(hello).map_err(|_| unary::malformed("not a Hello"))?;
    let session = Session {
        hello: hello_frame.copied(),
        room,
        resume_token: None,
        repeated: false,
        ledger: Ledger::new(hello.sent_sequence, core.retained.clone()),
        standing: Standing::new(core.retained.clone()),
    };
    Ok((session, rest))
}

fn last_word(mut status: Status, token: Option<Bytes>) -> Part {
    if let (tonic::Code::Unavailable, Some(token)) = (status.code(), token) {
        status.metadata_mut().insert_bin(RESUME_TOKEN_TRAILER, MetadataValue::from_bytes(&token));
    }
    Part::Trailers(wire::trailers(&status))
}

fn go_away(reconnect_after: Duration) -> Bytes {
    let reconnect_after = prost_types::Duration::try_from(reconnect_after).ok();
    let reason = "the gateway is shutting down".to_owned();
    let body = Some(server_frame::Body::GoAway(GoAway { reconnect_after, reason }));
    framed(&ServerFrame { body, ..Default::default() })
}
