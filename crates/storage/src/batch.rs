//! A list of writes that happen together or not at all.

use crate::{Family, KeyRange};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Put { family: Family, key: Vec<u8>, value: Vec<u8> },
    Delete { family: Family, key: Vec<u8> },
    DeleteRange { family: Family, range: KeyRange },
}

/// Operations in order; a later one on the same key wins.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    operations: Vec<Operation>,
    bytes: usize,
}

impl WriteBatch {
    pub fn new() -> Self {
        WriteBatch::default()
    }

    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.operations.push(Operation::Put { family, key, value });
    }

    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.operations.push(Operation::Delete { family, key });
    }

    /// Deletes a whole range. For rare, large deletions only: many small range tombstones slow every read.
    pub fn delete_range(&mut self, family: Family, range: KeyRange) {
        self.bytes += range.from.len() + range.to.len();
        self.operations.push(Operation::DeleteRange { family, range });
    }

    pub fn append(&mut self, mut other: WriteBatch) {
        self.bytes += other.bytes;
        self.operations.append(&mut other.operations);
    }

    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }
}
