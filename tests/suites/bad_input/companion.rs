//! Two who work in the room that the cases play in: what one writes the other has to read, all of it and in order.

use anyhow::{Context, Result, ensure};
use conclave_client::{Client, Session, Subscription, UpdateKind};
use conclave_document::Replica;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::{DescribeDocumentRequest, NewMessage, PostMessageRequest, PushUpdateRequest, Subscribe};
use conclave_tests::cluster::Cluster;
use conclave_types::YjsClient;
use conclave_workload::news::{Assembly, News, ROOT, described_text, news};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::place::ROOM;

const DOCUMENT: &str = "rooms/here/documents/companions";
/// Tells the companions' messages from those of the cases.
const TYPE: &str = "companion";

pub struct Companions {
    client: Client,
    stop: oneshot::Sender<()>,
    writing: JoinHandle<Result<Writer>>,
    reading_log: JoinHandle<Result<()>>,
    reading_document: JoinHandle<Result<String>>,
    reader: Session,
}

/// The session that wrote, and what tells the readers how much.
type Writer = (Session, watch::Sender<Option<usize>>);
/// How many were written, once that is known; each is a message and a letter.
type End = watch::Receiver<Option<usize>>;

impl Companions {
    pub async fn start(cluster: &Cluster) -> Result<Companions> {
        let client = cluster.client_with_room("companion", "here").await?;
        let reader = Session::open(&client, ROOM).await?;
        let follow = |resource: &str| {
            let subscribe = Subscribe { resource: resource.into(), ..Default::default() };
            reader.subscribe(subscribe)
        };
        let (log, document) = (follow("rooms/here/messages").await?, follow(DOCUMENT).await?);
        let (wrote, end) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let writer = Session::open(&client, ROOM).await?;
        Ok(Companions {
            client,
            stop,
            writing: tokio::spawn(write_until(writer, stopped, wrote)),
            reading_log: tokio::spawn(read_log(log, end.clone())),
            reading_document: tokio::spawn(read_document(document, end)),
            reader,
        })
    }

    pub async fn finish(self) -> Result<()> {
        let _ = self.stop.send(());
        // Whoever reads on still listens for the end.
        let (writer, _wrote) = self.writing.await??;
        self.reading_log.await?.context("the log")?;
        let text = self.reading_document.await?.context("the document")?;
        ensure!(!text.is_empty(), "the companion never came to write");
        for (who, session) in [("writer", &writer), ("reader", &self.reader)] {
            ensure!(session.resumes() == 0, "the {who}'s session was lost {} times", session.resumes());
        }
        let describe = DescribeDocumentRequest { name: DOCUMENT.into(), ..Default::default() };
        let described = self.client.describe_document(describe).await?;
        ensure!(described_text(&described.json)? == text, "the reader's text is not the document's");
        writer.close().await;
        self.reader.close().await;
        Ok(())
    }
}

async fn write_until(
    session: Session,
    mut stopped: oneshot::Receiver<()>,
    wrote: watch::Sender<Option<usize>>,
) -> Result<Writer> {
    let mut replica = Replica::new(YjsClient(4_711));
    let mut count = 0_usize;
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let update = replica.insert(ROOT, count as u32, letter(count))?;
        let push = PushUpdateRequest { name: DOCUMENT.into(), update, ..Default::default() };
        let body = count.to_string().into();
        let message = Some(NewMessage { r#type: TYPE.into(), body, ..Default::default() });
        let post = PostMessageRequest { parent: ROOM.into(), message, ..Default::default() };
        let (pushed, posted) = (session.push_update(push), session.post_message(post));
        pushed.await.with_context(|| format!("letter {count}"))?;
        posted.await.with_context(|| format!("message {count}"))?;
        count += 1;
    }
    wrote.send_replace(Some(count));
    Ok((session, wrote))
}

async fn read_log(mut log: Subscription, mut end: End) -> Result<()> {
    let mut seen = 0;
    while *end.borrow() != Some(seen) {
        tokio::select! {
            update = log.next() => match update.context("the log ended")??.kind {
                UpdateKind::Events(batch) => for event in batch.events()? {
                    let Some(Kind::Message(message)) = event.kind else { continue };
                    if message.r#type == TYPE {
                        ensure!(message.body == seen.to_string(), "message {:?} instead of {seen}", message.body);
                        seen += 1;
                    }
                },
                UpdateKind::Gap(gap) => anyhow::bail!("a gap: {gap:?}"),
                UpdateKind::Live(_) => {}
            },
            changed = end.changed() => changed.context("the writer is gone")?,
        }
    }
    Ok(())
}

async fn read_document(mut document: Subscription, mut end: End) -> Result<String> {
    let (mut replica, mut assembly) = (Replica::new(YjsClient(4_712)), Assembly::default());
    let held = |replica: &Replica| replica.clocks().values().sum::<u64>() as usize;
    loop {
        if *end.borrow() == Some(held(&replica)) {
            let text = replica.text(ROOT);
            let expected = (0..text.len()).map(letter).collect::<String>();
            ensure!(!replica.has_pending() && text == expected, "the letters are not those that were written");
            return Ok(text);
        }
        tokio::select! {
            update = document.next() => {
                let update = update.context("the document's subscription ended")??;
                if let News::Updates(updates) = news(update, &mut assembly)? {
                    updates.iter().try_for_each(|update| replica.apply(update).map(drop))?;
                }
            }
            changed = end.changed() => changed.context("the writer is gone")?,
        }
    }
}

fn letter(number: usize) -> &'static str {
    let letters = "abcdefghijklmnopqrstuvwxyz";
    let at = number % letters.len();
    &letters[at..=at]
}
