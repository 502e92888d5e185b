//! What was read from storage and is on its way to a follower, in order of revision.
//!
//! Updates wait as they are stored and are encoded when they are taken, large ones in parts.

use std::collections::VecDeque;

use conclave_proto::events::{EncodedEvent, EventBatch};
use conclave_proto::v1::event::Kind;
use conclave_proto::{time, v1};
use conclave_types::{DocumentPath, ParticipantName, Revision, Timestamp};

use super::{ELEMENT_BYTES, PART_BYTES};

/// What an event has around an update and its path, at most.
const AROUND_UPDATE_BYTES: usize = 256;

/// An update of a document.
#[derive(Debug, Clone)]
pub struct Update {
    pub revision: Revision,
    pub time: Timestamp,
    pub participant: Option<ParticipantName>,
    pub path: DocumentPath,
    pub bytes: bytes::Bytes,
    /// It brings the document up to its revision rather than being one push.
    pub state: bool,
}

/// One element's content.
pub enum Next {
    Events(EventBatch),
    Gap(v1::Gap),
}

#[derive(Debug)]
enum Item {
    Event(Revision, EncodedEvent),
    Update(Update),
    Gap(Revision, v1::Gap),
}

#[derive(Debug, Default)]
pub struct Backlog {
    items: VecDeque<Item>,
    /// Bytes of the waiting items.
    bytes: usize,
    /// Parts of the first item that were taken.
    parts: u32,
}

impl Item {
    fn revision(&self) -> Revision {
        match self {
            Item::Event(revision, _) | Item::Gap(revision, _) => *revision,
            Item::Update(update) => update.revision,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Item::Event(_, event) => event.len(),
            Item::Update(update) => update.event_bytes(),
            Item::Gap(..) => 0,
        }
    }
}

impl Backlog {
    pub fn push_event(&mut self, revision: Revision, event: EncodedEvent) {
        self.push(Item::Event(revision, event));
    }

    pub fn push_update(&mut self, update: Update) {
        self.push(Item::Update(update));
    }

    /// What was lost behind `revision` and before what is pushed next.
    pub fn push_gap(&mut self, revision: Revision, gap: v1::Gap) {
        self.push(Item::Gap(revision, gap));
    }

    fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there is enough for one element.
    pub fn is_full(&self) -> bool {
        self.bytes >= ELEMENT_BYTES || self.items.len() >= super::ELEMENT_EVENTS
    }

    /// The revision up to which all has been taken; none when nothing waits.
    pub fn taken_to(&self) -> Option<Revision> {
        self.items.front().map(|item| Revision(item.revision().0.saturating_sub(1)))
    }

    /// Takes what fits in one element.
    pub fn next(&mut self) -> Option<Next> {
        let mut batch = EventBatch::default();
        while let Some(first) = self.items.front() {
            if !batch.is_empty() && batch.len() + first.bytes() > ELEMENT_BYTES {
                break;
            }
            match first {
                Item::Event(_, event) => batch.push(event),
                Item::Update(update) if update.bytes.len() > PART_BYTES => {
                    // Alone, because it is larger than an element: the batch is empty.
                    batch.push(&update.part(self.parts));
                    self.parts += 1;
                    if self.parts as usize * PART_BYTES < update.bytes.len() {
                        break;
                    }
                }
                Item::Update(update) => batch.push(&update.event()),
                Item::Gap(_, gap) if batch.is_empty() => {
                    let gap = *gap;
                    self.drop_first();
                    return Some(Next::Gap(gap));
                }
                Item::Gap(..) => break,
            }
            self.drop_first();
        }
        (!batch.is_empty()).then_some(Next::Events(batch))
    }

    fn drop_first(&mut self) {
        self.parts = 0;
        if let Some(first) = self.items.pop_front() {
            self.bytes -= first.bytes();
        }
    }
}

impl Update {
    /// The update's events: one, or one for each part.
    pub fn events(&self) -> Vec<EncodedEvent> {
        match self.bytes.len() {
            0..=PART_BYTES => vec![self.event()],
            bytes => (0..bytes.div_ceil(PART_BYTES) as u32).map(|part| self.part(part)).collect(),
        }
    }

    fn event(&self) -> EncodedEvent {
        let participant = self.participant.as_ref().map_or("", |name| name.as_str());
        let (revision, path) = (self.revision.0, self.path.as_str());
        EncodedEvent::document_update(revision, self.time, participant, path, &self.bytes, self.state)
    }

    fn part(&self, part: u32) -> EncodedEvent {
        let from = part as usize * PART_BYTES;
        let to = self.bytes.len().min(from + PART_BYTES);
        let update = v1::DocumentUpdate {
            document: self.path.to_string(),
            update: self.bytes.slice(from..to),
            state: self.state,
            part,
            more: to < self.bytes.len(),
        };
        EncodedEvent::of(&v1::Event {
            revision: self.revision.0,
            time: Some(time::timestamp(self.time)),
            participant: self.participant.as_ref().map(ParticipantName::to_string).unwrap_or_default(),
            kind: Some(Kind::DocumentUpdate(update)),
        })
    }

    /// Close to what its event adds to a batch.
    fn event_bytes(&self) -> usize {
        self.bytes.len() + self.path.as_str().len() + AROUND_UPDATE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn update(revision: u64, bytes: usize) -> Update {
        Update {
            revision: Revision(revision),
            time: Timestamp(1),
            participant: None,
            path: "notes".parse().expect("a path"),
            bytes: (0..bytes).map(|at| at as u8).collect::<Vec<_>>().into(),
            state: false,
        }
    }

    fn updates(next: Option<Next>) -> Vec<(u64, v1::DocumentUpdate)> {
        let Some(Next::Events(batch)) = next else { panic!("events") };
        let update = |event: v1::Event| match event.kind {
            Some(Kind::DocumentUpdate(update)) => (event.revision, update),
            other => panic!("{other:?}"),
        };
        batch.events().expect("events").into_iter().map(update).collect()
    }

    #[test]
    fn a_large_update_comes_in_parts_that_make_it_whole() {
        let large = update(5, 2 * PART_BYTES + 10);
        let mut backlog = Backlog::default();
        backlog.push_update(update(4, 10));
        backlog.push_update(large.clone());
        backlog.push_update(update(6, 10));
        assert_eq!(updates(backlog.next()).len(), 1);
        assert_eq!(backlog.taken_to(), Some(Revision(4)));
        let mut whole = Vec::new();
        for part in 0..2 {
            let taken = updates(backlog.next());
            let [(5, update)] = &taken[..] else { panic!("{taken:?}") };
            assert_eq!((update.part, update.more), (part, true));
            assert_eq!(backlog.taken_to(), Some(Revision(4)));
            whole.extend_from_slice(&update.update);
        }
        let taken = updates(backlog.next());
        let [(5, last), (6, _)] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!((last.part, last.more), (2, false));
        whole.extend_from_slice(&last.update);
        assert_eq!(Bytes::from(whole), large.bytes);
        assert!(backlog.is_empty() && backlog.next().is_none() && backlog.bytes == 0);
    }

    #[test]
    fn small_updates_share_an_element_up_to_its_size() {
        let mut backlog = Backlog::default();
        (1..=30).for_each(|revision| backlog.push_update(update(revision, 10 << 10)));
        let mut seen = Vec::new();
        while let Some(Next::Events(batch)) = backlog.next() {
            assert!(batch.len() <= ELEMENT_BYTES);
            seen.extend(batch.events().expect("events").into_iter().map(|event| event.revision));
        }
        assert_eq!(seen, (1..=30).collect::<Vec<_>>());
    }
}
