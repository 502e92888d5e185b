//! A room's history after a revision, merged from what storage holds by kind.
//!
//! One history reaches up to the revision that the room has when it begins. Its sources are the log of messages, the
//! changes of documents' names, the newest state of each queue, and the updates of each document; whichever has the
//! lowest next revision is read on. Each step reads from one view of the store, so a compaction cannot fall between a
//! document's header and its updates; between steps nothing is held but positions and a little that was read ahead.
//!
//! Cost: once a history, a look at each document and queue of the room; then a read for each 64 updates of
//! a document, or for each update where those of very many documents alternate.

mod documents;

use std::collections::VecDeque;
use std::sync::Arc;

use conclave_proto::v1;
use conclave_room::ChangeKind;
use conclave_room::read::{self, QueueView, StoredDocumentChange, StoredMessage};
use conclave_storage::EngineView;
use conclave_types::limits::MAX_DOCUMENT_CHANGES;
use conclave_types::{DocumentNumber, GroupId, Revision};

use super::Topics;
use crate::changes;
use crate::faults::Fault;
use crate::feed::backlog::Backlog;
use crate::feed::{ELEMENT_BYTES, ELEMENT_EVENTS, FeedPlace, messages};
use crate::shard::broken;
use crate::tables::EngineTables;

use documents::Documents;

pub struct History {
    /// What the room had when this began.
    upto: Revision,
    /// Everything up to here was put in the backlog.
    read_to: Revision,
    /// Changes of documents' names up to here are forgotten, and nobody was told yet.
    forgotten: Option<Revision>,
    messages: Option<Messages>,
    changes: VecDeque<StoredDocumentChange>,
    queues: VecDeque<(Revision, QueueView)>,
    documents: Documents,
}

struct Messages {
    waiting: VecDeque<StoredMessage>,
    /// Messages up to here were read.
    read_to: Revision,
}

/// Whose turn it is. In this order within a revision: a document is made before it is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Change,
    Document(DocumentNumber),
    Message,
    Queue,
}

/// One consistent state of a room.
struct View<'a> {
    at: &'a FeedPlace,
    view: Arc<dyn EngineView>,
}

impl View<'_> {
    fn of(at: &FeedPlace) -> View<'_> {
        View { at, view: at.shard.snapshot() }
    }

    fn tables(&self) -> EngineTables<'_, dyn EngineView> {
        EngineTables(&*self.view)
    }

    fn group(&self) -> GroupId {
        self.at.shard.group_id()
    }
}

impl History {
    /// The history after a revision, as far as it reaches now.
    pub fn begin(at: &FeedPlace, topics: &Topics, after: Revision) -> Result<History, Fault> {
        let view = View::of(at);
        let (tables, group, room) = (view.tables(), view.group(), at.room);
        let revision = read::revision(&tables, group, room).map_err(broken)?;
        let upto = revision.ok_or_else(|| at.room_not_found())?.max(after);
        let mut history = History {
            upto,
            read_to: after,
            forgotten: None,
            messages: topics.messages.then(|| Messages { waiting: VecDeque::new(), read_to: after }),
            changes: VecDeque::new(),
            queues: VecDeque::new(),
            documents: Documents::default(),
        };
        if topics.documents {
            let limit = MAX_DOCUMENT_CHANGES as usize;
            let forgotten = read::document_changes_trimmed_to(&tables, group, room).map_err(broken)?;
            history.forgotten = (after < forgotten).then_some(forgotten);
            history.changes = read::document_changes(&tables, group, room, after, limit).map_err(broken)?.into();
            let changed = read::documents_changed(&tables, group, room, after).map_err(broken)?;
            history.documents = Documents::of(&at.claims, changed, &history.changes, after);
        }
        if topics.queues {
            history.queues = read::queues_changed(&tables, group, room, after).map_err(broken)?.into();
        }
        Ok(history)
    }

    /// Everything up to here was put in the backlog.
    pub fn read_to(&self) -> Revision {
        self.read_to
    }

    pub fn is_done(&self) -> bool {
        self.read_to >= self.upto
    }

    /// Puts the next events in the backlog, about as many as an element holds.
    pub fn read(&mut self, at: &FeedPlace, topics: &Topics, backlog: &mut Backlog) -> Result<(), Fault> {
        let view = View::of(at);
        if let Some(forgotten) = self.forgotten.take() {
            self.tell_gap(forgotten, backlog);
        }
        loop {
            self.read_messages(&view, backlog)?;
            let turn = self.turn().filter(|(revision, _)| *revision <= self.upto);
            let merged_to = turn.map_or(self.upto, |(next, _)| Revision(next.0.saturating_sub(1)));
            self.read_to = self.read_to.max(merged_to);
            let Some((revision, turn)) = turn else { return Ok(()) };
            if backlog.is_full() {
                return Ok(());
            }
            self.take(&view, topics, revision, turn, backlog)?;
        }
    }

    /// What is gone between what was sent and what follows.
    fn tell_gap(&self, to: Revision, backlog: &mut Backlog) {
        let gap = v1::Gap { from_revision: self.read_to.0, to_revision: to.0, dropped_count: 0 };
        backlog.push_gap(Revision(self.read_to.0 + 1), gap);
    }

    /// Reads messages when none wait. Behind the last there may be others by now; they are beyond this history.
    fn read_messages(&mut self, view: &View<'_>, backlog: &mut Backlog) -> Result<(), Fault> {
        let Some(messages) = self.messages.as_mut().filter(|messages| messages.waiting.is_empty()) else {
            return Ok(());
        };
        if messages.read_to >= self.upto {
            return Ok(());
        }
        let (tables, group, room, after) = (view.tables(), view.group(), view.at.room, messages.read_to);
        let trimmed_to = read::message_log(&tables, group, room).map_err(broken)?.trimmed_to;
        let read = read::messages(&tables, group, room, after, ELEMENT_EVENTS, ELEMENT_BYTES).map_err(broken)?;
        messages.read_to = read.last().map_or(self.upto, |last| last.revision);
        messages.waiting = read.into();
        if after < trimmed_to {
            self.tell_gap(trimmed_to, backlog);
        }
        Ok(())
    }

    /// The lowest next revision, and whose it is. A document may turn out to have nothing there.
    fn turn(&self) -> Option<(Revision, Turn)> {
        let change = self.changes.front().map(|change| (change.revision, Turn::Change));
        let document = self.documents.next().map(|(revision, document)| (revision, Turn::Document(document)));
        let message = self.messages.as_ref().and_then(|messages| messages.waiting.front());
        let message = message.map(|message| (message.revision, Turn::Message));
        let queue = self.queues.front().map(|(revision, _)| (*revision, Turn::Queue));
        [change, document, message, queue].into_iter().flatten().min()
    }

    fn take(
        &mut self,
        view: &View<'_>,
        topics: &Topics,
        revision: Revision,
        turn: Turn,
        backlog: &mut Backlog,
    ) -> Result<(), Fault> {
        match turn {
            Turn::Change => {
                let change = self.changes.pop_front();
                change.iter().for_each(|change| push_change(view.at, topics, change, backlog));
            }
            Turn::Document(number) => {
                let Some(mut document) = self.documents.begin(revision, number) else { return Ok(()) };
                let before = self.turn().unwrap_or((Revision(u64::MAX), Turn::Queue));
                let next = document.take(view, (revision, number), (self.upto, before), backlog)?;
                self.documents.end(document, number, next);
            }
            Turn::Message => {
                let message = self.messages.as_mut().and_then(|messages| messages.waiting.pop_front());
                if let Some(message) = message.filter(|message| !view.at.is_own(message.session)) {
                    backlog.push_event(message.revision, messages::encoded(&message));
                }
            }
            Turn::Queue => {
                if let Some((revision, queue)) = self.queues.pop_front() {
                    let QueueView { name: queue, ready, leased, .. } = queue;
                    let kind = ChangeKind::QueueChanged { queue, ready, leased };
                    let event = changes::small(revision, None, None, &kind);
                    event.into_iter().for_each(|event| backlog.push_event(revision, event));
                }
            }
        }
        Ok(())
    }
}

fn push_change(at: &FeedPlace, topics: &Topics, change: &StoredDocumentChange, backlog: &mut Backlog) {
    if at.is_own(change.session) || !topics.want(&changes::about(&change.kind), &at.claims) {
        return;
    }
    let event = changes::small(change.revision, Some(change.time), change.participant.as_ref(), &change.kind);
    event.into_iter().for_each(|event| backlog.push_event(change.revision, event));
}
