//! Server streams of events: what a session's subscriptions send, for programs that want nothing else.
//!
//! ```text
//! open ──lost──► lost ──opened again after the cursor──► open …
//!   │ end, refusal  │ time limit, refusal
//!   └──────► ended ◄┘
//! ```
//!
//! A stream knows its cursor. One that is [`EventStream::reconnecting`] takes itself up again after it, so that its
//! reader sees every event once and in order, whichever gateways come and go.

use std::time::Duration;

use conclave_proto::v1::*;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::reconnect::Attempts;
use crate::{Client, ClientError, Update, UpdateKind};

/// A request for a stream of events.
pub trait StreamRequest: Clone + Send + Sync + 'static {
    /// One element as it travels.
    type Element: Send + 'static;

    #[doc(hidden)]
    fn open(self, client: &Client) -> impl Future<Output = Result<Streaming<Self::Element>, Status>> + Send;

    /// None for an element of a later version that holds nothing this one knows.
    #[doc(hidden)]
    fn update(element: Self::Element) -> Option<Update>;

    /// Asks for what comes after this revision only; of no effect where there is no history.
    #[doc(hidden)]
    fn resume_after(&mut self, _revision: u64) {}
}

/// A request whose stream misses nothing when it is lost and asked for again. Ephemeral messages are not among them:
/// what is sent while nobody listens is gone.
pub trait Resumable: StreamRequest {}

/// A stream of events. Dropping it ends it.
#[derive(Debug)]
pub struct EventStream<R: StreamRequest> {
    client: Client,
    request: R,
    state: State<R::Element>,
    cursor: u64,
    /// None: a loss ends it.
    attempts: Option<Attempts>,
}

#[derive(Debug)]
enum State<E> {
    Open {
        // In a box, because it is many times larger than the other states.
        stream: Box<Streaming<E>>,
        /// Whether anything came on it.
        heard: bool,
    },
    Lost {
        try_at: Instant,
    },
    Ended,
}

impl<R: StreamRequest> EventStream<R> {
    pub(crate) async fn open(client: &Client, request: R) -> Result<Self, ClientError> {
        let stream = Box::new(request.clone().open(client).await?);
        let state = State::Open { stream, heard: false };
        Ok(EventStream { client: client.clone(), request, state, cursor: 0, attempts: None })
    }

    /// The next element; none after the end, which an error is too. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Update, ClientError>> {
        loop {
            let failed = match &mut self.state {
                State::Ended => return None,
                State::Open { stream, heard } => match stream.message().await {
                    Ok(Some(element)) => {
                        *heard = true;
                        let Some(update) = R::update(element) else { continue };
                        self.cursor = self.cursor.max(update.revision);
                        return Some(Ok(update));
                    }
                    Ok(None) => {
                        self.state = State::Ended;
                        return None;
                    }
                    Err(status) => status.into(),
                },
                State::Lost { try_at } => {
                    tokio::time::sleep_until(*try_at).await;
                    match self.reopen().await {
                        Ok(stream) => {
                            self.state = State::Open { stream, heard: false };
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            };
            if let Some(error) = self.lose(failed) {
                return Some(Err(error));
            }
        }
    }

    /// The newest revision that an element carried: where another stream may go on. 0 before the first.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    async fn reopen(&self) -> Result<Box<Streaming<R::Element>>, ClientError> {
        let mut request = self.request.clone();
        if self.cursor > 0 {
            request.resume_after(self.cursor);
        }
        let deadline = self.attempts.as_ref().map_or_else(Instant::now, Attempts::deadline);
        let opened = tokio::time::timeout_at(deadline, request.open(&self.client)).await;
        let opened = opened.unwrap_or_else(|_late| Err(Status::unavailable("no answer in time")));
        Ok(Box::new(opened?))
    }

    /// Decides whether to try again; gives the error back if not.
    fn lose(&mut self, error: ClientError) -> Option<ClientError> {
        let heard = matches!(self.state, State::Open { heard: true, .. });
        let Some(attempts) = self.attempts.as_mut().filter(|_| error.is_loss()) else {
            self.state = State::Ended;
            return Some(error);
        };
        if heard {
            attempts.restart();
        }
        if attempts.are_over() {
            self.state = State::Ended;
            return Some(error);
        }
        tracing::debug!(%error, "event stream lost");
        self.state = State::Lost { try_at: attempts.next(error.retry_after) };
        None
    }
}

impl<R: Resumable> EventStream<R> {
    /// Takes the stream up again after its cursor when it is lost, for as long as `limit` after each loss; what the
    /// cluster refuses for good still ends it. Events come once and in order; `Live` comes again.
    pub fn reconnecting(mut self, limit: Duration) -> Self {
        self.attempts = Some(Attempts::new(limit));
        self
    }
}

/// Puts a request, its method, its element and what resumes it together.
macro_rules! streams {
    ($($request:ident: $service:ident.$method:ident -> $element:ident, $module:ident $(, resumed $resume:expr)?;)*) => {$(
        impl StreamRequest for $request {
            type Element = $element;

            async fn open(self, client: &Client) -> Result<Streaming<$element>, Status> {
                Ok(client.$service().$method(client.request(self)).await?.into_inner())
            }

            fn update(element: $element) -> Option<Update> {
                let kind = match element.body? {
                    $module::Body::EventBatch(batch) => UpdateKind::Events(batch),
                    $module::Body::Gap(gap) => UpdateKind::Gap(gap),
                    $module::Body::Live(live) => UpdateKind::Live(live),
                };
                Some(Update { revision: element.revision, kind })
            }

            $(fn resume_after(&mut self, revision: u64) {
                let resume: fn(&mut $request, u64) = $resume;
                resume(self, revision);
            })?
        }
    )*};
}

streams! {
    FollowMessagesRequest: messages.follow_messages -> FollowMessagesResponse, follow_messages_response,
        resumed |request, revision| request.after_revision = revision;
    WatchRoomRequest: rooms.watch_room -> WatchRoomResponse, watch_room_response,
        resumed |request, revision| request.after_revision = revision;
    // A document that was deleted meanwhile is not to be made again.
    OpenDocumentRequest: documents.open_document -> OpenDocumentResponse, open_document_response,
        resumed |request, revision| (request.after_revision, request.create) = (revision, Some(false));
    WatchParticipantsRequest: participants.watch_participants -> WatchParticipantsResponse, watch_participants_response;
    ConsumeItemsRequest: queues.consume_items -> ConsumeItemsResponse, consume_items_response;
    ReceiveEphemeralRequest: messages.receive_ephemeral -> ReceiveEphemeralResponse, receive_ephemeral_response;
}

impl Resumable for FollowMessagesRequest {}
impl Resumable for WatchRoomRequest {}
impl Resumable for OpenDocumentRequest {}
/// Begins again with what the consumer holds, so a delivery may come twice, with the same attempt.
impl Resumable for ConsumeItemsRequest {}
/// Begins again with a snapshot.
impl Resumable for WatchParticipantsRequest {}
