//! Records that many commands of one entry touch, decoded once and written once.
//!
//! Takes part in savepoints like the overlay: a rollback restores what each record was.

use std::collections::BTreeMap;

use crate::TableError;

pub(crate) struct Cache<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    /// Records set since the savepoint, as they were before.
    journal: Vec<(K, Slot<V>)>,
}

#[derive(Clone)]
struct Slot<V> {
    /// None when there is no such record.
    value: Option<V>,
    is_dirty: bool,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    pub fn new() -> Self {
        Cache { slots: BTreeMap::new(), journal: Vec::new() }
    }

    pub fn savepoint(&mut self) {
        self.journal.clear();
    }

    pub fn rollback(&mut self) {
        while let Some((key, slot)) = self.journal.pop() {
            self.slots.insert(key, slot);
        }
    }

    /// The record, loaded on first use.
    pub fn get(
        &mut self,
        key: &K,
        load: impl FnOnce() -> Result<Option<V>, TableError>,
    ) -> Result<Option<&V>, TableError> {
        if !self.slots.contains_key(key) {
            self.slots.insert(key.clone(), Slot { value: load()?, is_dirty: false });
        }
        Ok(self.slots.get(key).and_then(|slot| slot.value.as_ref()))
    }

    /// Sets a record that was read before (or is known not to exist); `None` deletes it.
    pub fn set(&mut self, key: K, value: Option<V>) {
        let before = self.slots.insert(key.clone(), Slot { value, is_dirty: true });
        self.journal.push((key, before.unwrap_or(Slot { value: None, is_dirty: false })));
    }

    /// Hands every changed record out to be written and keeps them all, unchanged from now on.
    pub fn clean(&mut self, mut write: impl FnMut(&K, Option<&V>)) {
        self.journal.clear();
        for (key, slot) in &mut self.slots {
            if std::mem::take(&mut slot.is_dirty) {
                write(key, slot.value.as_ref());
            }
        }
    }

    /// Forgets all records. Only after [`Self::clean`].
    pub fn clear(&mut self) {
        debug_assert!(self.slots.values().all(|slot| !slot.is_dirty));
        self.journal.clear();
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(cache: &mut Cache<u8, u8>, key: u8) -> Option<u8> {
        cache.get(&key, || Ok(None)).unwrap().copied()
    }

    #[test]
    fn rollback_restores_the_first_value_since_the_savepoint() {
        let mut cache = Cache::new();
        assert_eq!(cache.get(&1, || Ok(Some(10))), Ok(Some(&10)));
        cache.savepoint();
        cache.set(1, Some(11));
        cache.set(1, None);
        cache.set(2, Some(20));
        cache.rollback();
        assert_eq!((get(&mut cache, 1), get(&mut cache, 2)), (Some(10), None));
        cache.clean(|key, _| panic!("record {key} was not changed"));
    }

    #[test]
    fn a_changed_record_is_written_once() {
        let mut cache = Cache::new();
        cache.set(1, Some(1));
        cache.set(1, Some(2));
        cache.set(2, None);
        let mut written = Vec::new();
        cache.clean(|key, value| written.push((*key, value.copied())));
        assert_eq!(written, [(1, Some(2)), (2, None)]);
        cache.clean(|key, _| panic!("record {key} was written already"));
    }
}
