//! Server streams of events: the same elements as a session's subscriptions, for programs that want nothing else.
//!
//! A stream keeps its cursor. Told so by [`EventStream::reconnecting`], it takes a lost stream up again after it, and the
//! program sees every event once, across gateways that come and go.

use std::time::Duration;

use conclave_proto::v1::*;
use tonic::{Status, Streaming};

use crate::reconnect::Attempts;
use crate::{Client, ClientError, Update, UpdateKind};

/// A request for a stream of events.
pub trait StreamRequest: Clone + Send + Sync + 'static {
    /// One element as it comes.
    type Element: Into<Option<Update>> + Send + 'static;

    #[doc(hidden)]
    fn open(self, client: &Client) -> impl Future<Output = Result<Streaming<Self::Element>, Status>> + Send;

    /// Asks for what comes after this revision only.
    #[doc(hidden)]
    fn resume_after(&mut self, _revision: u64) {}
}

/// A request whose stream misses nothing when it is lost and asked for again.
pub trait Resumable: StreamRequest {}

/// A stream of events. Dropping it ends it.
#[derive(Debug)]
pub struct EventStream<R: StreamRequest> {
    client: Client,
    request: R,
    /// None once it was lost or has ended.
    stream: Option<Streaming<R::Element>>,
    cursor: u64,
    /// None: a loss ends it.
    attempts: Option<Attempts>,
    ended: bool,
}

impl<R: StreamRequest> EventStream<R> {
    pub(crate) async fn open(client: &Client, request: R) -> Result<Self, ClientError> {
        let stream = Some(request.clone().open(client).await?);
        Ok(EventStream { client: client.clone(), request, stream, cursor: 0, attempts: None, ended: false })
    }

    /// The next element; none after the end. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Update, ClientError>> {
        while !self.ended {
            let received = match &mut self.stream {
                Some(stream) => stream.message().await.map_err(ClientError::from),
                None => self.reopen().await.map(|()| None),
            };
            match received {
                Ok(Some(element)) => {
                    if let Some(attempts) = &mut self.attempts {
                        attempts.restart();
                    }
                    // An element of a later version may hold nothing that this one knows.
                    let Some(update) = element.into() else { continue };
                    self.cursor = self.cursor.max(update.revision);
                    return Some(Ok(update));
                }
                Ok(None) if self.was_reopened() => {}
                Ok(None) => self.ended = true,
                Err(error) => {
                    if let Err(error) = self.lost(error).await {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }

    /// The newest revision that an element carried: where another stream may go on. 0 before the first.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }
}
