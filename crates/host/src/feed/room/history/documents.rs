//! The documents of a history: which of them has the lowest next revision, and what is sent of it then.
//!
//! A document whose updates behind the follower's position are compacted away is sent as its base, at the base's
//! revision, or at the end of the history when the base has gone beyond it: updates that come again after it change
//! nothing. A base is read in one go and held until its parts are sent: [`MAX_DOCUMENT_BYTES`] at most, and one at a
//! time, because a backlog that holds one is full.
//!
//! [`MAX_DOCUMENT_BYTES`]: conclave_types::limits::MAX_DOCUMENT_BYTES

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use conclave_auth::Claims;
use conclave_room::ChangeKind;
use conclave_room::local::LocalHeader;
use conclave_room::read::{self, DocumentView, StoredDocumentChange, StoredUpdate};
use conclave_types::{DocumentNumber, DocumentPath, Revision, Timestamp};

use super::{Turn, View};
use crate::faults::Fault;
use crate::feed::backlog::{Backlog, Update};
use crate::shard::broken;

/// Updates of a document that are read at once, and their bytes.
const AHEAD_UPDATES: usize = 64;
const AHEAD_BYTES: usize = 32 << 10;
/// Bytes of updates that were read ahead, of all documents; with more they are forgotten and read again.
const MAX_AHEAD_BYTES: usize = 256 << 10;

#[derive(Default)]
pub struct Documents {
    /// The lowest revision at which each document may have something.
    next: BTreeSet<(Revision, DocumentNumber)>,
    known: BTreeMap<DocumentNumber, Document>,
    ahead_bytes: usize,
}

pub struct Document {
    path: DocumentPath,
    /// Earlier paths, each with the revision at which it ended, oldest first.
    earlier: Vec<(Revision, DocumentPath)>,
    updated: Timestamp,
    /// Its next event is its base, not an update.
    base_is_next: bool,
    /// Updates that were read and not taken.
    ahead: VecDeque<StoredUpdate>,
    ahead_bytes: usize,
}

impl Documents {
    /// Those of the changed documents that may be opened. One that was renamed to a path that may be opened comes from
    /// its beginning: what it held was not sent.
    pub fn of<'a>(
        claims: &Claims,
        changed: Vec<DocumentView>,
        changes: impl IntoIterator<Item = &'a StoredDocumentChange>,
        after: Revision,
    ) -> Documents {
        let mut earlier: BTreeMap<DocumentNumber, Vec<(Revision, DocumentPath)>> = BTreeMap::new();
        for change in changes {
            if let ChangeKind::DocumentRenamed { document, from, .. } = &change.kind {
                earlier.entry(*document).or_default().push((change.revision, from.clone()));
            }
        }
        let mut documents = Documents::default();
        for view in changed.into_iter().filter(|view| claims.may_open(&view.path)) {
            let earlier = earlier.remove(&view.number).unwrap_or_default();
            let came_into_view = earlier.first().is_some_and(|(_, path)| !claims.may_open(path));
            let from = if came_into_view { Revision(1) } else { Revision(after.0 + 1) };
            let document = Document {
                path: view.path,
                earlier,
                updated: view.update_time,
                base_is_next: false,
                ahead: VecDeque::new(),
                ahead_bytes: 0,
            };
            documents.next.insert((from, view.number));
            documents.known.insert(view.number, document);
        }
        documents
    }

    pub fn next(&self) -> Option<(Revision, DocumentNumber)> {
        self.next.first().copied()
    }

    /// Takes a document out for its turn.
    pub fn begin(&mut self, revision: Revision, number: DocumentNumber) -> Option<Document> {
        self.next.remove(&(revision, number));
        let document = self.known.remove(&number)?;
        self.ahead_bytes -= document.ahead_bytes;
        Some(document)
    }

    /// Puts it back, if there may be more of it.
    pub fn end(&mut self, document: Document, number: DocumentNumber, next: Option<Revision>) {
        let Some(next) = next else { return };
        self.next.insert((next, number));
        self.ahead_bytes += document.ahead_bytes;
        self.known.insert(number, document);
        if self.ahead_bytes > MAX_AHEAD_BYTES {
            self.known.values_mut().for_each(Document::forget_ahead);
            self.ahead_bytes = 0;
        }
    }
}

impl Document {
    /// Puts what it has from `revision` on, up to `upto` and before `before`, which is another's, in the backlog. Returns
    /// where it may have more.
    pub fn take(
        &mut self,
        view: &View<'_>,
        (revision, number): (Revision, DocumentNumber),
        (upto, before): (Revision, (Revision, Turn)),
        backlog: &mut Backlog,
    ) -> Result<Option<Revision>, Fault> {
        if self.ahead.is_empty() {
            let (tables, group, room) = (view.tables(), view.group(), view.at.room);
            if read::document_by_number(&tables, group, room, number).map_err(broken)?.is_none() {
                // Deleted: that is told at its revision.
                return Ok(None);
            }
            let position = Revision(revision.0 - 1);
            let local = read::local_header(&tables, group, room, number).map_err(broken)?;
            if let Some(local) = local.filter(|local| self.base_is_next || position < local.kept_from) {
                return self.take_base(view, (revision, number), upto, local, backlog).map(Some);
            }
            let read = read::document_updates(&tables, group, room, number, position, AHEAD_UPDATES, AHEAD_BYTES);
            self.ahead = read.map_err(broken)?.into();
            self.ahead_bytes = self.ahead.iter().map(|update| update.update.len()).sum();
            if self.ahead.is_empty() {
                return Ok(None);
            }
        }
        let mut next = None;
        while let Some(first) = self.ahead.front() {
            next = Some(first.revision);
            let is_first = (first.revision, Turn::Document(number)) < before;
            if first.revision > upto || !is_first || backlog.is_full() {
                return Ok(next);
            }
            let Some(update) = self.ahead.pop_front() else { break };
            self.ahead_bytes -= update.update.len();
            if !view.at.is_own(update.session) {
                backlog.push_update(self.pushed(update));
            }
        }
        Ok(next.map(|last| Revision(last.0 + 1)))
    }

    fn take_base(
        &mut self,
        view: &View<'_>,
        (revision, number): (Revision, DocumentNumber),
        upto: Revision,
        local: LocalHeader,
        backlog: &mut Backlog,
    ) -> Result<Revision, Fault> {
        let at = local.base_revision.min(upto).max(revision);
        if at > revision {
            self.base_is_next = true;
            return Ok(at);
        }
        self.base_is_next = false;
        let base = read::document_base(&view.tables(), view.group(), view.at.room, number).map_err(broken)?;
        let (time, path) = (self.updated, self.path_at(at).clone());
        let base = base.map(|bytes| Update { revision: at, time, participant: None, path, bytes, state: true });
        base.into_iter().for_each(|base| backlog.push_update(base));
        Ok(Revision(local.base_revision.0 + 1))
    }

    fn pushed(&self, stored: StoredUpdate) -> Update {
        Update {
            revision: stored.revision,
            time: stored.time,
            participant: Some(stored.author),
            path: self.path_at(stored.revision).clone(),
            bytes: stored.update,
            state: false,
        }
    }

    /// The path that the document had at a revision.
    fn path_at(&self, revision: Revision) -> &DocumentPath {
        let earlier = self.earlier.iter().find(|(ended, _)| *ended > revision);
        earlier.map_or(&self.path, |(_, path)| path)
    }

    fn forget_ahead(&mut self) {
        self.ahead = VecDeque::new();
        self.ahead_bytes = 0;
    }
}
