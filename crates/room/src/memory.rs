//! Tables in memory, for tests.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Pairs, TableError, TableReads, Tables, Writes};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemoryTables {
    pairs: BTreeMap<Vec<u8>, Bytes>,
}

impl MemoryTables {
    pub fn write(&mut self, writes: Writes) {
        for (key, value) in writes {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
    }

    pub fn dump(&self) -> BTreeMap<Vec<u8>, Bytes> {
        self.pairs.clone()
    }
}

impl TableReads for MemoryTables {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        let pairs = self.pairs.range(from.to_vec()..to.to_vec());
        Box::new(pairs.map(|(key, value)| Ok((Bytes::copy_from_slice(key), value.clone()))))
    }
}

impl Tables for MemoryTables {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.pairs.insert(key, value.into());
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.pairs.remove(&key);
    }
}
