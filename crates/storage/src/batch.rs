//! A list of writes that happen together or not at all.
//!
//! The operations lie one after another in one buffer: a command writes about five small pairs, and two allocations
//! for each would cost more than the copying.

use crate::{Family, KeyRange};

/// One write of a batch, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    Put {
        family: Family,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        family: Family,
        key: &'a [u8],
    },
    /// Deletes the keys with `from <= key < to`.
    DeleteRange {
        family: Family,
        from: &'a [u8],
        to: &'a [u8],
    },
}

impl<'a> Operation<'a> {
    pub fn family(&self) -> Family {
        match *self {
            Operation::Put { family, .. }
            | Operation::Delete { family, .. }
            | Operation::DeleteRange { family, .. } => family,
        }
    }

    /// Key and value, if it is a put.
    pub fn as_put(&self) -> Option<(&'a [u8], &'a [u8])> {
        match *self {
            Operation::Put { key, value, .. } => Some((key, value)),
            Operation::Delete { .. } | Operation::DeleteRange { .. } => None,
        }
    }

    /// Bytes of the operation's key and value, or of both ends of its range.
    pub fn bytes(&self) -> usize {
        match self {
            Operation::Put { key, value, .. } => key.len() + value.len(),
            Operation::Delete { key, .. } => key.len(),
            Operation::DeleteRange { from, to, .. } => from.len() + to.len(),
        }
    }
}

/// Operations in order; a later one on the same key wins.
///
/// A key, a value and an end of a range are each shorter than 4 GiB; a longer one panics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// Records of a header ([`HEADER_BYTES`]) and the two byte strings that it measures.
    records: Vec<u8>,
    operations: usize,
}

/// Kind, family, and the little-endian `u32` lengths of the two byte strings that follow.
const HEADER_BYTES: usize = 10;

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

impl WriteBatch {
    pub fn new() -> Self {
        WriteBatch::default()
    }

    /// An empty batch with room for about `bytes` of keys and values.
    pub fn with_capacity(bytes: usize) -> Self {
        WriteBatch { records: Vec::with_capacity(bytes), operations: 0 }
    }

    pub fn put(&mut self, family: Family, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(Kind::Put, family, key.as_ref(), value.as_ref());
    }

    pub fn delete(&mut self, family: Family, key: impl AsRef<[u8]>) {
        self.push(Kind::Delete, family, key.as_ref(), &[]);
    }

    /// Deletes a whole range. For rare, large deletions only: many small range tombstones slow every read.
    pub fn delete_range(&mut self, family: Family, range: KeyRange) {
        self.push(Kind::DeleteRange, family, &range.from, &range.to);
    }

    pub fn append(&mut self, other: WriteBatch) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.records.extend_from_slice(&other.records);
        self.operations += other.operations;
    }

    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    pub fn len(&self) -> usize {
        self.operations
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.records.len() - self.operations * HEADER_BYTES
    }

    pub fn operations(&self) -> Operations<'_> {
        Operations { rest: &self.records, left: self.operations }
    }

    fn push(&mut self, kind: Kind, family: Family, first: &[u8], second: &[u8]) {
        let mut header = [0; HEADER_BYTES];
        header[0] = kind as u8;
        header[1] = family as u8;
        header[2..6].copy_from_slice(&length(first).to_le_bytes());
        header[6..].copy_from_slice(&length(second).to_le_bytes());
        self.records.reserve(HEADER_BYTES + first.len() + second.len());
        self.records.extend_from_slice(&header);
        self.records.extend_from_slice(first);
        self.records.extend_from_slice(second);
        self.operations += 1;
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a key or value is shorter than 4 GiB")
}

/// The operations of a batch in order.
#[derive(Debug, Clone)]
pub struct Operations<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Operations<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        let (header, rest) = self.rest.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, family, lengths @ ..] = header;
        let [a, b, c, d, e, f, g, h] = *lengths;
        let (first, rest) = rest.split_at(u32::from_le_bytes([a, b, c, d]) as usize);
        let (second, rest) = rest.split_at(u32::from_le_bytes([e, f, g, h]) as usize);
        self.rest = rest;
        self.left -= 1;
        let family = Family::ALL[*family as usize];
        Some(match *kind {
            kind if kind == Kind::Put as u8 => Operation::Put { family, key: first, value: second },
            kind if kind == Kind::Delete as u8 => Operation::Delete { family, key: first },
            _ => Operation::DeleteRange { family, from: first, to: second },
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Operations<'_> {}

impl<'a> IntoIterator for &'a WriteBatch {
    type Item = Operation<'a>;
    type IntoIter = Operations<'a>;

    fn into_iter(self) -> Operations<'a> {
        self.operations()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_kinds() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(Family::State, b"key", b"value");
        batch.delete(Family::Log, b"gone");
        batch.delete_range(Family::Node, KeyRange { from: b"a".to_vec(), to: b"bc".to_vec() });
        batch
    }

    #[test]
    fn operations_come_back_as_they_went_in() {
        let batch = three_kinds();
        let expected = [
            Operation::Put { family: Family::State, key: b"key", value: b"value" },
            Operation::Delete { family: Family::Log, key: b"gone" },
            Operation::DeleteRange { family: Family::Node, from: b"a", to: b"bc" },
        ];
        assert_eq!(batch.operations().collect::<Vec<_>>(), expected);
        assert_eq!(batch.operations().len(), 3);
        assert_eq!(batch.len(), 3);
        assert_eq!(batch.bytes(), 8 + 4 + 3);
    }

    #[test]
    fn empty_keys_and_values_are_kept() {
        let mut batch = WriteBatch::new();
        batch.put(Family::Log, b"", b"");
        assert_eq!(
            batch.operations().collect::<Vec<_>>(),
            [Operation::Put { family: Family::Log, key: b"", value: b"" }]
        );
        assert_eq!(batch.bytes(), 0);
        assert!(!batch.is_empty());
    }

    #[test]
    fn appended_operations_follow_the_first_ones() {
        let tail = three_kinds();
        let mut both = WriteBatch::new();
        both.put(Family::Log, b"1", b"one");
        both.append(tail.clone());
        assert_eq!(both.len(), 4);
        assert_eq!(both.bytes(), 4 + tail.bytes());
        assert!(both.operations().skip(1).eq(tail.operations()));

        let mut empty = WriteBatch::new();
        empty.append(tail.clone());
        assert_eq!(empty, tail);
    }
}
