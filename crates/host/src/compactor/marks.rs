//! What applied entries leave to do for the compactor.
//!
//! Told on the thread that applies, for each update, so it only counts; the tables are looked at when a document has
//! gathered enough to be worth it. A mark that is lost, at a restart or because there are too many, is made again by
//! the next updates.

use std::collections::{HashMap, HashSet};

use conclave_room::{Change, ChangeKind, Effect};
use conclave_types::{DocumentNumber, RoomUid};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A document's updates before its tail is looked at: an eighth of what makes compaction worth while, or less.
const LOOK_UPDATES: u32 = 512;
const LOOK_BYTES: usize = 8 << 10;
/// Documents with marks; more are forgotten.
const MAX_MARKED: usize = 16_384;

pub type DocumentKey = (RoomUid, DocumentNumber);

/// Marks of one replica.
#[derive(Debug, Default)]
pub struct Marks {
    marked: Mutex<Marked>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Marked {
    counted: HashMap<DocumentKey, Count>,
    ripe: HashSet<DocumentKey>,
    dropped: bool,
}

#[derive(Debug, Default)]
struct Count {
    updates: u32,
    bytes: usize,
}

/// What there is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Documents whose tails may be long.
    pub ripe: HashSet<DocumentKey>,
    /// Documents may be gone whose local data is still there.
    pub dropped: bool,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.ripe.is_empty() && !self.dropped
    }
}

impl Marks {
    /// Takes in what entries did that are readable now.
    pub fn mark(&self, effects: &[Effect]) {
        let mut marked = None;
        let mut is_work = false;
        for effect in effects {
            match effect {
                Effect::Changed(Change {
                    room, kind: ChangeKind::DocumentUpdated { document, update, .. }, ..
                }) => {
                    let marked = marked.get_or_insert_with(|| self.marked.lock());
                    is_work |= marked.count((*room, *document), update.len());
                }
                Effect::DocumentDropped { .. } | Effect::RoomDeleted { .. } => {
                    marked.get_or_insert_with(|| self.marked.lock()).dropped = true;
                    is_work = true;
                }
                _ => {}
            }
        }
        drop(marked);
        if is_work {
            self.wake.notify_one();
        }
    }

    /// The whole state is another: nobody knows what of it is left over.
    pub fn mark_all(&self) {
        self.marked.lock().dropped = true;
        self.wake.notify_one();
    }

    /// Waits until there is something to do, and takes it.
    pub async fn work(&self) -> Work {
        loop {
            let work = self.marked.lock().take();
            if !work.is_empty() {
                return work;
            }
            self.wake.notified().await;
        }
    }
}

impl Marked {
    /// Counts an update; whether its document is to be looked at now.
    fn count(&mut self, key: DocumentKey, bytes: usize) -> bool {
        if self.counted.len() >= MAX_MARKED {
            self.counted.clear();
        }
        let count = self.counted.entry(key).or_default();
        count.updates += 1;
        count.bytes += bytes;
        if count.updates < LOOK_UPDATES && count.bytes < LOOK_BYTES {
            return false;
        }
        self.counted.remove(&key);
        self.ripe.len() < MAX_MARKED && self.ripe.insert(key)
    }

    fn take(&mut self) -> Work {
        Work { ripe: std::mem::take(&mut self.ripe), dropped: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use conclave_types::{Revision, RoomNumber, Slot, Timestamp};
    use futures::FutureExt;

    use super::*;

    const ROOM: RoomUid = RoomUid { slot: Slot(1), number: RoomNumber(1) };

    fn updated(document: u32, bytes: usize) -> Effect {
        Effect::Changed(Change {
            room: ROOM,
            revision: Revision(1),
            time: Timestamp(0),
            participant: None,
            session: None,
            kind: ChangeKind::DocumentUpdated {
                document: DocumentNumber(document),
                path: "notes".parse().expect("a path"),
                update: Bytes::from(vec![0; bytes]),
            },
        })
    }

    #[test]
    fn a_document_is_looked_at_once_enough_has_come_since_the_last_look() {
        let marks = Marks::default();
        for _ in 1..LOOK_UPDATES {
            marks.mark(&[updated(1, 1), updated(2, 1)]);
        }
        assert_eq!(marks.work().now_or_never(), None);
        marks.mark(&[updated(1, 1), updated(3, LOOK_BYTES)]);
        let ripe = [1, 3].map(|number| (ROOM, DocumentNumber(number)));
        assert_eq!(marks.work().now_or_never(), Some(Work { ripe: ripe.into(), dropped: false }));
        marks.mark(&[updated(1, 1)]);
        assert_eq!(marks.work().now_or_never(), None);
    }

    #[test]
    fn what_was_dropped_is_said_once() {
        let marks = Marks::default();
        marks.mark(&[Effect::DocumentDropped { room: ROOM, document: DocumentNumber(1) }]);
        marks.mark(&[Effect::RoomDeleted { room: ROOM }]);
        assert_eq!(marks.work().now_or_never(), Some(Work { ripe: HashSet::new(), dropped: true }));
        assert_eq!(marks.work().now_or_never(), None);
    }
}
