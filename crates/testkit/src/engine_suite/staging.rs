//! Ranges replaced as a whole.
//!
//! Each claim runs with a few pairs and with many: an engine may go another way where a batch would be too large.

use std::sync::Arc;

use bytes::Bytes;
use conclave_storage::{Engine, EngineError, EngineView, Family, KeyRange, Staging};

use super::{OpenStore, keys, pairs, range, write};

/// Sizes of a staging, in pairs of about 1 KiB: one that is small, and one of several MiB.
const SIZES: [u32; 2] = [3, 5_000];

const BEFORE: &[u8] = &[1, 0xff];
const AFTER: &[u8] = &[3];

/// The range that is replaced; `[2, 0xff]` is nobody's key.
fn replaced() -> KeyRange {
    range(&[2], &[2, 0xff])
}

fn key(number: u32) -> Vec<u8> {
    [&[2, 7][..], &number.to_be_bytes()].concat()
}

/// Differs by generation, and compresses badly, as a sound test of sizes needs.
fn value(generation: u8, number: u32) -> Vec<u8> {
    let mut seed = (u64::from(generation) << 32 | u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = Vec::with_capacity(1_024);
    while value.len() < 1_024 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        value.extend_from_slice(&seed.to_le_bytes());
    }
    value
}

fn staged(engine: &Arc<dyn Engine>, generation: u8, size: u32) -> Box<dyn Staging> {
    let mut staging = engine.clone().stage(Family::State, replaced()).unwrap();
    for number in 0..size {
        staging.put(&key(number), &value(generation, number)).unwrap();
    }
    staging
}

fn contents(generation: u8, size: u32) -> Vec<(Bytes, Bytes)> {
    (0..size).map(|number| (key(number).into(), value(generation, number).into())).collect()
}

fn present(view: &dyn EngineView) -> Vec<(Bytes, Bytes)> {
    pairs(view.scan(Family::State, replaced()))
}

/// Neighbours on both sides, and older keys of the range: below, between and above the new ones.
fn furnish(engine: &dyn Engine) {
    write(engine, |batch| {
        batch.put(Family::State, BEFORE, b"neighbour");
        batch.put(Family::State, AFTER, b"neighbour");
        batch.put(Family::Log, key(1), b"another family");
        for old in [vec![2], key(1), [&key(1)[..], b"more"].concat(), vec![2, 0xfe]] {
            batch.put(Family::State, old, b"old");
        }
    });
}

fn assert_neighbours(engine: &dyn Engine) {
    for neighbour in [BEFORE, AFTER] {
        assert_eq!(engine.get(Family::State, neighbour).unwrap().unwrap(), "neighbour");
    }
    assert_eq!(engine.get(Family::Log, &key(1)).unwrap().unwrap(), "another family");
}

pub fn an_installation_replaces_its_range_and_nothing_else(open: &impl OpenStore) {
    let engine = open();
    for (generation, size) in (1..).zip(SIZES.into_iter().chain(SIZES)) {
        furnish(&*engine);
        let before = engine.clone().snapshot();
        let old = present(&*before);
        let staging = staged(&engine, generation, size);
        assert_eq!(present(&*engine), old, "nothing shows before");
        staging.install().unwrap();
        assert_eq!(present(&*engine), contents(generation, size));
        let mut back = pairs(engine.scan_back(Family::State, replaced()));
        back.reverse();
        assert_eq!(back, contents(generation, size));
        assert_neighbours(&*engine);
        assert_eq!(present(&*before), old, "a view keeps what it shows");
        write(&*engine, |batch| batch.put(Family::State, key(0), b"written later"));
        assert_eq!(engine.get(Family::State, &key(0)).unwrap().unwrap(), "written later");
    }
}

pub fn an_installation_of_nothing_empties_its_range(open: &impl OpenStore) {
    let engine = open();
    for size in SIZES {
        staged(&engine, 1, size).install().unwrap();
        furnish(&*engine);
        engine.clone().stage(Family::State, replaced()).unwrap().install().unwrap();
        assert!(present(&*engine).is_empty());
        assert_neighbours(&*engine);
    }
}

pub fn an_installation_survives_reopening(open: &impl OpenStore) {
    for (generation, size) in (1..).zip(SIZES.into_iter().chain(SIZES)) {
        let engine = open();
        furnish(&*engine);
        staged(&engine, generation, size).install().unwrap();
        drop(engine);
        let engine = open();
        assert_eq!(present(&*engine), contents(generation, size));
        assert_neighbours(&*engine);
    }
}

pub fn a_dropped_staging_changes_nothing(open: &impl OpenStore) {
    let engine = open();
    furnish(&*engine);
    let old = present(&*engine);
    for size in SIZES {
        drop(staged(&engine, 1, size));
        assert_eq!(present(&*engine), old);
    }
}

pub fn a_staging_takes_ascending_keys_of_its_range_alone(open: &impl OpenStore) {
    let engine = open();
    for size in SIZES {
        let mut staging = staged(&engine, 1, size);
        for misplaced in [&key(0)[..], &key(size - 1), &[1], &[2, 0xff], AFTER] {
            let refused = staging.put(misplaced, b"misplaced");
            assert!(matches!(refused, Err(EngineError::Misplaced(_))), "{misplaced:?}: {refused:?}");
        }
        staging.install().unwrap();
        assert_eq!(present(&*engine), contents(1, size), "what was refused left no trace");
    }
    let mut staging = engine.clone().stage(Family::State, replaced()).unwrap();
    assert!(staging.put(&[1, 0xff], b"").is_err(), "below the range");
    staging.put(&[2], b"its first key").unwrap();
    staging.install().unwrap();
    assert_eq!(keys(engine.scan(Family::State, replaced())), [&[2][..]]);
}

/// Another thread installs generation after generation, some large, some small.
pub fn readers_see_the_whole_old_range_or_the_whole_new_one(open: &impl OpenStore) {
    const GENERATIONS: u8 = 12;
    let engine = open();
    let size = |generation: u8| if generation.is_multiple_of(2) { 40 } else { 2_000 };
    staged(&engine, 0, size(0)).install().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for generation in 1..=GENERATIONS {
                staged(&engine, generation, size(generation)).install().unwrap();
            }
        });
        let mut newest = 0;
        while newest < GENERATIONS {
            let found = present(&*engine.clone().snapshot());
            let seen = (newest..=GENERATIONS).find(|generation| found == contents(*generation, size(*generation)));
            newest = seen.expect("one whole generation, never an older one");
        }
    });
}
