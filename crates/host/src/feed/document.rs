//! One document: what the follower lacks, then its updates and its awareness.
//!
//! ```text
//!            a turn is free       the shard has read it        all was sent
//!  Waiting ────────────────► Reading ───────────► Sending ───────────► Following
//!     ▲                                                                   │
//!     └───────────────── the ring has moved past ─────────────────────────┘
//! ```
//!
//! The first time the follower joins by its state vector or by its revision; a follower that falls behind joins again by
//! the revision it has. Its awareness is sent anew then, and it is told if some was dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use conclave_proto::events::EventBatch;
use conclave_room::read;
use conclave_types::{Clocks, DocumentNumber, DocumentPath, Revision};
use futures::FutureExt;
use tokio::sync::{Notify, oneshot};

use super::backlog::{Backlog, Next, Update};
use super::turns::{Turn, Turns};
use super::{Cursor, ELEMENT_BYTES, Element, FeedPlace};
use crate::documents::{self, Joined, JoinedUpdate, Joining};
use crate::faults::Fault;
use crate::hub::{Channel, Listening, Published, Taken};
use crate::shard::broken;

const NO_REVISION: Revision = Revision(0);

pub struct DocumentFeed {
    at: FeedPlace,
    number: DocumentNumber,
    listening: Listening,
    wake: Arc<Notify>,
    turns: Turns,
    /// As it was when the document was last read.
    path: DocumentPath,
    /// What the follower has, until the first join was sent whole.
    first: Joining,
    /// Of no meaning before.
    cursor: Cursor,
    joined_once: bool,
    said_live: bool,
    phase: Phase,
}

enum Phase {
    Waiting,
    Reading { joined: oneshot::Receiver<Result<Joined, Fault>>, turn: Turn },
    Sending { backlog: Backlog, revision: Revision, vector: Bytes, _turn: Turn },
    Awareness { shown: VecDeque<Arc<Published>>, vector: Bytes },
    Following,
}

impl DocumentFeed {
    /// Finds or makes the document, and joins its channel before storage is read, so that nothing falls between them.
    pub async fn open(
        at: FeedPlace,
        path: DocumentPath,
        vector: Clocks,
        create: bool,
        after: Revision,
        wake: Arc<Notify>,
        turns: Turns,
    ) -> Result<Self, Fault> {
        let create = create && at.claims.may_edit(&path);
        let participant = &at.claims.participant;
        let view = documents::open(&at.shard, &at.leading, at.room, &path, create, participant).await?;
        let listening = at.join(Channel::Document(view.number), &wake);
        let first = if after == NO_REVISION { Joining::Vector(vector) } else { Joining::After(after) };
        Ok(DocumentFeed {
            at,
            number: view.number,
            listening,
            wake,
            turns,
            path,
            first,
            cursor: Cursor::at(NO_REVISION),
            joined_once: false,
            said_live: false,
            phase: Phase::Waiting,
        })
    }

    pub fn is_pending(&self) -> bool {
        match &self.phase {
            Phase::Waiting => self.turns.is_free(),
            Phase::Reading { .. } | Phase::Sending { .. } | Phase::Awareness { .. } => true,
            Phase::Following => self.listening.is_pending(),
        }
    }

    /// It has fallen behind, or has not begun: its next events come from storage.
    pub fn is_behind(&self) -> bool {
        !matches!(self.phase, Phase::Following)
    }

    pub fn next(&mut self) -> Result<Option<Element>, Fault> {
        loop {
            let phase = std::mem::replace(&mut self.phase, Phase::Waiting);
            let (next, element) = match phase {
                Phase::Waiting => match self.turns.take() {
                    Some(turn) => (Phase::Reading { joined: self.read(), turn }, None),
                    None => return Ok(None),
                },
                Phase::Reading { mut joined, turn } => match joined.try_recv() {
                    Ok(joined) => (self.sending(joined?, turn)?, None),
                    Err(oneshot::error::TryRecvError::Empty) => {
                        self.phase = Phase::Reading { joined, turn };
                        return Ok(None);
                    }
                    Err(oneshot::error::TryRecvError::Closed) => return Err(self.at.shard.not_leader()),
                },
                Phase::Sending { backlog, revision, vector, _turn } => self.send(backlog, revision, vector, _turn),
                Phase::Awareness { shown, vector } => self.show(shown, vector),
                Phase::Following => match self.follow()? {
                    Followed::Nothing => {
                        self.phase = Phase::Following;
                        return Ok(None);
                    }
                    Followed::Element(element) => (Phase::Following, Some(element)),
                    Followed::Behind(gap) => (Phase::Waiting, gap),
                },
            };
            self.phase = next;
            if element.is_some() {
                return Ok(element);
            }
        }
    }

    /// Reads what the follower lacks: a small document at once, a larger one by a task of the shard.
    fn read(&self) -> oneshot::Receiver<Result<Joined, Fault>> {
        let have = if self.joined_once { Joining::After(self.cursor.sent()) } else { self.first.clone() };
        let (shard, room, number) = (self.at.shard.clone(), self.at.room, self.number);
        let mut join = Box::pin(async move { documents::join(&shard, room, number, have).await });
        let (mut tell, joined) = oneshot::channel();
        if let Some(done) = (&mut join).now_or_never() {
            // The receiver is here.
            let _ = tell.send(done);
            return joined;
        }
        let (leading, wake) = (self.at.leading.clone(), self.wake.clone());
        self.at.shard.spawn(async move {
            let done = tokio::select! {
                () = leading.ended.cancelled() => None,
                () = tell.closed() => None,
                done = join => Some(done),
            };
            match done {
                // A feed that is gone needs it no more.
                Some(done) => drop(tell.send(done)),
                None => drop(tell),
            }
            wake.notify_one();
        });
        joined
    }

    fn sending(&mut self, joined: Joined, turn: Turn) -> Result<Phase, Fault> {
        let Joined { updates, revision, vector } = joined;
        let (tables, group) = (self.at.shard.tables(), self.at.shard.group_id());
        let view = read::document_by_number(&tables, group, self.at.room, self.number).map_err(broken)?;
        self.path = view.ok_or_else(|| self.gone())?.path;
        // By revision: what the follower's session pushed itself it has. By its vector it may have lost it.
        let by_vector = !self.joined_once && matches!(self.first, Joining::Vector(_));
        let mut backlog = Backlog::default();
        for JoinedUpdate { revision, time, participant, session, update, state } in updates {
            if by_vector || state || !self.at.is_own(session) {
                backlog.push_update(Update {
                    revision,
                    time,
                    participant,
                    path: self.path.clone(),
                    bytes: update,
                    state,
                });
            }
        }
        Ok(Phase::Sending { backlog, revision, vector, _turn: turn })
    }

    /// The cursor does not move before all was sent.
    fn send(
        &mut self,
        mut backlog: Backlog,
        revision: Revision,
        vector: Bytes,
        turn: Turn,
    ) -> (Phase, Option<Element>) {
        let next = backlog.next();
        let before = self.cursor.sent();
        let phase = if backlog.is_empty() {
            self.cursor = Cursor::at(revision);
            self.joined_once = true;
            let shown = self.at.leading.awareness.snapshot(self.at.room, self.number);
            let shown = shown.into_iter().filter(|event| !self.at.is_own(event.origin)).collect();
            Phase::Awareness { shown, vector }
        } else {
            Phase::Sending { backlog, revision, vector, _turn: turn }
        };
        let sent = if matches!(phase, Phase::Awareness { .. }) { revision } else { before };
        let element = next.map(|next| match next {
            Next::Events(batch) => Element::events(sent, batch),
            Next::Gap(gap) => Element { revision: sent.0, body: super::ElementBody::Gap(gap) },
        });
        (phase, element)
    }

    fn show(&mut self, mut shown: VecDeque<Arc<Published>>, vector: Bytes) -> (Phase, Option<Element>) {
        let mut batch = EventBatch::default();
        while let Some(event) = shown.front()
            && (batch.is_empty() || batch.len() + event.event.len() <= ELEMENT_BYTES)
        {
            batch.push(&event.event);
            shown.pop_front();
        }
        let sent = self.cursor.sent();
        if !batch.is_empty() {
            return (Phase::Awareness { shown, vector }, Some(Element::events(sent, batch)));
        }
        let live = (!self.said_live).then(|| Element::live(sent, vector));
        self.said_live = true;
        (Phase::Following, live)
    }

    fn follow(&mut self) -> Result<Followed, Fault> {
        loop {
            let mut taken = Vec::new();
            match self.listening.take(ELEMENT_BYTES, |_| true, &mut taken) {
                Taken::Nothing => return Ok(Followed::Nothing),
                Taken::Ended => return Err(self.ended()),
                // The updates come from storage: only awareness is lost.
                Taken::Behind { dropped } => {
                    let gap = (dropped > 0).then(|| Element::dropped(self.cursor.sent(), dropped));
                    return Ok(Followed::Behind(gap));
                }
                Taken::Some => {
                    let batch = self.cursor.batch(&taken);
                    if !batch.is_empty() {
                        return Ok(Followed::Element(Element::events(self.cursor.sent(), batch)));
                    }
                }
            }
        }
    }

    /// The document was deleted, or its room.
    fn ended(&self) -> Fault {
        match self.at.revision() {
            Ok(_) => self.gone(),
            Err(fault) => fault,
        }
    }

    fn gone(&self) -> Fault {
        Fault::document_not_found(self.path.as_str())
    }
}

enum Followed {
    Nothing,
    Element(Element),
    /// With what is said of it.
    Behind(Option<Element>),
}
