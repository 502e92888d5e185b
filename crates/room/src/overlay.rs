//! The writes of a batch over the state before it.
//!
//! Reads see the writes. A savepoint opens a journal of what each write replaced; a rollback undoes them in reverse, so
//! that a refused command leaves nothing. Nothing reaches the store before [`Overlay::into_writes`].

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use crate::{Pairs, TableError, TableReads, Tables, Writes};

/// `None` is a deletion.
type Written = Option<Bytes>;

pub(crate) struct Overlay<'a> {
    reads: &'a dyn TableReads,
    written: BTreeMap<Vec<u8>, Written>,
    /// Keys written since the savepoint, and what the overlay held for them before.
    journal: Vec<(Vec<u8>, Option<Written>)>,
}

impl<'a> Overlay<'a> {
    pub fn new(reads: &'a dyn TableReads) -> Self {
        Overlay { reads, written: BTreeMap::new(), journal: Vec::new() }
    }

    pub fn savepoint(&mut self) {
        self.journal.clear();
    }

    pub fn rollback(&mut self) {
        while let Some((key, before)) = self.journal.pop() {
            match before {
                Some(written) => self.written.insert(key, written),
                None => self.written.remove(&key),
            };
        }
    }

    pub fn into_writes(self) -> Writes {
        self.written.into_iter().collect()
    }

    pub fn put(&mut self, key: Vec<u8>, value: Bytes) {
        self.write(key, Some(value));
    }

    fn write(&mut self, key: Vec<u8>, written: Written) {
        let before = self.written.insert(key.clone(), written);
        self.journal.push((key, before));
    }
}

impl TableReads for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        match self.written.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.reads.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let written = self.written.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        Box::new(Merged { stored: self.reads.scan(from, to).peekable(), written: written.peekable() })
    }
}

impl Tables for Overlay<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value.into()));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }
}

/// Stored pairs and written ones in one order; a written one hides the stored one of its key.
struct Merged<'a, W: Iterator<Item = (&'a Vec<u8>, &'a Written)>> {
    stored: Peekable<Pairs<'a>>,
    written: Peekable<W>,
}

impl<'a, W: Iterator<Item = (&'a Vec<u8>, &'a Written)>> Iterator for Merged<'a, W> {
    type Item = Result<(Bytes, Bytes), TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, _)) = self.written.peek() else { return self.stored.next() };
            match self.stored.peek() {
                Some(Err(_)) => return self.stored.next(),
                Some(Ok((stored, _))) if stored[..] < key[..] => return self.stored.next(),
                Some(Ok((stored, _))) if stored[..] == key[..] => {
                    self.stored.next();
                }
                _ => {}
            }
            if let Some((key, Some(value))) = self.written.next() {
                return Some(Ok((Bytes::copy_from_slice(key), value.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::MemoryTables;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, u8),
        Delete(u8),
        Savepoint,
        Rollback,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..16u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            3 => (0..16u8).prop_map(Step::Delete),
            1 => Just(Step::Savepoint),
            1 => Just(Step::Rollback),
        ]
    }

    proptest! {
        #[test]
        fn scans_and_gets_see_stored_and_written_pairs_as_one(
            stored in prop::collection::btree_map(0..16u8, any::<u8>(), 0..16),
            steps in prop::collection::vec(step(), 0..40),
            from in 0..17u8,
            to in 0..17u8,
        ) {
            let mut tables = MemoryTables::default();
            stored.iter().for_each(|(key, value)| tables.put(vec![*key], vec![*value]));
            let mut overlay = Overlay::new(&tables);
            let (mut model, mut saved) = (stored.clone(), stored);
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        Tables::put(&mut overlay, vec![key], vec![value]);
                        model.insert(key, value);
                    }
                    Step::Delete(key) => {
                        overlay.delete(vec![key]);
                        model.remove(&key);
                    }
                    Step::Savepoint => {
                        overlay.savepoint();
                        saved = model.clone();
                    }
                    Step::Rollback => {
                        overlay.rollback();
                        model = saved.clone();
                    }
                }
            }
            let scanned: Vec<_> = overlay.scan(&[from], &[to]).map(|pair| pair.map(|(k, v)| (k[0], v[0])).unwrap()).collect();
            let expected: Vec<_> = model.iter().filter(|(k, _)| (from..to.max(from)).contains(k)).map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(scanned, expected);
            for key in 0..16u8 {
                prop_assert_eq!(overlay.get(&[key]).unwrap().map(|v| v[0]), model.get(&key).copied());
            }
            let writes = overlay.into_writes();
            tables.write(writes);
            let after: BTreeMap<u8, u8> = tables.dump().into_iter().map(|(k, v)| (k[0], v[0])).collect();
            prop_assert_eq!(after, model);
        }
    }
}
