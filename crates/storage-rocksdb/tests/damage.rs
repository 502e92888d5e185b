//! A store with a damaged file says so, or the damage touched nothing that counts: it never serves other bytes.
//!
//! Every file of a store that was killed is damaged in turn: single bits are flipped, its end is cut off, it is removed.
//! Then the store must either be called damaged, when it opens or when it is read, or hold exactly what was synced
//! and a prefix of what was written after that.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conclave_storage::{Damage, Engine, EngineError, EngineView, Family, KeyRange, Scrub, WriteBatch};
use conclave_storage_rocksdb::options::WriteBuffers;
use conclave_storage_rocksdb::{RocksEngine, RocksOptions};
use tempfile::TempDir;

type Key = (Family, Vec<u8>);
type Contents = BTreeMap<Key, Vec<u8>>;

/// A killed store and what was written to it.
struct Sample {
    folder: TempDir,
    synced: Contents,
    /// Written after the last sync, one pair a batch.
    unsynced: Vec<(Key, Vec<u8>)>,
}

/// Buffers so small that tables and several logs come about.
fn options() -> RocksOptions {
    RocksOptions {
        log_buffers: WriteBuffers { bytes: 64 << 10, count: 2 },
        staged_write_bytes: 4 << 10,
        staged_file_bytes: 16 << 10,
        ..RocksOptions::default()
    }
}

fn open(folder: &Path) -> (Arc<Damage>, Result<RocksEngine, EngineError>) {
    let damage = Damage::unattended();
    (damage.clone(), RocksEngine::open(folder, options(), damage))
}

fn log_tables(engine: &RocksEngine) -> u64 {
    engine.stats().families[Family::Log as usize].table_bytes
}

fn value(number: u32) -> Vec<u8> {
    let seed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..25u64).flat_map(|step| seed.rotate_left(step as u32 * 7).wrapping_add(step).to_le_bytes()).collect()
}

impl Sample {
    fn new() -> Sample {
        let running = empty_folder();
        let mut synced = Contents::new();
        // Two earlier processes, whose logs became tables when the next one opened.
        for process in 0..2 {
            let engine = open(running.path()).1.unwrap();
            write(&engine, process * 200..process * 200 + 200, &mut synced);
            engine.sync().unwrap();
        }
        let engine = Arc::new(open(running.path()).1.unwrap());
        install(&engine, &mut synced);
        let tables = log_tables(&engine);
        write(&engine, 400..800, &mut synced);
        // The buffer of the log family was full in between. The manifest names its table before the last sync.
        let begun = Instant::now();
        while log_tables(&engine) == tables {
            assert!(begun.elapsed() < Duration::from_secs(20), "no table was made");
            std::thread::yield_now();
        }
        engine.sync().unwrap();
        let mut unsynced = Vec::new();
        for number in 800..820 {
            let mut one = Contents::new();
            write_one(&engine, Family::Log, number, &mut one);
            unsynced.extend(one);
        }
        let sample = Sample { folder: copy(running.path()), synced, unsynced };
        assert!(sample.files(".log").len() >= 2, "{:?}", sample.files(""));
        assert!(sample.files(".sst").len() >= 5, "{:?}", sample.files(""));
        sample
    }

    /// Files whose name contains `part`.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        files(self.folder.path(), part)
    }

    fn length(&self, file: &Path) -> u64 {
        fs::metadata(self.folder.path().join(file)).unwrap().len()
    }

    /// Damages a copy and says whether that was noticed. Fails if wrong bytes came out, or none where some should.
    fn notices(&self, file: &Path, damage: &Inflicted) -> bool {
        let copy = copy(self.folder.path());
        damage.inflict(&copy.path().join(file));
        let what = || format!("{} with {damage:?}", file.display());
        let (verdict, engine) = open(copy.path());
        let engine = match engine {
            Ok(engine) => engine,
            // Whoever opens is told by the error alone.
            Err(EngineError::Damaged(_)) => return true,
            Err(other) => panic!("{}: {other}", what()),
        };
        match contents(&engine) {
            Ok(found) => self.assert_sound(&found, &what()),
            Err(EngineError::Damaged(_)) => {
                assert!(verdict.reported().is_some(), "{} was not reported", what());
                return true;
            }
            Err(other) => panic!("{}: {other}", what()),
        }
        for ((family, key), value) in &self.synced {
            match engine.get(*family, key) {
                Ok(found) => assert_eq!(found.as_deref(), Some(&value[..]), "{}", what()),
                Err(EngineError::Damaged(_)) => return true,
                Err(other) => panic!("{}: {other}", what()),
            }
        }
        false
    }

    fn assert_sound(&self, found: &Contents, what: &str) {
        let mut expected = self.synced.clone();
        let mut unsynced = self.unsynced.iter();
        while found.len() > expected.len() {
            let (key, value) = unsynced.next().unwrap_or_else(|| panic!("{what}: pairs that nobody wrote"));
            expected.insert(key.clone(), value.clone());
        }
        assert!(*found == expected, "{what}: {} pairs instead of {}", found.len(), expected.len());
    }
}

#[derive(Debug)]
enum Inflicted {
    FlippedBit { position: u64, bit: u8 },
    CutAt(u64),
    Removed,
}

impl Inflicted {
    fn inflict(&self, path: &Path) {
        match *self {
            Inflicted::Removed => fs::remove_file(path).unwrap(),
            Inflicted::CutAt(length) => OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap(),
            Inflicted::FlippedBit { position, bit } => {
                let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, position).unwrap();
                byte[0] ^= 1 << bit;
                file.write_all_at(&byte, position).unwrap();
            }
        }
    }
}

/// In memory where that is possible: hundreds of copies are made, and nothing here depends on a disk.
fn empty_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let mut files: Vec<PathBuf> = files.filter(|name| name.to_str().unwrap().contains(part)).collect();
    files.sort();
    files
}

fn copy(folder: &Path) -> TempDir {
    let copy = empty_folder();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && entry.file_name() != "LOCK" {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn write_one(engine: &RocksEngine, family: Family, number: u32, contents: &mut Contents) {
    let mut batch = WriteBatch::new();
    let key = [&[1][..], &number.to_be_bytes()].concat();
    batch.put(family, &key, value(number));
    engine.write(batch).unwrap();
    contents.insert((family, key), value(number));
}

fn write(engine: &RocksEngine, numbers: std::ops::Range<u32>, contents: &mut Contents) {
    for number in numbers {
        write_one(engine, Family::Log, number, contents);
        write_one(engine, Family::State, number, contents);
        // Overwritten again and again: an older value may come back from an older table.
        let mut batch = WriteBatch::new();
        batch.put(Family::Node, b"newest", number.to_be_bytes());
        engine.write(batch).unwrap();
        contents.insert((Family::Node, b"newest".to_vec()), number.to_be_bytes().to_vec());
    }
}

/// Replaces a range twice, so that the second time pairs of the first lie beneath.
fn install(engine: &Arc<RocksEngine>, contents: &mut Contents) {
    let range = KeyRange { from: vec![2], to: vec![2, 0xff] };
    for round in 0..2u32 {
        let mut staging = engine.clone().stage(Family::State, range.clone()).unwrap();
        contents.retain(|(_, key), _| key[0] != 2);
        for number in (round..150).step_by(2) {
            let (key, value) = ([&[2][..], &number.to_be_bytes()].concat(), value(number + round));
            staging.put(&key, &value).unwrap();
            contents.insert((Family::State, key), value);
        }
        staging.install().unwrap();
    }
}

fn contents(engine: &RocksEngine) -> Result<Contents, EngineError> {
    let mut contents = Contents::new();
    for family in Family::ALL {
        for pair in engine.scan(family, KeyRange { from: Vec::new(), to: vec![0xff] }) {
            let (key, value) = pair?;
            contents.insert((family, key.to_vec()), value.to_vec());
        }
    }
    Ok(contents)
}

/// About `count` positions of a file, its beginning and end among them, each with another bit.
fn flips(length: u64, count: u64) -> impl Iterator<Item = Inflicted> {
    let step = (length / count).max(1);
    let spread = (0..length).step_by(step as usize);
    let ends = (0..4.min(length)).chain(length.saturating_sub(4)..length);
    spread.chain(ends).map(|position| Inflicted::FlippedBit { position, bit: (position % 8) as u8 })
}

fn cuts(length: u64, count: u64) -> impl Iterator<Item = Inflicted> {
    let step = (length / count).max(1);
    (0..length).step_by(step as usize).chain([length - 1]).map(Inflicted::CutAt)
}

#[test]
fn an_undamaged_copy_is_sound() {
    let sample = Sample::new();
    let (damage, engine) = open(copy(sample.folder.path()).path());
    let found = contents(&engine.unwrap()).unwrap();
    assert_eq!(found.len(), sample.synced.len() + sample.unsynced.len());
    sample.assert_sound(&found, "nothing");
    assert_eq!(damage.reported(), None);
}

#[test]
fn a_damaged_table_is_noticed() {
    let sample = Sample::new();
    for file in sample.files(".sst") {
        let length = sample.length(&file);
        assert!(sample.notices(&file, &Inflicted::Removed), "{} was not missed", file.display());
        for damage in cuts(length, 3) {
            assert!(sample.notices(&file, &damage), "{}: {damage:?}", file.display());
        }
        // Some bytes of a table only make reads faster.
        let noticed = flips(length, 12).filter(|damage| sample.notices(&file, damage)).count();
        assert!(noticed >= 12, "{}: {noticed} flips were noticed", file.display());
    }
}

#[test]
fn a_damaged_log_loses_nothing_that_was_synced() {
    let sample = Sample::new();
    let logs = sample.files(".log");
    let (newest, closed) = logs.split_last().unwrap();
    for file in closed {
        assert!(sample.notices(file, &Inflicted::Removed), "{} was not missed", file.display());
        for damage in cuts(sample.length(file), 30).chain(flips(sample.length(file), 60)) {
            assert!(sample.notices(file, &damage), "{}: {damage:?}", file.display());
        }
    }
    let length = sample.length(newest);
    assert!(sample.notices(newest, &Inflicted::Removed));
    let noticed = cuts(length, 30).chain(flips(length, 90)).filter(|damage| sample.notices(newest, damage)).count();
    assert!(noticed >= 30, "{noticed}");
}

#[test]
fn a_damaged_manifest_or_its_name_is_noticed() {
    let sample = Sample::new();
    for file in ["MANIFEST", "CURRENT", "SYNCED"].into_iter().flat_map(|part| sample.files(part)) {
        let length = sample.length(&file);
        for damage in flips(length, 80).chain(cuts(length, 30)).chain([Inflicted::Removed]) {
            assert!(sample.notices(&file, &damage), "{}: {damage:?}", file.display());
        }
    }
}

#[test]
fn a_file_that_only_describes_may_be_damaged() {
    let sample = Sample::new();
    for file in ["OPTIONS", "IDENTITY"].into_iter().flat_map(|part| sample.files(part)) {
        let length = sample.length(&file);
        for damage in flips(length, 8).chain(cuts(length, 4)).chain([Inflicted::Removed]) {
            assert!(!sample.notices(&file, &damage), "{}: {damage:?}", file.display());
        }
    }
}

#[test]
fn a_scrub_finds_what_nobody_reads() {
    let sample = Sample::new();
    let copy = copy(sample.folder.path());
    let table = sample.files(".sst").into_iter().max_by_key(|file| sample.length(file)).unwrap();
    Inflicted::FlippedBit { position: 100, bit: 3 }.inflict(&copy.path().join(table));
    let (damage, engine) = open(copy.path());
    let engine = engine.unwrap();
    let mut scrub = Scrub::new();
    let end = loop {
        match scrub.step(&engine, 4 << 10) {
            Ok(true) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(EngineError::Damaged(_))), "{end:?}");
    assert!(damage.reported().is_some());
}

#[test]
fn a_compaction_that_meets_damage_says_so_to_the_next_writer() {
    let folder = empty_folder();
    let buffers = WriteBuffers { bytes: 64 << 10, count: 2 };
    let damage = Damage::unattended();
    let options = RocksOptions { state_buffers: buffers, ..RocksOptions::default() };
    let engine = RocksEngine::open(folder.path(), options, damage.clone()).unwrap();
    let (begun, mut damaged, mut number) = (Instant::now(), false, 0u32);
    let refused = loop {
        assert!(begun.elapsed() < Duration::from_secs(20), "no compaction met the damage");
        // The same keys again and again: their tables overlap and must be merged.
        let mut batch = WriteBatch::new();
        batch.put(Family::State, (number % 300).to_be_bytes(), value(number));
        number += 1;
        if let Err(refused) = engine.write(batch) {
            break refused;
        }
        // The newest may still be written.
        if !damaged && let [oldest, _, ..] = &files(folder.path(), ".sst")[..] {
            Inflicted::FlippedBit { position: 100, bit: 3 }.inflict(&folder.path().join(oldest));
            damaged = true;
        }
    };
    assert!(matches!(refused, EngineError::Damaged(_)), "{refused:?}");
    assert!(damage.reported().is_some());
}

#[test]
fn a_file_that_cannot_be_read_condemns_nothing() {
    let sample = Sample::new();
    let copy = copy(sample.folder.path());
    // A folder in place of a file fails for every user, the one that may do everything among them.
    let current = copy.path().join("CURRENT");
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    let (damage, engine) = open(copy.path());
    assert!(matches!(engine.err(), Some(EngineError::Io(_) | EngineError::Open(_))));
    assert_eq!(damage.reported(), None);
}
