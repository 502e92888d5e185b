//! A follower that never reads: it costs the others nothing, and when it reads at last it gets everything that is kept,
//! without a gap, and for the rest is told how much it missed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use conclave_client::{Session, SessionOptions, Subscription, UpdateKind};
use conclave_document::Replica;
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::server_frame::Body as Reply;
use conclave_proto::v1::{
    FollowMessagesResponse, GetRoomRequest, Lane, NewMessage, OpenDocumentResponse, ReceiveEphemeralResponse,
    SendEphemeralRequest, ServerFrame, Subscribe, WatchRoomResponse, follow_messages_response, open_document_response,
    receive_ephemeral_response, watch_room_response,
};
use conclave_tests::raw::{RawClient, RawSession};
use conclave_types::YjsClient;
use conclave_workload::news::{Assembly, ROOT};
use futures::future::join_all;
use prost::Message;
use tonic::Streaming;

use super::{Story, hello};
use crate::calls::documents::{OPEN, open, push};
use crate::calls::messages::{FOLLOW, RECEIVE_EPHEMERAL, WATCH, follow, listen, post, watch};
use crate::place::{Place, make_room};

const ROOM: &str = "rooms/crowded";
const DOCUMENT: &str = "rooms/crowded/documents/board";

/// Far beyond what rings, buffers and windows on the way hold together.
const EPHEMERAL: u64 = 2_000;
const EPHEMERAL_BYTES: usize = 32 << 10;
const POSTS: u64 = 4_000;
const POST_BYTES: usize = 2 << 10;
const PUSHES: u64 = 2_000;
const WORD: &str = "what is typed while nobody looks; ";
/// Frames of the author in flight: few enough that it is never their bytes that hold it up.
const WINDOW: usize = 256;
/// Posts one after the other whose round trips are measured.
const PROBES: u64 = 200;
/// Of the 64 MB that are sent no process may keep more than a part, in whichever buffers.
const KEPT_BYTES: u64 = 32 << 20;
/// What a round trip may take longer beside the follower; the machine has other things to do.
const SLOWER: (u32, Duration) = (4, Duration::from_millis(20));

pub fn all(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    vec![("a follower that never reads", Box::pin(never_reads(place)))]
}

async fn never_reads(place: &Place) -> Result<()> {
    make_room(&place.client, ROOM).await?;
    let mut author = Author::begin(place).await?;
    let reader = Session::open(&place.client, ROOM).await?;
    let log = reader.subscribe(to("messages")).await?;
    let reading = tokio::spawn(read_log(log, POSTS + 2 * PROBES));
    let before = author.probe().await?;

    let (mut session, mut heard) = follow_by_session(&place.apart("sloth").await?).await?;
    let mut streams = Streams::open(&place.apart("sloth").await?).await?;

    let [gateway, hosts] = place.processes.resident_bytes()?;
    author.send_ephemeral().await?;
    let [gateway_now, hosts_now] = place.processes.resident_bytes()?;
    let (by_gateway, by_hosts) = (gateway_now.saturating_sub(gateway), hosts_now.saturating_sub(hosts));
    ensure!(by_gateway < KEPT_BYTES && by_hosts < KEPT_BYTES, "{by_gateway} and {by_hosts} bytes are kept");

    author.post_and_push().await?;
    let after = author.probe().await?;
    let (factor, beside) = SLOWER;
    ensure!(after <= before * factor + beside, "a post took {after:?} beside the follower, {before:?} before");
    // Who reads has it all, while the other one still sleeps.
    reading.await?.context("the one who reads")?;
    reader.close().await;

    let wanted = Wanted { posts: author.posts, text: author.replica.text(ROOT), ephemeral: EPHEMERAL };
    session.ask(9, Body::GetRoom(GetRoomRequest { name: ROOM.into(), ..Default::default() }));
    heard.catch_up(&mut session, &wanted).await.context("the session")?;
    ensure!(heard.dropped > 0, "nothing was dropped: it was never too slow");
    streams.catch_up(&wanted).await
}

/// Who writes while the follower sleeps.
struct Author {
    session: Session,
    replica: Replica,
    /// Posted so far, each with its number.
    posts: u64,
}

impl Author {
    async fn begin(place: &Place) -> Result<Author> {
        let options = SessionOptions { window: WINDOW, ..Default::default() };
        let session = Session::open_with(&place.client, ROOM, options).await?;
        let mut replica = Replica::new(YjsClient(3));
        let update = replica.insert(ROOT, 0, "begun: ")?;
        session.push_update(push(DOCUMENT, update)).await?;
        Ok(Author { session, replica, posts: 0 })
    }

    fn next_post(&mut self, bytes: usize) -> NewMessage {
        self.posts += 1;
        numbered(self.posts, bytes)
    }

    /// The median round trip.
    async fn probe(&mut self) -> Result<Duration> {
        let mut took = Vec::new();
        for _ in 0..PROBES {
            let began = Instant::now();
            let message = self.next_post(0);
            self.session.post_message(post(ROOM, message)).await?;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        Ok(took[took.len() / 2])
    }

    async fn send_ephemeral(&self) -> Result<()> {
        for first in (1..=EPHEMERAL).step_by(50) {
            let some = (first..(first + 50).min(EPHEMERAL + 1)).map(|number| {
                let message = Some(numbered(number, EPHEMERAL_BYTES));
                let to_all = SendEphemeralRequest { parent: ROOM.into(), message, to: Vec::new() };
                self.session.send_ephemeral(to_all)
            });
            for sent in join_all(some.collect::<Vec<_>>()).await {
                let sent = sent?;
                ensure!(sent.receiver_count == 2, "{sent:?}");
            }
        }
        Ok(())
    }

    async fn post_and_push(&mut self) -> Result<()> {
        let (mut posted, mut pushed) = (Vec::new(), Vec::new());
        for number in 0..POSTS {
            self.session.ready().await;
            let message = self.next_post(POST_BYTES);
            posted.push(self.session.post_message(post(ROOM, message)));
            if number < PUSHES {
                let at = self.replica.text(ROOT).len() as u32;
                let update = self.replica.insert(ROOT, at, WORD)?;
                self.session.ready().await;
                pushed.push(self.session.push_update(push(DOCUMENT, update)));
            }
        }
        for (number, reply) in (1..).zip(posted) {
            reply.await.with_context(|| format!("post {number} of many"))?;
        }
        for (number, reply) in (1..).zip(pushed) {
            reply.await.with_context(|| format!("push {number} of many"))?;
        }
        Ok(())
    }
}

/// A message with a number and so many bytes behind it.
fn numbered(number: u64, bytes: usize) -> NewMessage {
    let body = [number.to_be_bytes().to_vec(), vec![0; bytes]].concat();
    NewMessage { r#type: "number".into(), body: body.into(), ..Default::default() }
}

fn to(what: &str) -> Subscribe {
    Subscribe { resource: format!("{ROOM}/{what}"), ..Default::default() }
}

/// Returns with what it has heard once it listens to everything.
async fn follow_by_session(client: &RawClient) -> Result<(RawSession, Heard)> {
    let (mut session, _) = client.attach(hello(ROOM, &[])).await?;
    let what = [(1, "messages"), (2, "documents/board"), (3, "ephemeral")];
    what.iter().for_each(|(number, what)| session.subscribe(*number, *number, to(what)));
    let mut heard = Heard::new();
    for _ in what {
        while !matches!(heard.take_frame(session.next().await?)?, Some(Reply::Subscribed(_))) {}
    }
    Ok((session, heard))
}

/// The same by server streams, and the whole room by another one.
struct Streams {
    log: Streaming<Bytes>,
    document: Streaming<Bytes>,
    ephemeral: Streaming<Bytes>,
    room: Streaming<Bytes>,
}

impl Streams {
    async fn open(client: &RawClient) -> Result<Streams> {
        let mut ephemeral = client.stream(RECEIVE_EPHEMERAL, encoded(listen(ROOM, ""))).await?;
        // From here on it listens; what is kept can be had later.
        ephemeral.message().await?.context("no Live")?;
        Ok(Streams {
            log: client.stream(FOLLOW, encoded(follow(ROOM, 0))).await?,
            document: client.stream(OPEN, encoded(open(DOCUMENT))).await?,
            ephemeral,
            room: client.stream(WATCH, encoded(watch(ROOM, 0, &[]))).await?,
        })
    }

    async fn catch_up(&mut self, wanted: &Wanted) -> Result<()> {
        let mut heard = Heard::new();
        while !heard.has_log(wanted) {
            heard.take(element(&mut self.log, log_kind).await.context("the log")?)?;
        }
        let mut heard = Heard::new();
        while !heard.has_text(wanted) {
            heard.take(element(&mut self.document, document_kind).await.context("the document")?)?;
        }
        let mut heard = Heard::new();
        while !heard.has_ephemeral(wanted) {
            heard.take(element(&mut self.ephemeral, ephemeral_kind).await.context("ephemeral messages")?)?;
        }
        ensure!(heard.dropped > 0, "no ephemeral message was dropped: the stream was never too slow");
        let mut heard = Heard::new();
        while !heard.has_log(wanted) || !heard.has_text(wanted) {
            heard.take(element(&mut self.room, room_kind).await.context("the room")?)?;
        }
        Ok(())
    }
}

fn encoded(request: impl Message) -> Bytes {
    request.encode_to_vec().into()
}

async fn element(stream: &mut Streaming<Bytes>, kind: fn(Bytes) -> Result<UpdateKind>) -> Result<UpdateKind> {
    kind(stream.message().await?.context("the stream ended")?)
}

/// Reads an element of one method's stream.
macro_rules! kind {
    ($name:ident, $response:ident, $module:ident) => {
        fn $name(element: Bytes) -> Result<UpdateKind> {
            Ok(match $response::decode(element)?.body.context("an element of nothing")? {
                $module::Body::EventBatch(batch) => UpdateKind::Events(batch),
                $module::Body::Gap(gap) => UpdateKind::Gap(gap),
                $module::Body::Live(live) => UpdateKind::Live(live),
            })
        }
    };
}

kind!(log_kind, FollowMessagesResponse, follow_messages_response);
kind!(document_kind, OpenDocumentResponse, open_document_response);
kind!(ephemeral_kind, ReceiveEphemeralResponse, receive_ephemeral_response);
kind!(room_kind, WatchRoomResponse, watch_room_response);

/// What there was to hear.
struct Wanted {
    posts: u64,
    text: String,
    ephemeral: u64,
}

/// What a follower was told.
struct Heard {
    posts: u64,
    replica: Replica,
    assembly: Assembly,
    ephemeral: u64,
    last_ephemeral: u64,
    dropped: u64,
}

impl Heard {
    fn new() -> Heard {
        Heard {
            posts: 0,
            replica: Replica::new(YjsClient(4)),
            assembly: Assembly::default(),
            ephemeral: 0,
            last_ephemeral: 0,
            dropped: 0,
        }
    }

    /// Reads the session until it has everything, its late reply too.
    async fn catch_up(&mut self, session: &mut RawSession, wanted: &Wanted) -> Result<()> {
        let mut replied = false;
        while !(replied && self.has_log(wanted) && self.has_text(wanted) && self.has_ephemeral(wanted)) {
            match self.take_frame(session.next().await?)? {
                None => {}
                Some(Reply::GetRoom(_)) => replied = true,
                Some(other) => bail!("{other:?}"),
            }
        }
        Ok(())
    }

    /// Takes a frame's events, or gives back what it is else.
    fn take_frame(&mut self, frame: Option<ServerFrame>) -> Result<Option<Reply>> {
        let frame = frame.context("the stream ended")?;
        let kind = match frame.body.context("a frame of nothing")? {
            Reply::EventBatch(batch) => UpdateKind::Events(batch),
            Reply::Gap(gap) => UpdateKind::Gap(gap),
            Reply::Live(live) => UpdateKind::Live(live),
            reply => return Ok(Some(reply)),
        };
        self.take(kind).map(|()| None)
    }

    fn take(&mut self, kind: UpdateKind) -> Result<()> {
        let batch = match kind {
            UpdateKind::Events(batch) => batch,
            UpdateKind::Gap(gap) => {
                ensure!(gap.from_revision == gap.to_revision, "what is kept is missing: {gap:?}");
                self.dropped += gap.dropped_count;
                return Ok(());
            }
            UpdateKind::Live(_) => return Ok(()),
        };
        for event in batch.events()? {
            match event.kind {
                Some(Kind::Message(message)) => {
                    let number = message.body.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                    let number = number.context("a message without a number")?;
                    if message.lane == Lane::Durable as i32 {
                        ensure!(number == self.posts + 1, "post {number} after {}", self.posts);
                        self.posts = number;
                    } else {
                        ensure!(number > self.last_ephemeral, "message {number} after {}", self.last_ephemeral);
                        self.last_ephemeral = number;
                        self.ephemeral += 1;
                    }
                }
                Some(Kind::DocumentUpdate(update)) => {
                    if let Some(update) = self.assembly.take(update)? {
                        self.replica.apply(&update)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn has_log(&self, wanted: &Wanted) -> bool {
        self.posts == wanted.posts
    }

    fn has_text(&self, wanted: &Wanted) -> bool {
        let clocks: u64 = self.replica.clocks().values().sum();
        clocks == wanted.text.len() as u64 && self.replica.text(ROOT) == wanted.text
    }

    /// Each was heard, or counted as dropped.
    fn has_ephemeral(&self, wanted: &Wanted) -> bool {
        self.ephemeral + self.dropped == wanted.ephemeral
    }
}

async fn read_log(mut log: Subscription, posts: u64) -> Result<()> {
    let mut heard = Heard::new();
    while heard.posts < posts {
        heard.take(log.next().await.context("the log ended")??.kind)?;
    }
    Ok(())
}
