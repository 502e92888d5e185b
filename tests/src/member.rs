//! A member of a lively room: edits, posts, sends, leaves and comes back at random, and remembers all it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use conclave_client::{Client, Session, Subscription, Update, UpdateKind};
use conclave_document::{Edit, Replica};
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::participant_change::Kind as Change;
use conclave_proto::v1::{
    AttachParticipantRequest, Lane, NewMessage, PostMessageRequest, PushUpdateRequest, SendEphemeralRequest, Subscribe,
};
use conclave_types::{Clocks, YjsClient};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::editor::holds;
use conclave_workload::dice::Dice;
use conclave_workload::news::{Assembly, News, ROOT, news};

/// Between two acts of one member.
const PACE: Duration = Duration::from_millis(40);

/// When everybody has stopped acting: what a member must have before it may go.
#[derive(Debug, Clone)]
pub struct Complete {
    pub last_message: u64,
    pub clocks: Clocks,
}

/// What a member knows in the end.
#[derive(Debug)]
pub struct Memory {
    /// Bodies of messages by revision: those it was told, and its own.
    pub messages: BTreeMap<u64, Bytes>,
    pub text: String,
    pub clocks: Clocks,
    pub ephemeral_heard: u64,
    pub left_and_came_back: u64,
}

/// What a durable act came to.
enum Done {
    Posted { revision: u64, body: Bytes },
    Other,
}

struct Attached {
    session: Session,
    messages: Subscription,
    document: Subscription,
    ephemeral: Subscription,
    participants: Subscription,
}

pub struct Member {
    name: String,
    room: String,
    others: usize,
    client: Client,
    dice: Dice,
    replica: Replica,
    assembly: Assembly,
    messages: BTreeMap<u64, Bytes>,
    /// The last message it was told; the next is above.
    told: u64,
    cursor: u64,
    present: BTreeSet<String>,
    pending: FuturesUnordered<BoxFuture<'static, Result<Done>>>,
    posted: u64,
    ephemeral_heard: u64,
    left_and_came_back: u64,
}

/// What members are called.
pub fn name_of(index: usize) -> String {
    format!("member-{index}")
}

impl Member {
    /// One of `count` members; `client` carries a token of its name.
    pub fn new(index: usize, count: usize, room: &str, client: Client, seed: u64) -> Member {
        Member {
            name: name_of(index),
            room: format!("rooms/{room}"),
            others: count,
            client,
            dice: Dice::new(seed + index as u64),
            replica: Replica::new(YjsClient(1_000 + index as u64)),
            assembly: Assembly::default(),
            messages: BTreeMap::new(),
            told: 0,
            cursor: 0,
            present: BTreeSet::new(),
            pending: FuturesUnordered::new(),
            posted: 0,
            ephemeral_heard: 0,
            left_and_came_back: 0,
        }
    }

    /// Acts until `until`, says so, and listens on until it has everything.
    pub async fn live(
        mut self,
        until: Instant,
        stopped: mpsc::Sender<()>,
        mut complete: watch::Receiver<Option<Complete>>,
    ) -> Result<Memory> {
        let mut attached = self.attach().await?;
        let mut pace = tokio::time::interval(PACE);
        let mut acting = true;
        loop {
            if !acting && complete.borrow_and_update().as_ref().is_some_and(|complete| self.has(complete)) {
                break;
            }
            if acting && Instant::now() >= until && self.pending.is_empty() {
                acting = false;
                stopped.send(()).await?;
            }
            tokio::select! {
                told = attached.messages.next() => self.hear_message(told.context("messages ended")??)?,
                told = attached.document.next() => self.merge(told.context("the document ended")??)?,
                told = attached.ephemeral.next() => self.hear_ephemeral(told.context("ephemeral ended")??)?,
                told = attached.participants.next() => self.see(told.context("participants ended")??)?,
                Some(done) = self.pending.next() => self.note(done?)?,
                changed = complete.changed(), if !acting => changed?,
                _ = pace.tick(), if acting => if Instant::now() < until {
                    if self.dice.roll(100) < 2 {
                        attached = self.leave_and_come_back(attached).await?;
                    } else {
                        self.act(&attached.session)?;
                    }
                },
            }
        }
        ensure!(!self.replica.has_pending(), "{}: updates came before those that they build on", self.name);
        attached.session.close().await;
        Ok(Memory {
            messages: self.messages,
            text: self.replica.text(ROOT),
            clocks: self.replica.clocks(),
            ephemeral_heard: self.ephemeral_heard,
            left_and_came_back: self.left_and_came_back,
        })
    }

    fn has(&self, complete: &Complete) -> bool {
        self.told.max(self.messages.keys().next_back().copied().unwrap_or_default()) >= complete.last_message
            && holds(&self.replica.clocks(), &complete.clocks)
    }

    async fn attach(&mut self) -> Result<Attached> {
        let session = Session::open(&self.client, &self.room).await.context("open a session")?;
        let attach = AttachParticipantRequest { parent: self.room.clone(), replace: true, ..Default::default() };
        session.attach_participant(attach).await.context("attach")?;
        let resource = |what: &str| format!("{}/{what}", self.room);
        let follow = Subscribe { resource: resource("messages"), after_revision: self.cursor, ..Default::default() };
        let open = Subscribe {
            resource: resource("documents/board"),
            state_vector: self.replica.state_vector(),
            ..Default::default()
        };
        let listen = Subscribe { resource: resource("ephemeral"), ..Default::default() };
        let watch = Subscribe { resource: resource("participants"), ..Default::default() };
        self.assembly = Assembly::default();
        Ok(Attached {
            messages: session.subscribe(follow).await.context("follow the log")?,
            document: session.subscribe(open).await.context("open the document")?,
            ephemeral: session.subscribe(listen).await.context("listen")?,
            participants: session.subscribe(watch).await.context("watch participants")?,
            session,
        })
    }

    /// An orderly end: every reply is waited for, and the next session goes on after what was told.
    async fn leave_and_come_back(&mut self, attached: Attached) -> Result<Attached> {
        let Attached { session, messages, document, ephemeral, participants } = attached;
        self.cursor = self.cursor.max(messages.cursor());
        drop((messages, document, ephemeral, participants));
        session.close().await;
        while let Some(done) = self.pending.next().await {
            self.note(done?)?;
        }
        self.left_and_came_back += 1;
        self.attach().await
    }

    fn act(&mut self, session: &Session) -> Result<()> {
        match self.dice.roll(10) {
            0..=4 => self.edit(session),
            5..=7 => {
                self.post(session);
                Ok(())
            }
            _ => {
                self.send(session);
                Ok(())
            }
        }
    }

    fn edit(&mut self, session: &Session) -> Result<()> {
        let length = self.replica.text(ROOT).len();
        let at = self.dice.roll(length + 1) as u32;
        let edit = match self.dice.roll(4) {
            0 if length > 20 => Edit { at: at.min(length as u32 - 3), delete: 3, insert: String::new() },
            _ => Edit { at, delete: 0, insert: ["a", "bc", "def", "\n"][self.dice.roll(4)].into() },
        };
        let update = self.replica.edit(ROOT, &[edit])?;
        let name = format!("{}/documents/board", self.room);
        let reply = session.push_update(PushUpdateRequest { name, update, ..Default::default() });
        self.pending.push(async move { reply.await.context("push").map(|_| Done::Other) }.boxed());
        Ok(())
    }

    fn post(&mut self, session: &Session) {
        self.posted += 1;
        let body = Bytes::from(format!("{}: {}", self.name, self.posted));
        let message = Some(NewMessage { r#type: "chat".into(), body: body.clone(), ..Default::default() });
        let reply =
            session.post_message(PostMessageRequest { parent: self.room.clone(), message, ..Default::default() });
        let posted = async move { Ok(Done::Posted { revision: reply.await.context("post")?.revision, body }) };
        self.pending.push(posted.boxed());
    }

    fn send(&mut self, session: &Session) {
        let to = match self.dice.roll(3) {
            0 => Vec::new(),
            // Whoever left a moment ago is not there: that is told, and no failure.
            some => (0..some).map(|_| name_of(self.dice.roll(self.others))).collect(),
        };
        let message = Some(NewMessage { r#type: "wave".into(), body: self.name.clone().into(), ..Default::default() });
        let reply = session.send_ephemeral(SendEphemeralRequest { parent: self.room.clone(), message, to });
        self.pending.push(
            async move {
                match reply.await {
                    Ok(sent) => ensure!(sent.lane() == Lane::Ephemeral, "{sent:?}"),
                    Err(error) => ensure!(error.code == tonic::Code::NotFound, "{error}"),
                }
                Ok(Done::Other)
            }
            .boxed(),
        );
    }

    fn note(&mut self, done: Done) -> Result<()> {
        if let Done::Posted { revision, body } = done {
            self.remember(revision, body)?;
        }
        Ok(())
    }

    /// A message may be told after its reply was seen, when it was posted in an earlier session.
    fn remember(&mut self, revision: u64, body: Bytes) -> Result<()> {
        let known = self.messages.insert(revision, body.clone());
        ensure!(known.is_none_or(|known| known == body), "{}: two messages at revision {revision}", self.name);
        Ok(())
    }

    fn hear_message(&mut self, update: Update) -> Result<()> {
        self.cursor = self.cursor.max(update.revision);
        match update.kind {
            UpdateKind::Events(batch) => {
                for event in batch.events()? {
                    let Some(Kind::Message(message)) = event.kind else { continue };
                    let (last, revision) = (self.told, event.revision);
                    ensure!(revision > last, "{}: message {revision} was told after {last}", self.name);
                    ensure!(message.lane() == Lane::Durable, "{message:?}");
                    self.told = revision;
                    self.remember(revision, message.body)?;
                }
            }
            UpdateKind::Gap(gap) => anyhow::bail!("{}: a gap in a log that keeps everything: {gap:?}", self.name),
            UpdateKind::Live(_) => {}
        }
        Ok(())
    }

    fn merge(&mut self, update: Update) -> Result<()> {
        if let News::Updates(updates) = news(update, &mut self.assembly)? {
            for update in updates {
                self.replica.apply(&update)?;
            }
        }
        Ok(())
    }

    fn hear_ephemeral(&mut self, update: Update) -> Result<()> {
        if let UpdateKind::Events(batch) = update.kind {
            for event in batch.events()? {
                let Some(Kind::Message(message)) = event.kind else { continue };
                ensure!(message.lane() == Lane::Ephemeral, "{message:?}");
                ensure!(event.participant != self.name, "{} was told what it sent itself", self.name);
                let is_for_me = message.to.is_empty() || message.to.contains(&self.name);
                ensure!(is_for_me, "{} was told what was for {:?}", self.name, message.to);
                self.ephemeral_heard += 1;
            }
        }
        Ok(())
    }

    fn see(&mut self, update: Update) -> Result<()> {
        let UpdateKind::Events(batch) = update.kind else { return Ok(()) };
        for event in batch.events()? {
            match event.kind {
                Some(Kind::ParticipantSnapshot(snapshot)) => {
                    self.present = snapshot.participants.into_iter().map(|participant| participant.name).collect();
                }
                Some(Kind::ParticipantChange(change)) => {
                    let kind = change.kind();
                    let name = change.participant.context("a change without its participant")?.name;
                    match kind {
                        Change::Attached | Change::Updated => self.present.insert(name),
                        Change::Detached | Change::LeaseEnded => self.present.remove(&name),
                        Change::Unspecified => anyhow::bail!("a change of no kind"),
                    };
                }
                _ => {}
            }
        }
        Ok(())
    }
}
