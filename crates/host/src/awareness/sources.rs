//! What is shown of whom in which document. Pure: the caller passes the time and publishes what is returned.
//!
//! Bounds: sources of a document, and of all documents together. When one more would be too many, the one that was heard
//! from longest ago is passed over as if it had expired: its viewers are told, and its next awareness brings it back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use conclave_types::limits::AWARENESS_EXPIRY_MS;
use conclave_types::{DocumentNumber, RoomUid, SessionId, Timestamp};

/// Most sources of a document: as many as participants of a room.
pub const MAX_SOURCES_PER_DOCUMENT: usize = 1_000;
/// Most sources of a leadership's documents together: 40 MiB at the largest payload.
pub const MAX_SOURCES: usize = 10_000;

pub type Document = (RoomUid, DocumentNumber);

/// One window of one participant in one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub document: Document,
    pub number: u64,
}

#[derive(Debug)]
struct Shown<T> {
    value: T,
    session: Option<SessionId>,
    expires: Timestamp,
    /// Where it stands in `looks`.
    look_at: Timestamp,
}

/// The newest awareness of each source.
#[derive(Debug)]
pub struct Sources<T> {
    documents: HashMap<Document, BTreeMap<u64, Shown<T>>>,
    /// The documents in which a session shows something.
    sessions: HashMap<SessionId, BTreeSet<Document>>,
    /// When each source is looked at next. A newer awareness does not move it: the look finds it and sets the next.
    looks: BTreeSet<(Timestamp, Source)>,
}

impl<T> Default for Sources<T> {
    fn default() -> Self {
        Sources { documents: HashMap::new(), sessions: HashMap::new(), looks: BTreeSet::new() }
    }
}

impl<T> Sources<T> {
    /// Keeps a source's newest awareness. Returns those that had to go for it.
    pub fn show(&mut self, now: Timestamp, source: Source, session: Option<SessionId>, value: T) -> Vec<(Source, T)> {
        let expires = now.plus_ms(AWARENESS_EXPIRY_MS);
        if let Some(shown) = self.documents.get_mut(&source.document).and_then(|shown| shown.get_mut(&source.number)) {
            (shown.value, shown.expires) = (value, expires);
            return Vec::new();
        }
        let mut gone = Vec::new();
        let of_document = self.documents.get(&source.document);
        if let Some(shown) = of_document.filter(|shown| shown.len() >= MAX_SOURCES_PER_DOCUMENT) {
            let oldest = shown.iter().min_by_key(|(_, shown)| shown.expires);
            let oldest = oldest.map(|(number, _)| Source { document: source.document, number: *number });
            gone.extend(oldest.and_then(|oldest| self.hide(oldest)));
        }
        if self.looks.len() >= MAX_SOURCES {
            // Of all documents only nearly the oldest: the one whose look is next.
            let oldest = self.looks.first().map(|(_, source)| *source);
            gone.extend(oldest.and_then(|oldest| self.hide(oldest)));
        }
        let shown = Shown { value, session, expires, look_at: expires };
        self.documents.entry(source.document).or_default().insert(source.number, shown);
        self.looks.insert((expires, source));
        if let Some(session) = session {
            self.sessions.entry(session).or_default().insert(source.document);
        }
        gone
    }

    /// Forgets a source, if something was shown of it.
    pub fn hide(&mut self, source: Source) -> Option<(Source, T)> {
        let of_document = self.documents.get_mut(&source.document)?;
        let Shown { value, session, look_at, .. } = of_document.remove(&source.number)?;
        if of_document.is_empty() {
            self.documents.remove(&source.document);
        }
        self.looks.remove(&(look_at, source));
        if let Some(session) = session
            && let Some(documents) = self.sessions.get_mut(&session)
        {
            documents.remove(&source.document);
            if documents.is_empty() {
                self.sessions.remove(&session);
            }
        }
        Some((source, value))
    }

    /// Forgets what a session shows; `number` is its source's.
    pub fn hide_session(&mut self, session: SessionId, number: u64) -> Vec<(Source, T)> {
        let documents = self.sessions.get(&session).cloned().unwrap_or_default();
        documents.into_iter().filter_map(|document| self.hide(Source { document, number })).collect()
    }

    /// Forgets a room's documents.
    pub fn forget_room(&mut self, room: RoomUid) {
        let of_room = self.documents.iter().filter(|((of, _), _)| *of == room);
        let sources: Vec<_> = of_room
            .flat_map(|(document, shown)| shown.keys().map(|number| Source { document: *document, number: *number }))
            .collect();
        for source in sources {
            self.hide(source);
        }
    }

    /// Forgets a source that was not heard from for long enough. To be called until it returns nothing.
    pub fn expire_one(&mut self, now: Timestamp) -> Option<(Source, T)> {
        while let Some(&(look_at, source)) = self.looks.first()
            && look_at <= now
        {
            let shown = self.documents.get_mut(&source.document).and_then(|shown| shown.get_mut(&source.number));
            match shown.filter(|shown| shown.expires > now) {
                Some(shown) => {
                    self.looks.remove(&(look_at, source));
                    shown.look_at = shown.expires;
                    self.looks.insert((shown.look_at, source));
                }
                None => return self.hide(source),
            }
        }
        None
    }

    /// When [`Sources::expire_one`] has something to do.
    pub fn next(&self) -> Option<Timestamp> {
        self.looks.first().map(|(look_at, _)| *look_at)
    }

    /// What is shown in a document, by source.
    pub fn shown(&self, now: Timestamp, document: Document) -> impl Iterator<Item = &T> {
        let shown = self.documents.get(&document).into_iter().flat_map(BTreeMap::values);
        shown.filter(move |shown| shown.expires > now).map(|shown| &shown.value)
    }
}

#[cfg(test)]
mod tests {
    use conclave_types::{RoomNumber, Slot};

    use super::*;

    const ROOM: RoomUid = RoomUid { slot: Slot(1), number: RoomNumber(1) };
    const NOTES: Document = (ROOM, DocumentNumber(1));
    const START: Timestamp = Timestamp(1_000_000);
    const SESSION: SessionId = SessionId([7; 16]);

    fn source(number: u64) -> Source {
        Source { document: NOTES, number }
    }

    fn shown(sources: &Sources<u32>, now: Timestamp) -> Vec<u32> {
        sources.shown(now, NOTES).copied().collect()
    }

    fn expired(sources: &mut Sources<u32>, now: Timestamp) -> Vec<u64> {
        std::iter::from_fn(|| sources.expire_one(now)).map(|(source, _)| source.number).collect()
    }

    #[test]
    fn only_the_newest_of_a_source_is_shown() {
        let mut sources = Sources::default();
        sources.show(START, source(1), None, 10);
        sources.show(START, source(2), None, 20);
        sources.show(START, source(1), None, 11);
        assert_eq!(shown(&sources, START), [11, 20]);
        assert!(sources.shown(START, (ROOM, DocumentNumber(2))).next().is_none());
    }

    #[test]
    fn what_is_not_heard_of_again_expires() {
        let mut sources = Sources::default();
        sources.show(START, source(1), None, 10);
        sources.show(START, source(2), None, 20);
        let later = START.plus_ms(AWARENESS_EXPIRY_MS - 1);
        sources.show(later, source(2), None, 21);
        assert!(expired(&mut sources, later).is_empty());
        let end = START.plus_ms(AWARENESS_EXPIRY_MS);
        assert_eq!(sources.next(), Some(end));
        assert_eq!(shown(&sources, end), [21]);
        assert_eq!(expired(&mut sources, end), [1]);
        assert_eq!(sources.next(), Some(later.plus_ms(AWARENESS_EXPIRY_MS)));
        assert_eq!(expired(&mut sources, later.plus_ms(AWARENESS_EXPIRY_MS)), [2]);
        assert_eq!(sources.next(), None);
        assert!(sources.documents.is_empty() && sources.sessions.is_empty());
    }

    #[test]
    fn a_session_takes_everything_with_it_and_nothing_of_others() {
        let mut sources = Sources::default();
        let elsewhere = Source { document: (ROOM, DocumentNumber(2)), number: 1 };
        sources.show(START, source(1), Some(SESSION), 10);
        sources.show(START, elsewhere, Some(SESSION), 11);
        sources.show(START, source(2), None, 20);
        let gone: Vec<_> = sources.hide_session(SESSION, 1).into_iter().map(|(source, _)| source).collect();
        assert_eq!(gone, [source(1), elsewhere]);
        assert_eq!(shown(&sources, START), [20]);
        assert!(sources.sessions.is_empty());
        assert!(sources.hide_session(SESSION, 1).is_empty());
    }

    #[test]
    fn one_too_many_drives_out_the_one_heard_from_longest_ago() {
        let mut sources = Sources::default();
        for number in 0..MAX_SOURCES_PER_DOCUMENT as u64 {
            assert!(sources.show(START.plus_ms(number), source(number), None, 0).is_empty());
        }
        let now = START.plus_ms(10_000);
        sources.show(now, source(0), None, 1);
        let gone: Vec<_> = sources.show(now, source(5_000), None, 2).into_iter().map(|(gone, _)| gone.number).collect();
        assert_eq!(gone, [1]);
        assert_eq!(sources.shown(now, NOTES).count(), MAX_SOURCES_PER_DOCUMENT);
    }

    #[test]
    fn all_documents_together_are_bounded() {
        let mut sources = Sources::default();
        let source = |number: usize| Source { document: (ROOM, DocumentNumber(number as u32)), number: 1 };
        for number in 0..MAX_SOURCES {
            assert!(sources.show(START, source(number), None, ()).is_empty());
        }
        assert_eq!(sources.show(START, source(MAX_SOURCES), None, ()), [(source(0), ())]);
        assert_eq!(sources.looks.len(), MAX_SOURCES);
        sources.forget_room(ROOM);
        assert!(sources.documents.is_empty() && sources.looks.is_empty());
    }
}
