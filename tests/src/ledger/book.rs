//! What one room's writer asked and was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use conclave_workload::dice::Dice;

/// Longest body; the shortest is what names it.
const MAX_PADDING: usize = 400;

/// The room's messages, or its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Message,
    Item,
}

#[derive(Debug)]
pub struct Book {
    room: String,
    /// Numbers up to here were asked for; messages and items share them.
    asked: u64,
    /// The highest number that was acknowledged.
    acknowledged: u64,
    /// Revisions of acknowledged messages by number.
    pub messages: BTreeMap<u64, u64>,
    /// Places of acknowledged items by number.
    pub items: BTreeMap<u64, u64>,
    /// Every item that was ever received: its number by its place.
    pub received: BTreeMap<u64, u64>,
    /// Places of items whose acknowledgement was acknowledged.
    pub done: BTreeSet<u64>,
    pub unknown: u64,
    pub refused: u64,
    pub reads: u64,
    pub stale_reads: Vec<String>,
    highest_revision: u64,
    last_at: Instant,
    longest_pause: Duration,
}

impl Book {
    pub fn new(room: String) -> Book {
        Book {
            room,
            asked: 0,
            acknowledged: 0,
            messages: BTreeMap::new(),
            items: BTreeMap::new(),
            received: BTreeMap::new(),
            done: BTreeSet::new(),
            unknown: 0,
            refused: 0,
            reads: 0,
            stale_reads: Vec::new(),
            highest_revision: 0,
            last_at: Instant::now(),
            longest_pause: Duration::ZERO,
        }
    }

    pub fn room(&self) -> &str {
        &self.room
    }

    pub fn queue(&self) -> String {
        format!("{}/queues/jobs", self.room)
    }

    pub fn asked(&self) -> u64 {
        self.asked
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The highest revision that any answer has told.
    pub fn highest_revision(&self) -> u64 {
        self.highest_revision
    }

    /// The next number, and the body that goes with it.
    pub fn ask(&mut self, kind: Kind) -> (u64, Bytes) {
        self.asked += 1;
        (self.asked, self.body(kind, self.asked))
    }

    /// What was, or would be, written under a number.
    pub fn body(&self, kind: Kind, number: u64) -> Bytes {
        let mut dice = Dice::new(number);
        let letters = (0..dice.roll(MAX_PADDING)).map(|_| char::from(b'a' + dice.roll(26) as u8));
        let padding: String = letters.collect();
        format!("{number} {kind:?} {} {padding}", self.room).into()
    }

    /// The number that a body claims; none when it is not what that number's body is.
    pub fn number_of(&self, kind: Kind, body: &Bytes) -> Option<u64> {
        let text = std::str::from_utf8(body).ok()?;
        let number = text.split_once(' ')?.0.parse().ok()?;
        (self.body(kind, number) == body).then_some(number)
    }

    pub fn note_message(&mut self, number: u64, revision: u64) {
        self.messages.insert(number, revision);
        self.note(number, revision);
    }

    pub fn note_item(&mut self, number: u64, place: u64, revision: u64) {
        self.items.insert(number, place);
        self.note(number, revision);
    }

    /// A read was answered with `revision`, and `known` had been acknowledged before it was asked.
    pub fn note_read(&mut self, known: u64, revision: u64) {
        self.reads += 1;
        if revision < known {
            self.stale_reads.push(format!("{}: read revision {revision} after {known}", self.room));
        }
        self.highest_revision = self.highest_revision.max(revision);
    }

    pub fn take_longest_pause(&mut self) -> Duration {
        std::mem::take(&mut self.longest_pause)
    }

    fn note(&mut self, number: u64, revision: u64) {
        self.acknowledged = self.acknowledged.max(number);
        self.highest_revision = self.highest_revision.max(revision);
        self.longest_pause = self.longest_pause.max(self.last_at.elapsed());
        self.last_at = Instant::now();
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, acknowledged) = (self.asked, self.messages.len() + self.items.len());
        write!(f, "{} ({asked} asked, {acknowledged} acknowledged, {} unknown)", self.room, self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_its_number_and_no_other_bytes_do() {
        let mut book = Book::new("rooms/a".to_owned());
        let (number, body) = book.ask(Kind::Message);
        assert_eq!(book.number_of(Kind::Message, &body), Some(number));
        assert_eq!(book.number_of(Kind::Item, &body), None);
        assert_eq!(Book::new("rooms/b".to_owned()).number_of(Kind::Message, &body), None);
        for at in 0..body.len() {
            let mut wrong = body.to_vec();
            wrong[at] ^= 1;
            assert_eq!(book.number_of(Kind::Message, &wrong.into()), None, "byte {at}");
        }
    }

    #[test]
    fn a_read_is_stale_if_an_acknowledgement_before_it_is_newer() {
        let mut book = Book::new("rooms/a".to_owned());
        book.note_message(1, 5);
        book.note_read(5, 5);
        book.note_read(4, 9);
        assert!(book.stale_reads.is_empty());
        book.note_read(book.highest_revision(), 8);
        assert_eq!(book.stale_reads.len(), 1);
    }
}
