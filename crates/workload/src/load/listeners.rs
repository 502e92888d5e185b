//! Followers of the room's log, and documents kept open: each goes on after its cursor whatever happens to its stream.
//!
//! A stream that takes itself up again is dropped now and then and opened anew after its cursor, as a client does that
//! was away.

use std::time::Duration;

use anyhow::{Context, Result};
use conclave_client::{Client, ClientError, EventStream, Subscription, Update, UpdateKind};
use conclave_document::Replica;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::{FollowMessagesRequest, OpenDocumentRequest, Subscribe};
use conclave_types::YjsClient;

use super::actor::Actor;
use super::document_name;
use crate::history::{DocumentCopy, Heard, Transcript, Value};
use crate::news::{Assembly, News, ROOT, news};

/// How long a stream takes itself up again; after that the actor opens another one.
const RECONNECT_FOR: Duration = Duration::from_secs(10);
/// Updates of a thousand after which a listener goes away and comes back.
const LEAVING: usize = 5;
/// Yjs clients of copies: apart from all writers.
const COPY_CLIENTS: u64 = 1 << 40;

/// Follows the log by a stream of its own.
pub async fn follow_stream(mut actor: Actor) -> Transcript {
    let mut transcript = Transcript::new(&actor);
    while actor.turn().await {
        let Ok(mut stream) = transcript.open(&actor.client, &actor.name).await else { continue };
        let (stopped, mut listening) = (actor.stopped(), true);
        tokio::pin!(stopped);
        while listening {
            tokio::select! {
                told = stream.next() => listening = transcript.take(told) && actor.stays(),
                () = &mut stopped => listening = false,
            }
        }
    }
    transcript
}

/// Follows the log by a subscription of a session that does nothing else.
pub async fn follow_in_session(mut actor: Actor) -> Transcript {
    let mut transcript = Transcript::new(&actor);
    while let Some(attached) = actor.attach().await {
        let (resource, after_revision) = (format!("{}/messages", actor.name), transcript.goes_on_after());
        let subscribe = Subscribe { resource, after_revision, ..Default::default() };
        match attached.session.subscribe(subscribe).await {
            Ok(mut subscription) => listen(&mut actor, &mut subscription, &mut transcript).await,
            Err(error) => transcript.note_refusal(&error),
        }
        attached.close().await;
    }
    transcript
}

async fn listen(actor: &mut Actor, subscription: &mut Subscription, transcript: &mut Transcript) {
    let (stopped, mut listening) = (actor.stopped(), true);
    tokio::pin!(stopped);
    while listening {
        tokio::select! {
            told = subscription.next() => listening = transcript.take(told) && actor.stays(),
            () = &mut stopped => listening = false,
        }
    }
}

impl Actor {
    fn stays(&mut self) -> bool {
        self.dice.roll(1_000) >= LEAVING
    }
}

impl Transcript {
    fn new(actor: &Actor) -> Transcript {
        let (heard, breaks) = (Vec::new(), Vec::new());
        Transcript { follower: actor.number, room: actor.room, heard, complete_to: 0, resumes: 0, breaks }
    }

    /// Its cursor, which it is about to be taken up after.
    fn goes_on_after(&mut self) -> u64 {
        self.resumes += u32::from(self.complete_to > 0);
        self.complete_to
    }

    async fn open(&mut self, client: &Client, room: &str) -> Result<EventStream<FollowMessagesRequest>, ClientError> {
        let request = FollowMessagesRequest { parent: room.to_owned(), after_revision: self.goes_on_after() };
        match client.follow_messages(request).await {
            Ok(stream) => Ok(stream.reconnecting(RECONNECT_FOR)),
            Err(error) => {
                self.note_refusal(&error);
                Err(error)
            }
        }
    }

    /// Takes what a stream told; false when it has ended.
    fn take(&mut self, told: Option<Result<Update, ClientError>>) -> bool {
        let update = match told {
            None => return false,
            Some(Err(error)) => {
                self.note_refusal(&error);
                return false;
            }
            Some(Ok(update)) => update,
        };
        match update.kind {
            UpdateKind::Events(batch) => match batch.events() {
                Ok(events) => self.heard.extend(events.into_iter().filter_map(|event| match event.kind {
                    Some(Kind::Message(message)) => {
                        Some(Heard { revision: event.revision, value: Value::of_body(&message.body) })
                    }
                    _ => None,
                })),
                Err(error) => self.breaks.push(format!("events that cannot be read: {error}")),
            },
            UpdateKind::Gap(gap) => self.breaks.push(format!("{gap:?} in a log that keeps everything")),
            UpdateKind::Live(_) => {}
        }
        self.complete_to = self.complete_to.max(update.revision);
        true
    }

    /// A log that refuses to go on after a revision that it told denies its own history.
    fn note_refusal(&mut self, error: &ClientError) {
        let code = error.code;
        if [tonic::Code::OutOfRange, tonic::Code::NotFound, tonic::Code::DataLoss].contains(&code) {
            self.breaks.push(format!("after {}: {error}", self.complete_to));
        }
    }

    /// Listens on until the stream is live: for the end, when nobody posts any more.
    pub async fn complete(&mut self, client: &Client, room: &str) -> Result<()> {
        let mut stream = self.open(client, room).await?;
        loop {
            let told = stream.next().await.context("the log ended before it was live")?;
            let is_live = matches!(&told, Ok(update) if matches!(update.kind, UpdateKind::Live(_)));
            if let Err(error) = &told {
                anyhow::bail!("the log was lost before it was live: {error}");
            }
            self.take(Some(told));
            if is_live {
                return Ok(());
            }
        }
    }
}

/// A document that is kept open through a run, or opened at its end.
pub struct Copy {
    pub room: usize,
    pub document: u16,
    pub reader: String,
    replica: Replica,
    broken: Option<String>,
}

/// Keeps a document open.
pub async fn keep_open(mut actor: Actor, document: u16) -> Copy {
    let mut copy = Copy::new(actor.room, document, format!("kept open by {}", actor.number), u64::from(actor.number));
    while actor.turn().await {
        let Ok(stream) = copy.open(&actor.client, &actor.name).await else { continue };
        let mut stream = stream.reconnecting(RECONNECT_FOR);
        let (mut assembly, stopped, mut listening) = (Assembly::default(), actor.stopped(), true);
        tokio::pin!(stopped);
        while listening {
            tokio::select! {
                told = stream.next() => listening = copy.take(told, &mut assembly).is_some() && actor.stays(),
                () = &mut stopped => listening = false,
            }
        }
    }
    copy
}

impl Copy {
    pub fn new(room: usize, document: u16, reader: String, client: u64) -> Copy {
        let replica = Replica::new(YjsClient(COPY_CLIENTS + client));
        Copy { room, document, reader, replica, broken: None }
    }

    async fn open(&self, client: &Client, room: &str) -> Result<EventStream<OpenDocumentRequest>, ClientError> {
        let name = document_name(room, self.document);
        let state_vector = self.replica.state_vector();
        client.open_document(OpenDocumentRequest { name, state_vector, ..Default::default() }).await
    }

    /// Merges what was told; none when the stream has ended, else whether it is live.
    fn take(&mut self, told: Option<Result<Update, ClientError>>, assembly: &mut Assembly) -> Option<bool> {
        let update = told?.ok()?;
        match news(update, assembly) {
            Ok(News::Updates(updates)) => {
                for update in updates {
                    if let Err(error) = self.replica.apply(&update) {
                        self.broken.get_or_insert(format!("an update that cannot be merged: {error}"));
                    }
                }
                Some(false)
            }
            Ok(News::Live(_)) => Some(true),
            Ok(News::Nothing) => Some(false),
            Err(error) => {
                self.broken.get_or_insert(format!("{error:#}"));
                None
            }
        }
    }

    /// Merges until the stream is live: for the end, when nobody types any more.
    pub async fn complete(&mut self, client: &Client, room: &str) -> Result<DocumentCopy> {
        let mut stream = self.open(client, room).await?;
        let mut assembly = Assembly::default();
        loop {
            let told = stream.next().await.context("the document ended before it was live")?;
            if let Err(error) = &told {
                anyhow::bail!("the document was lost before it was live: {error}");
            }
            if self.take(Some(told), &mut assembly) != Some(false) {
                break;
            }
        }
        let mut text = self.replica.text(ROOT);
        if self.replica.has_pending() {
            self.broken.get_or_insert("updates that build on others which are missing".to_owned());
        }
        if let Some(broken) = &self.broken {
            text.push_str(broken);
        }
        let clocks = self.replica.clocks().into_iter().map(|(client, clock)| (client.0, clock)).collect();
        Ok(DocumentCopy { document: self.document, reader: self.reader.clone(), text, clocks: Some(clocks) })
    }
}
