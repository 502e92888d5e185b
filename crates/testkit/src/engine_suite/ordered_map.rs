//! Random work on an engine, compared with a map that does the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use conclave_storage::{EngineView, Family, KeyRange, WriteBatch};

use super::{OpenStore, pairs, range, write};

/// Random batches, views and reopenings, held against a map.
pub fn it_agrees_with_an_ordered_map(open: &impl OpenStore) {
    for seed in 1..=8 {
        let mut random = Random(seed);
        let mut engine = open();
        let mut model = Model::default();
        // The store is the last seed's; both start empty.
        write(&*engine, |batch| batch.delete_range(Family::State, range(b"", b"\xff")));
        let mut views: Vec<(Arc<dyn EngineView>, Model)> = Vec::new();
        for step in 0..400 {
            match random.below(20) {
                0 => views.push((engine.clone().snapshot(), model.clone())),
                1 if !views.is_empty() => drop(views.swap_remove(random.below(views.len() as u64) as usize)),
                2 => engine.sync().unwrap(),
                3 if step % 5 == 0 => {
                    engine.sync().unwrap();
                    views.clear();
                    drop(engine);
                    engine = open();
                }
                4..8 => {
                    let range = random.range();
                    model.check(&*engine, range.clone(), seed);
                    if let Some((view, then)) = views.first() {
                        then.check(&**view, range, seed);
                    }
                }
                _ => engine.write(random.batch(&mut model)).unwrap(),
            }
        }
        for (view, then) in &views {
            then.check(&**view, range(b"", b"\xff"), seed);
        }
        model.check(&*engine, range(b"", b"\xff"), seed);
    }
}

#[derive(Clone, Default)]
struct Model(BTreeMap<Bytes, Bytes>);

impl Model {
    fn check(&self, view: &dyn EngineView, range: KeyRange, seed: u64) {
        let within = |key: &Bytes| *key >= range.from && *key < range.to;
        let expected: Vec<(Bytes, Bytes)> =
            self.0.iter().filter(|(key, _)| within(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(pairs(view.scan(Family::State, range.clone())), expected, "scan of {range:?}, seed {seed}");
        let mut back = pairs(view.scan_back(Family::State, range.clone()));
        back.reverse();
        assert_eq!(back, expected, "scan back of {range:?}, seed {seed}");
        let value = view.get(Family::State, &range.from).unwrap();
        assert_eq!(value.as_ref(), self.0.get(&range.from[..]), "get of {:?}, seed {seed}", range.from);
    }
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// One of few keys, so that they meet again; some longer than others.
    fn key(&mut self) -> Vec<u8> {
        let number = self.below(60) as u8;
        let mut key = vec![number / 20; 13];
        key.truncate(if number.is_multiple_of(5) { 4 } else { 13 });
        key.push(number);
        key
    }

    fn range(&mut self) -> KeyRange {
        KeyRange { from: self.key(), to: self.key() }
    }

    fn batch(&mut self, model: &mut Model) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for _ in 0..self.below(6) {
            match self.below(12) {
                0 => {
                    let range = self.range();
                    model.0.retain(|key, _| *key < range.from || *key >= range.to);
                    batch.delete_range(Family::State, range);
                }
                1..4 => {
                    let key = self.key();
                    batch.delete(Family::State, &key);
                    model.0.remove(&key[..]);
                }
                _ => {
                    let (key, value) = (self.key(), self.below(u64::MAX).to_be_bytes());
                    batch.put(Family::State, &key, value);
                    model.0.insert(key.into(), Bytes::copy_from_slice(&value));
                }
            }
        }
        batch
    }
}
