//! What every engine must do, as one list of claims that memory and RocksDB both run.
//!
//! Each claim takes a function that opens one store, again after the engine it gave before was dropped; a claim gets
//! a store of its own. [`engine_suite!`](crate::engine_suite!) makes a test of every claim.

use std::sync::Arc;

use bytes::Bytes;
use conclave_storage::{Engine, Family, KeyRange, Pairs, WriteBatch};

mod ordered_map;
mod staging;

pub use ordered_map::it_agrees_with_an_ordered_map;
pub use staging::{
    a_dropped_staging_changes_nothing, a_staging_takes_ascending_keys_of_its_range_alone,
    an_installation_of_nothing_empties_its_range, an_installation_replaces_its_range_and_nothing_else,
    an_installation_survives_reopening, readers_see_the_whole_old_range_or_the_whole_new_one,
};

/// Makes a test of each claim of [`engine_suite`](mod@crate::engine_suite).
///
/// The argument is called once for each test and returns a fresh store's `Fn() -> Arc<dyn Engine>`, which opens it.
#[macro_export]
macro_rules! engine_suite {
    ($store:expr) => {
        $crate::engine_suite! { $store =>
            a_written_key_is_read_back,
            a_missing_key_is_none,
            families_are_separate,
            the_last_operation_on_a_key_wins,
            a_scan_is_in_key_order_and_within_its_bounds,
            a_scan_back_is_the_reverse_of_a_scan,
            empty_and_inverted_ranges_hold_nothing,
            a_long_scan_is_complete,
            a_scan_may_cross_key_prefixes_of_any_length,
            a_range_is_deleted_without_its_end,
            a_batch_applies_as_one,
            an_empty_batch_changes_nothing,
            a_snapshot_does_not_change,
            a_snapshot_outlives_the_caller_s_engine,
            a_running_scan_does_not_see_later_writes,
            synced_data_survives_reopening,
            deletions_survive_reopening,
            writes_of_many_threads_all_arrive,
            statistics_count_what_was_written,
            an_installation_replaces_its_range_and_nothing_else,
            an_installation_of_nothing_empties_its_range,
            an_installation_survives_reopening,
            a_dropped_staging_changes_nothing,
            a_staging_takes_ascending_keys_of_its_range_alone,
            readers_see_the_whole_old_range_or_the_whole_new_one,
            it_agrees_with_an_ordered_map,
        }
    };
    ($store:expr => $($claim:ident),+ $(,)?) => {
        $(
            #[test]
            fn $claim() {
                $crate::engine_suite::$claim(&$store());
            }
        )+
    };
}

/// Opens the store of one claim.
pub trait OpenStore: Fn() -> Arc<dyn Engine> {}

impl<F: Fn() -> Arc<dyn Engine>> OpenStore for F {}

pub fn a_written_key_is_read_back(open: &impl OpenStore) {
    let engine = open();
    for family in Family::ALL {
        write(&*engine, |batch| batch.put(family, b"key", family.name()));
    }
    for family in Family::ALL {
        assert_eq!(engine.get(family, b"key").unwrap().unwrap(), family.name());
    }
    write(&*engine, |batch| batch.put(Family::State, b"", b""));
    assert_eq!(engine.get(Family::State, b"").unwrap(), Some(Bytes::new()), "an empty key may hold an empty value");
}

pub fn a_missing_key_is_none(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        batch.put(Family::State, b"key", b"value");
        batch.put(Family::State, b"deleted", b"value");
    });
    write(&*engine, |batch| batch.delete(Family::State, b"deleted"));
    write(&*engine, |batch| batch.delete(Family::State, b"never there"));
    for key in [&b"ke"[..], b"key ", b"deleted", b"never there", b""] {
        assert_eq!(engine.get(Family::State, key).unwrap(), None);
    }
}

pub fn families_are_separate(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        batch.put(Family::Log, b"a", b"log");
        batch.put(Family::State, b"b", b"state");
    });
    write(&*engine, |batch| batch.delete_range(Family::Node, range(b"", b"\xff")));
    assert_eq!(engine.get(Family::State, b"a").unwrap(), None);
    assert_eq!(keys(engine.scan(Family::Log, range(b"", b"\xff"))), ["a"]);
    assert_eq!(keys(engine.scan(Family::State, range(b"", b"\xff"))), ["b"]);
    assert_eq!(engine.scan(Family::Node, range(b"", b"\xff")).count(), 0);
}

pub fn the_last_operation_on_a_key_wins(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        batch.put(Family::State, b"rewritten", b"1");
        batch.put(Family::State, b"rewritten", b"2");
        batch.put(Family::State, b"deleted", b"1");
        batch.delete(Family::State, b"deleted");
        batch.put(Family::State, b"restored", b"1");
        batch.delete_range(Family::State, range(b"restored", b"restored\0"));
        batch.put(Family::State, b"restored", b"2");
    });
    let expected = [(&b"restored"[..], &b"2"[..]), (b"rewritten", b"2")];
    assert_pairs(engine.scan(Family::State, range(b"", b"\xff")), &expected);
}

pub fn a_scan_is_in_key_order_and_within_its_bounds(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        for key in [&b"d"[..], b"b", b"a", b"bb", b"c", b"b\0", b"b\xff"] {
            batch.put(Family::State, key, b"");
        }
    });
    let scanned = keys(engine.scan(Family::State, range(b"b", b"c")));
    assert_eq!(scanned, [&b"b"[..], b"b\0", b"bb", b"b\xff"], "the start belongs to the range, the end does not");
    assert_eq!(keys(engine.scan(Family::State, range(b"bc", b"cc"))), [&b"b\xff"[..], b"c"]);
}

pub fn a_scan_back_is_the_reverse_of_a_scan(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        for number in 0..1_000u32 {
            batch.put(Family::State, number.to_be_bytes(), number.to_le_bytes());
        }
    });
    for (from, to) in [(0, 1_000), (0, u32::MAX), (17, 900), (999, 1_000), (500, 500)] {
        let range = range(&u32::to_be_bytes(from), &u32::to_be_bytes(to));
        let mut ascending = pairs(engine.scan(Family::State, range.clone()));
        ascending.reverse();
        assert_eq!(ascending.len() as u32, to.min(1_000) - from);
        assert_eq!(pairs(engine.scan_back(Family::State, range.clone())), ascending);
        assert_eq!(pairs(engine.clone().snapshot().scan_back(Family::State, range)), ascending);
    }
}

pub fn empty_and_inverted_ranges_hold_nothing(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        batch.put(Family::State, b"", b"");
        batch.put(Family::State, b"b", b"");
    });
    let snapshot = engine.clone().snapshot();
    for (from, to) in [(&b"b"[..], &b"b"[..]), (b"c", b"a"), (b"b", b""), (b"", b"")] {
        assert_eq!(engine.scan(Family::State, range(from, to)).count(), 0);
        assert_eq!(engine.scan_back(Family::State, range(from, to)).count(), 0);
        assert_eq!(snapshot.scan(Family::State, range(from, to)).count(), 0);
        assert_eq!(snapshot.scan_back(Family::State, range(from, to)).count(), 0);
        write(&*engine, |batch| batch.delete_range(Family::State, range(from, to)));
    }
    assert_eq!(engine.scan(Family::State, range(b"", b"\xff")).count(), 2);
}

pub fn a_long_scan_is_complete(open: &impl OpenStore) {
    let engine = open();
    let count = 10_000u32;
    for first in (0..count).step_by(500) {
        write(&*engine, |batch| {
            for number in first..first + 500 {
                batch.put(Family::Log, number.to_be_bytes(), number.to_be_bytes());
            }
        });
    }
    // Every third is deleted, so a scan has to step over holes.
    write(&*engine, |batch| (0..count).step_by(3).for_each(|number| batch.delete(Family::Log, number.to_be_bytes())));
    let expected: Vec<u32> = (0..count).filter(|number| number % 3 != 0).collect();
    let scanned: Vec<u32> = pairs(engine.scan(Family::Log, range(b"", b"\xff")))
        .into_iter()
        .map(|(key, value)| {
            assert_eq!(key, value);
            u32::from_be_bytes(key[..].try_into().unwrap())
        })
        .collect();
    assert_eq!(scanned, expected);
}

/// An engine may keep filters by key prefix; a scan must be whole all the same.
pub fn a_scan_may_cross_key_prefixes_of_any_length(open: &impl OpenStore) {
    let engine = open();
    let key = |prefix: u8, length: usize| [&[prefix; 12][..], &vec![7; length]].concat();
    let mut expected = Vec::new();
    for prefix in 0..8 {
        for length in 0..8 {
            write(&*engine, |batch| batch.put(Family::State, key(prefix, length), b""));
            expected.push(Bytes::from(key(prefix, length)));
        }
        write(&*engine, |batch| batch.put(Family::State, [prefix], b""));
        expected.push(Bytes::from(vec![prefix]));
    }
    expected.sort();
    engine.sync().unwrap();
    drop(engine);
    let engine = open();
    assert_eq!(keys(engine.scan(Family::State, range(b"", b"\xff"))), expected);
    for (from, to) in
        [(key(2, 1), key(5, 0)), (key(3, 1), key(3, 7)), (key(3, 3), [3; 13].to_vec()), (vec![1], vec![2])]
    {
        let within: Vec<Bytes> = expected.iter().filter(|key| **key >= from && **key < to).cloned().collect();
        assert_eq!(keys(engine.scan(Family::State, range(&from, &to))), within);
        let mut back = keys(engine.scan_back(Family::State, range(&from, &to)));
        back.reverse();
        assert_eq!(back, within);
    }
}

pub fn a_range_is_deleted_without_its_end(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        for key in [b"a", b"b", b"c", b"d"] {
            batch.put(Family::State, key, b"");
            batch.put(Family::Log, key, b"");
        }
    });
    write(&*engine, |batch| batch.delete_range(Family::State, range(b"b", b"d")));
    assert_eq!(keys(engine.scan(Family::State, range(b"", b"\xff"))), ["a", "d"]);
    assert_eq!(engine.get(Family::State, b"c").unwrap(), None);
    assert_eq!(engine.scan(Family::Log, range(b"", b"\xff")).count(), 4);

    write(&*engine, |batch| batch.put(Family::State, b"c", b"again"));
    assert_eq!(engine.get(Family::State, b"c").unwrap().unwrap(), "again");
}

/// A reader beside a writer sees both keys of a batch alike, in every view.
pub fn a_batch_applies_as_one(open: &impl OpenStore) {
    let engine = open();
    let set = |value: u32| {
        write(&*engine, |batch| {
            batch.put(Family::Log, b"left", value.to_be_bytes());
            batch.put(Family::State, b"right", value.to_be_bytes());
        });
    };
    set(0);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..2_000).for_each(set));
        loop {
            let view = engine.clone().snapshot();
            let left = view.get(Family::Log, b"left").unwrap().unwrap();
            assert_eq!(view.get(Family::State, b"right").unwrap().unwrap(), left);
            if left == 1_999u32.to_be_bytes()[..] {
                break;
            }
        }
    });
}

pub fn an_empty_batch_changes_nothing(open: &impl OpenStore) {
    let engine = open();
    engine.write(WriteBatch::new()).unwrap();
    engine.sync().unwrap();
    assert_eq!(engine.stats().wal_bytes, 0);
    for family in Family::ALL {
        assert_eq!(engine.scan(family, range(b"", b"\xff")).count(), 0);
    }
}

pub fn a_snapshot_does_not_change(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        batch.put(Family::State, b"changed", b"old");
        batch.put(Family::State, b"deleted", b"old");
        batch.put(Family::State, b"in a deleted range", b"old");
    });
    let before = engine.clone().snapshot();
    write(&*engine, |batch| {
        batch.put(Family::State, b"added", b"new");
        batch.put(Family::State, b"changed", b"new");
        batch.delete(Family::State, b"deleted");
        batch.delete_range(Family::State, range(b"in", b"io"));
    });
    engine.sync().unwrap();
    let after = engine.clone().snapshot();
    write(&*engine, |batch| batch.delete_range(Family::State, range(b"", b"\xff")));
    engine.sync().unwrap();

    let old = [(&b"changed"[..], &b"old"[..]), (b"deleted", b"old"), (b"in a deleted range", b"old")];
    assert_pairs(before.scan(Family::State, range(b"", b"\xff")), &old);
    assert_eq!(before.get(Family::State, b"added").unwrap(), None);
    assert_eq!(before.get(Family::State, b"changed").unwrap().unwrap(), "old");
    assert_pairs(after.scan(Family::State, range(b"", b"\xff")), &[(b"added", b"new"), (b"changed", b"new")]);
    assert_eq!(after.get(Family::State, b"deleted").unwrap(), None);
    assert_eq!(engine.scan(Family::State, range(b"", b"\xff")).count(), 0);

    drop(before);
    assert_eq!(after.get(Family::State, b"changed").unwrap().unwrap(), "new");
}

pub fn a_snapshot_outlives_the_caller_s_engine(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| batch.put(Family::State, b"key", b"value"));
    let snapshot = engine.snapshot();
    #[expect(clippy::disallowed_methods, reason = "a snapshot must be readable from any thread")]
    let read = std::thread::spawn(move || snapshot.get(Family::State, b"key").unwrap());
    assert_eq!(read.join().unwrap().unwrap(), "value");
}

pub fn a_running_scan_does_not_see_later_writes(open: &impl OpenStore) {
    let engine = open();
    let count = 2_000u32;
    write(&*engine, |batch| (0..count).for_each(|number| batch.put(Family::State, number.to_be_bytes(), b"old")));
    let mut ascending = engine.scan(Family::State, range(b"", b"\xff"));
    let mut descending = engine.scan_back(Family::State, range(b"", b"\xff"));
    assert!(ascending.next().is_some() && descending.next().is_some());
    write(&*engine, |batch| {
        (0..count).step_by(2).for_each(|number| batch.put(Family::State, number.to_be_bytes(), b"new"));
        (1..count).step_by(2).for_each(|number| batch.delete(Family::State, number.to_be_bytes()));
        batch.put(Family::State, count.to_be_bytes(), b"new");
    });
    engine.sync().unwrap();
    for scan in [ascending, descending] {
        let rest = pairs(scan);
        assert_eq!(rest.len() as u32, count - 1);
        assert!(rest.iter().all(|(_, value)| value == "old"));
    }
}

pub fn synced_data_survives_reopening(open: &impl OpenStore) {
    for round in 0..3u32 {
        let engine = open();
        assert_eq!(engine.scan(Family::State, range(b"", b"\xff")).count() as u32, round);
        write(&*engine, |batch| {
            batch.put(Family::State, round.to_be_bytes(), b"state");
            batch.put(Family::Log, b"newest", round.to_be_bytes());
        });
        engine.sync().unwrap();
    }
    let engine = open();
    assert_eq!(engine.scan(Family::State, range(b"", b"\xff")).count(), 3);
    assert_eq!(engine.get(Family::Log, b"newest").unwrap().unwrap()[..], 2u32.to_be_bytes());
}

pub fn deletions_survive_reopening(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| [b"a", b"b", b"c", b"d"].iter().for_each(|key| batch.put(Family::State, key, b"")));
    engine.sync().unwrap();
    drop(engine);

    let engine = open();
    write(&*engine, |batch| {
        batch.delete(Family::State, b"a");
        batch.delete_range(Family::State, range(b"b", b"d"));
    });
    engine.sync().unwrap();
    drop(engine);
    assert_eq!(keys(open().scan(Family::State, range(b"", b"\xff"))), ["d"]);
}

pub fn writes_of_many_threads_all_arrive(open: &impl OpenStore) {
    let engine = open();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..200u32 {
                    write(&**engine, |batch| {
                        batch.put(Family::Log, [thread.to_be_bytes(), number.to_be_bytes()].concat(), b"")
                    });
                    if number % 50 == 0 {
                        engine.sync().unwrap();
                    }
                }
                engine.sync().unwrap();
            });
        }
    });
    drop(engine);
    assert_eq!(open().scan(Family::Log, range(b"", b"\xff")).count(), 800);
}

pub fn statistics_count_what_was_written(open: &impl OpenStore) {
    let engine = open();
    write(&*engine, |batch| {
        batch.put(Family::Log, b"12345", b"67890");
        batch.put(Family::State, b"12", b"3");
        batch.delete(Family::State, b"12");
    });
    engine.sync().unwrap();
    engine.sync().unwrap();
    let stats = engine.stats();
    assert_eq!(stats.syncs, 2);
    assert!(stats.wal_bytes >= 15, "the log holds at least the keys and values, not {}", stats.wal_bytes);
    let counted: Vec<_> =
        stats.families.iter().map(|family| (family.family, family.operations, family.written_bytes)).collect();
    assert_eq!(counted, [(Family::Log, 1, 10), (Family::State, 2, 5), (Family::Node, 0, 0)]);
}

fn write(engine: &dyn Engine, fill: impl FnOnce(&mut WriteBatch)) {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    engine.write(batch).unwrap();
}

fn range(from: &[u8], to: &[u8]) -> KeyRange {
    KeyRange { from: from.to_vec(), to: to.to_vec() }
}

fn pairs(scan: Pairs<'_>) -> Vec<(Bytes, Bytes)> {
    scan.map(Result::unwrap).collect()
}

fn keys(scan: Pairs<'_>) -> Vec<Bytes> {
    scan.map(|pair| pair.unwrap().0).collect()
}

fn assert_pairs(scan: Pairs<'_>, expected: &[(&[u8], &[u8])]) {
    let scanned = pairs(scan);
    let scanned: Vec<(&[u8], &[u8])> = scanned.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    assert_eq!(scanned, expected);
}
