//! Clients that edit a document at the same time, each with a replica of its own.
//!
//! An author types through a session and merges what the document's subscription brings; a reader only merges. Both go by
//! the protocol alone: updates, states in parts, `Live`.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use conclave_client::{Client, EventStream, Session, Subscription, Update};
use conclave_document::{Edit, Replica};
use conclave_proto::v1::{OpenDocumentRequest, PushUpdateRequest, PushUpdateResponse, Subscribe};
use conclave_types::{Clocks, YjsClient};
use conclave_workload::news::{Assembly, News, ROOT, news};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::watch;

use crate::progress::Progress;
use crate::trace::{AuthoredEdit, Patch};

/// Longer than any fault of a test.
const RECONNECT_FOR: Duration = Duration::from_secs(30);

/// An author to whom nothing comes for so long waits for something that is lost.
const STILL_FOR: Duration = Duration::from_secs(30);

/// The edits of a transaction on a replica, as one update.
pub fn edit(replica: &mut Replica, patches: &[Patch]) -> Result<Bytes> {
    let edits: Vec<Edit> = patches
        .iter()
        .map(|Patch(position, deleted, inserted)| Edit {
            at: *position as u32,
            delete: *deleted as u32,
            insert: inserted.clone(),
        })
        .collect();
    replica.edit(ROOT, &edits).context("an edit does not fit the replica's text")
}

/// Types edits into a document through a session, as many at once as it lets through. Each is made when the replica
/// holds what its author saw; what others push meanwhile waits its turn.
pub async fn type_as(
    session: &Session,
    document: &str,
    author: usize,
    edits: &[AuthoredEdit],
    progress: &Progress,
) -> Result<Replica> {
    let mut replica = Replica::new(YjsClient(author as u64 + 1));
    let subscribe = Subscribe { resource: document.to_owned(), ..Default::default() };
    let mut others = session.subscribe(subscribe).await.context("open the document")?;
    let (mut assembly, mut waiting, mut merged) = (Assembly::default(), VecDeque::<Bytes>::new(), 0);
    let mut replies = FuturesOrdered::new();
    let mut remaining = edits.iter().peekable();
    while remaining.peek().is_some() || !replies.is_empty() {
        // Of each other author the edits that the next one builds on; the trace has two authors.
        let needed = remaining.peek().map(|next| next.after.iter().sum::<usize>() - next.after[author]);
        while needed.is_some_and(|needed| merged < needed)
            && let Some(update) = waiting.pop_front()
        {
            replica.apply(&update).context("another author's update")?;
            merged += 1;
        }
        let may_type = needed.is_some_and(|needed| merged == needed);
        tokio::select! {
            () = tokio::time::sleep(STILL_FOR) => bail!(
                "author {author} stands still: {} edits left, the next builds on {needed:?} edits of others, {merged} are \
                 merged, {} wait, {} replies are due",
                remaining.len(),
                waiting.len(),
                replies.len()
            ),
            Some(reply) = replies.next(), if !replies.is_empty() => {
                let _: PushUpdateResponse = Result::context(reply, "a push failed")?;
                progress.note(1);
            }
            told = others.next() => {
                let told = told.context("the document's subscription ended")??;
                if let News::Updates(updates) = news(told, &mut assembly)? {
                    waiting.extend(updates);
                }
            }
            () = session.ready(), if may_type => {
                let Some(next) = remaining.next() else { continue };
                let update = edit(&mut replica, &next.patches)?;
                let request = PushUpdateRequest { name: document.to_owned(), update, ..Default::default() };
                replies.push_back(session.push_update(request));
            }
        }
    }
    for update in waiting {
        replica.apply(&update)?;
    }
    Ok(replica)
}

/// Where a reader has its document from.
#[derive(Debug)]
pub enum Source {
    Session(Subscription),
    Stream(EventStream<OpenDocumentRequest>),
}

impl Source {
    async fn next(&mut self) -> Result<Update> {
        let told = match self {
            Source::Session(subscription) => subscription.next().await,
            Source::Stream(stream) => stream.next().await,
        };
        Ok(told.context("the document's stream ended")??)
    }
}

/// The clocks at which a text is complete; none as long as nobody knows.
pub type End = watch::Receiver<Option<Clocks>>;

/// Merges a document's stream until its end is known and held, and returns the text.
pub async fn read_to(mut source: Source, mut end: End) -> Result<String> {
    let mut replica = Replica::new(YjsClient(1 << 40));
    let mut assembly = Assembly::default();
    loop {
        let is_complete = end.borrow_and_update().as_ref().is_some_and(|end| holds(&replica.clocks(), end));
        if is_complete {
            break;
        }
        tokio::select! {
            told = source.next() => if let News::Updates(updates) = news(told?, &mut assembly)? {
                for update in updates {
                    replica.apply(&update)?;
                }
            },
            changed = end.changed() => changed.context("nobody says where the text ends")?,
        }
    }
    ensure!(!replica.has_pending(), "updates came before those that they build on");
    Ok(replica.text(ROOT))
}

pub fn holds(clocks: &Clocks, wanted: &Clocks) -> bool {
    wanted.iter().all(|(client, clock)| clocks.get(client).is_some_and(|held| held >= clock))
}

/// A document opened by a server stream, which goes on by itself when it is lost.
pub async fn open(client: &Client, document: &str) -> Result<Source> {
    let request = OpenDocumentRequest { name: document.to_owned(), ..Default::default() };
    let stream = client.open_document(request).await.context("open the document")?;
    Ok(Source::Stream(stream.reconnecting(RECONNECT_FOR)))
}

/// A document opened by a session.
pub async fn subscribe(session: &Session, document: &str) -> Result<Source> {
    let request = Subscribe { resource: document.to_owned(), ..Default::default() };
    Ok(Source::Session(session.subscribe(request).await.context("open the document")?))
}
