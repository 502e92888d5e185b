//! What a killed process and a power cut leave of a store, and which stores are refused.
//!
//! A power cut is a copy of the folder whose log ends early: RocksDB appends to it, so what the disk keeps of it
//! is its beginning, and all of it up to the last sync.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conclave_storage::{Damage, Engine, EngineError, EngineView, Family, WriteBatch};
use conclave_storage_rocksdb::{RocksEngine, RocksOptions};
use tempfile::TempDir;

fn open(folder: &Path) -> Result<RocksEngine, EngineError> {
    RocksEngine::open(folder, RocksOptions::default(), Damage::unattended())
}

/// Writes `number` to two families at once.
fn write(engine: &RocksEngine, number: u32) {
    let mut batch = WriteBatch::new();
    batch.put(Family::Log, number.to_be_bytes(), [b'l'; 100]);
    batch.put(Family::State, number.to_be_bytes(), [b's'; 100]);
    engine.write(batch).unwrap();
}

/// How many numbers from 0 on are there; all others must be absent, in both families.
fn prefix(engine: &RocksEngine, written: u32) -> u32 {
    let present = |family, number: u32| engine.get(family, &number.to_be_bytes()).unwrap().is_some();
    let kept = (0..written).find(|number| !present(Family::Log, *number)).unwrap_or(written);
    for number in 0..written {
        assert_eq!(present(Family::Log, number), number < kept, "log entry {number} of {kept}");
        assert_eq!(present(Family::State, number), number < kept, "state of {number}, {kept} kept");
    }
    kept
}

/// The newest log file, which is the only one that these small stores write to.
fn wal(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

fn copy(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn cut(folder: &Path, length: u64) {
    OpenOptions::new().write(true).open(wal(folder)).unwrap().set_len(length).unwrap();
}

fn flip_bit(folder: &Path, position: u64) {
    let file = OpenOptions::new().read(true).write(true).open(wal(folder)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&byte, position).unwrap();
}

/// A running store with 50 synced batches and 50 that are not, and the length of its log at the sync and now.
fn half_synced() -> (TempDir, RocksEngine, u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    (0..50).for_each(|number| write(&engine, number));
    engine.sync().unwrap();
    let synced = fs::metadata(wal(folder.path())).unwrap().len();
    (50..100).for_each(|number| write(&engine, number));
    let written = fs::metadata(wal(folder.path())).unwrap().len();
    assert!(synced > 50 * 200 && written > synced + 50 * 200, "{synced} bytes synced, {written} written");
    (folder, engine, synced, written)
}

#[test]
fn a_killed_process_loses_nothing_it_wrote() {
    let (folder, engine, ..) = half_synced();
    let killed = copy(folder.path());
    assert_eq!(prefix(&open(killed.path()).unwrap(), 100), 100);

    drop(engine);
    assert_eq!(prefix(&open(folder.path()).unwrap(), 100), 100);
}

#[test]
fn a_power_cut_leaves_a_prefix_that_holds_all_that_was_synced() {
    let (folder, _engine, synced, written) = half_synced();
    let mut kept = Vec::new();
    for step in 0..=8 {
        let after = copy(folder.path());
        cut(after.path(), synced + (written - synced) * step / 8);
        kept.push(prefix(&open(after.path()).unwrap(), 100));
    }
    assert_eq!((kept[0], kept[8]), (50, 100));
    assert!(kept.is_sorted(), "{kept:?}");
}

#[test]
fn a_log_cut_below_the_synced_point_is_refused() {
    let (folder, _engine, synced, _) = half_synced();
    for length in [0, synced / 2, synced - 1] {
        let after = copy(folder.path());
        cut(after.path(), length);
        for attempt in 1..=2 {
            let refused = open(after.path()).err();
            assert!(
                matches!(refused, Some(EngineError::Damaged(_))),
                "log cut at {length} of {synced}, attempt {attempt}: {refused:?}"
            );
        }
    }
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused() {
    let (folder, _engine, synced, _) = half_synced();
    for position in [100, synced / 2, synced - 50] {
        let after = copy(folder.path());
        flip_bit(after.path(), position);
        let refused = open(after.path()).err();
        assert!(matches!(refused, Some(EngineError::Damaged(_))), "bit at {position} of {synced}: {refused:?}");
    }
}

#[test]
fn damage_after_the_synced_point_only_shortens_the_store() {
    let (folder, _engine, synced, written) = half_synced();
    let after = copy(folder.path());
    flip_bit(after.path(), (synced + written) / 2);
    let kept = prefix(&open(after.path()).unwrap(), 100);
    assert!((50..100).contains(&kept), "{kept}");
}

#[test]
fn a_store_that_goes_on_after_a_power_cut_is_still_guarded() {
    let (folder, engine, synced, _) = half_synced();
    drop(engine);
    cut(folder.path(), synced);
    let engine = open(folder.path()).unwrap();
    (50..60).for_each(|number| write(&engine, number));
    engine.sync().unwrap();
    drop(engine);

    let lost = copy(folder.path());
    cut(lost.path(), fs::metadata(wal(lost.path())).unwrap().len() - 1);
    assert!(matches!(open(lost.path()), Err(EngineError::Damaged(_))));
    assert_eq!(prefix(&open(folder.path()).unwrap(), 100), 60);
}

#[test]
fn what_was_staged_before_a_crash_is_removed() {
    let (folder, engine, ..) = half_synced();
    let left = folder.path().join("staging").join("7");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("000000.sst"), "half a table").unwrap();
    assert!(open(folder.path()).is_err(), "it is in use");
    assert!(left.exists(), "only the process that has the store may empty it");
    drop(engine);
    assert_eq!(prefix(&open(folder.path()).unwrap(), 100), 100);
    assert!(!left.exists());
}

#[test]
fn a_folder_in_use_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let _engine = open(folder.path()).unwrap();
    let Err(EngineError::Open(message)) = open(folder.path()) else { panic!("a folder was opened twice") };
    assert!(message.contains("in use"), "{message}");
    assert!(message.contains(&folder.path().display().to_string()), "{message}");
}

#[test]
fn a_snapshot_keeps_the_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(open(folder.path()).unwrap());
    write(&engine, 0);
    let snapshot = engine.snapshot();
    assert!(matches!(open(folder.path()), Err(EngineError::Open(_))));
    assert!(snapshot.get(Family::Log, &0u32.to_be_bytes()).unwrap().is_some());
    drop(snapshot);
    open(folder.path()).unwrap();
}

#[test]
fn a_folder_that_is_a_file_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    File::create(&file).unwrap();
    let Err(EngineError::Open(message)) = open(&file) else { panic!("a file was opened") };
    assert!(message.contains(&file.display().to_string()), "{message}");
}

#[test]
fn a_family_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let mut options = rocksdb::Options::default();
    options.create_missing_column_families(true);
    let families = ["default", "log", "state", "node", "future"];
    drop(rocksdb::DB::open_cf(&options, folder.path(), families).unwrap());
    let Err(EngineError::Open(message)) = open(folder.path()) else { panic!("an unknown family was ignored") };
    assert!(message.contains("newer version"), "{message}");
}
