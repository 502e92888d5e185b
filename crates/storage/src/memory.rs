//! An engine in memory that can crash.
//!
//! Every key keeps the versions that someone may still ask for: those a live view reads, and those since the last
//! `sync`, because a crash may take the store back to any of them. The changes that made them stand in one list in
//! order, so a crash undoes its end and forgetting consumes its front; neither walks the families.
//! The floor is the oldest sequence still asked for. Invariant: of a key's versions at most the first is at or below
//! the floor, and a deletion is never the first.
//!
//! A store that is never synced keeps every change, as a log would.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    Damage, Engine, EngineError, EngineStats, EngineView, Family, FamilyStats, KeyRange, Operation, Pairs, StagedOrder,
    Staging, WriteBatch,
};

/// Pairs that a scan copies under one lock: enough that the lock costs little, few enough that writers hardly wait.
const SCAN_CHUNK: usize = 128;

/// An [`Engine`] whose disk is memory: data lives as long as the engine, and [`crash`](MemoryEngine::crash) takes
/// away what was not synced.
pub struct MemoryEngine {
    store: Mutex<Store>,
    damage: Arc<Damage>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        MemoryEngine { store: Mutex::default(), damage: Damage::unattended() }
    }
}

impl MemoryEngine {
    pub fn new() -> Self {
        MemoryEngine::default()
    }

    /// Loses every batch written since the last `sync`, as a power cut may.
    ///
    /// Views and scans that began before a crash fail afterwards: their process is gone. The engine itself goes on as
    /// the next process would find it.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Crashes, but the first `batches` of those written since the last `sync` survive, as the operating system may
    /// have stored some prefix of them. All of them survive `usize::MAX`, as they do when only the process is killed.
    pub fn crash_keeping(&self, batches: usize) {
        self.store.lock().crash_keeping(batches as u64);
    }

    /// Batches written since the last `sync`.
    pub fn unsynced_batches(&self) -> usize {
        let store = self.store.lock();
        (store.written - store.synced) as usize
    }

    fn scan_from(&self, family: Family, range: KeyRange, direction: Direction) -> Pairs<'_> {
        let mut store = self.store.lock();
        let mut scan = Scan::new(self, store.newest(), family, range, direction);
        scan.copy_chunk(&store);
        if !scan.finished {
            scan.pin = Some(ScanPin { engine: self, moment: store.pin() });
        }
        Box::new(scan)
    }
}

impl EngineView for MemoryEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let store = self.store.lock();
        Ok(store.get(family, key, store.written))
    }

    fn scan(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_from(family, range, Direction::Ascending)
    }

    fn scan_back(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_from(family, range, Direction::Descending)
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: WriteBatch) -> Result<(), EngineError> {
        if !batch.is_empty() {
            self.store.lock().write(&batch);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.store.lock().sync();
        Ok(())
    }

    fn stage(self: Arc<Self>, family: Family, range: KeyRange) -> Result<Box<dyn Staging>, EngineError> {
        let mut batch = WriteBatch::new();
        batch.delete_range(family, range.clone());
        let crashes = self.store.lock().crashes;
        Ok(Box::new(MemoryStaging { engine: self, crashes, family, order: StagedOrder::new(range), batch }))
    }

    fn snapshot(self: Arc<Self>) -> Arc<dyn EngineView> {
        let moment = self.store.lock().pin();
        Arc::new(MemoryView { engine: self, moment })
    }

    fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Table bytes are 0: there are no tables.
    fn stats(&self) -> EngineStats {
        self.store.lock().stats.clone()
    }
}

/// A batch that is written and synced at once.
struct MemoryStaging {
    engine: Arc<MemoryEngine>,
    /// Crashes before it began: what was gathered does not outlive the next one.
    crashes: u64,
    family: Family,
    order: StagedOrder,
    batch: WriteBatch,
}

impl Staging for MemoryStaging {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.order.take(key)?;
        self.batch.put(self.family, key, value);
        Ok(())
    }

    fn install(self: Box<Self>) -> Result<(), EngineError> {
        let mut store = self.engine.store.lock();
        store.check_process(self.crashes)?;
        store.write(&self.batch);
        store.sync();
        Ok(())
    }
}

/// The state after one batch, between two crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    crashes: u64,
    sequence: u64,
}

struct MemoryView {
    engine: Arc<MemoryEngine>,
    moment: Moment,
}

impl EngineView for MemoryView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let store = self.engine.store.lock();
        store.check(self.moment)?;
        Ok(store.get(family, key, self.moment.sequence))
    }

    fn scan(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        Box::new(Scan::new(&self.engine, self.moment, family, range, Direction::Ascending))
    }

    fn scan_back(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        Box::new(Scan::new(&self.engine, self.moment, family, range, Direction::Descending))
    }
}

impl Drop for MemoryView {
    fn drop(&mut self) {
        self.engine.store.lock().unpin(self.moment);
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Ascending,
    Descending,
}

/// The pairs of a range as of one moment, copied a chunk at a time.
struct Scan<'a> {
    engine: &'a MemoryEngine,
    moment: Moment,
    family: Family,
    direction: Direction,
    /// What is not copied yet.
    from: Bound<Bytes>,
    to: Bytes,
    chunk: VecDeque<(Bytes, Bytes)>,
    finished: bool,
    /// Keeps the moment readable where no view does.
    pin: Option<ScanPin<'a>>,
}

impl<'a> Scan<'a> {
    fn new(engine: &'a MemoryEngine, moment: Moment, family: Family, range: KeyRange, direction: Direction) -> Self {
        Scan {
            engine,
            moment,
            family,
            direction,
            // A map refuses an inverted range; a scan of one is empty.
            finished: range.from >= range.to,
            from: Bound::Included(range.from.into()),
            to: range.to.into(),
            chunk: VecDeque::new(),
            pin: None,
        }
    }

    fn copy_chunk(&mut self, store: &Store) {
        if self.finished {
            return;
        }
        let from = self.from.as_ref().map(|key| &key[..]);
        let range = store.families[self.family as usize].range::<[u8], _>((from, Bound::Excluded(&self.to[..])));
        let sequence = self.moment.sequence;
        let present = |(key, versions): (&Bytes, &Versions)| Some((key.clone(), versions.at(sequence)?.clone()));
        match self.direction {
            Direction::Ascending => self.chunk.extend(range.filter_map(present).take(SCAN_CHUNK)),
            Direction::Descending => self.chunk.extend(range.rev().filter_map(present).take(SCAN_CHUNK)),
        }
        match (self.chunk.back(), self.direction) {
            (Some((last, _)), Direction::Ascending) => self.from = Bound::Excluded(last.clone()),
            (Some((last, _)), Direction::Descending) => self.to = last.clone(),
            (None, _) => {}
        }
        self.finished = self.chunk.len() < SCAN_CHUNK;
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunk.is_empty() && !self.finished {
            let engine = self.engine;
            let store = engine.store.lock();
            if let Err(error) = store.check(self.moment) {
                self.finished = true;
                return Some(Err(error));
            }
            self.copy_chunk(&store);
        }
        self.chunk.pop_front().map(Ok)
    }
}

struct ScanPin<'a> {
    engine: &'a MemoryEngine,
    moment: Moment,
}

impl Drop for ScanPin<'_> {
    fn drop(&mut self) {
        self.engine.store.lock().unpin(self.moment);
    }
}

struct Store {
    /// By family.
    families: [BTreeMap<Bytes, Versions>; Family::ALL.len()],
    /// Changes above the floor, oldest first.
    changes: VecDeque<Change>,
    /// Sequence of the newest batch; each batch takes the next one.
    written: u64,
    /// Sequence of the newest batch that a crash leaves.
    synced: u64,
    /// How many views and scans read each sequence.
    pins: BTreeMap<u64, usize>,
    crashes: u64,
    stats: EngineStats,
}

/// What one batch did to one key.
struct Change {
    sequence: u64,
    family: Family,
    key: Bytes,
}

/// A key's values, oldest first; `None` is a deletion.
#[derive(Default)]
struct Versions(Vec<(u64, Option<Bytes>)>);

impl Versions {
    fn at(&self, sequence: u64) -> Option<&Bytes> {
        let (_, value) = self.0.iter().rev().find(|(written, _)| *written <= sequence)?;
        value.as_ref()
    }

    fn set(&mut self, sequence: u64, value: Option<Bytes>) {
        match self.0.last_mut() {
            Some((newest, current)) if *newest == sequence => *current = value,
            _ => self.0.push((sequence, value)),
        }
    }

    /// Drops what nobody who reads at `floor` or above can see.
    fn forget_below(&mut self, floor: u64) {
        let visible = self.0.iter().rposition(|(written, _)| *written <= floor);
        self.0.drain(..visible.unwrap_or(0));
        if matches!(self.0.first(), Some((written, None)) if *written <= floor) {
            self.0.remove(0);
        }
    }

    fn undo_above(&mut self, sequence: u64) {
        while matches!(self.0.last(), Some((written, _)) if *written > sequence) {
            self.0.pop();
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        let idle = |family| FamilyStats { family, operations: 0, written_bytes: 0, table_bytes: 0 };
        Store {
            families: Default::default(),
            changes: VecDeque::new(),
            written: 0,
            synced: 0,
            pins: BTreeMap::new(),
            crashes: 0,
            stats: EngineStats { families: Family::ALL.map(idle).to_vec(), ..EngineStats::default() },
        }
    }
}

impl Store {
    fn get(&self, family: Family, key: &[u8], sequence: u64) -> Option<Bytes> {
        self.families[family as usize].get(key)?.at(sequence).cloned()
    }

    fn write(&mut self, batch: &WriteBatch) {
        self.written += 1;
        for operation in batch {
            match operation {
                Operation::Put { family, key, value } => {
                    self.set(family, Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
                }
                Operation::Delete { family, key } => self.delete(family, key),
                Operation::DeleteRange { family, from, to } => self.delete_range(family, from, to),
            }
            let stats = &mut self.stats.families[operation.family() as usize];
            stats.operations += 1;
            stats.written_bytes += operation.bytes() as u64;
        }
        self.stats.wal_bytes += batch.bytes() as u64;
    }

    fn set(&mut self, family: Family, key: Bytes, value: Option<Bytes>) {
        self.families[family as usize].entry(key.clone()).or_default().set(self.written, value);
        self.changes.push_back(Change { sequence: self.written, family, key });
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        if self.get(family, key, self.written).is_some() {
            self.set(family, Bytes::copy_from_slice(key), None);
        }
    }

    fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        if from >= to {
            return;
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let present = |(key, versions): (&Bytes, &Versions)| versions.at(self.written).map(|_| key.clone());
        let keys: Vec<Bytes> = self.families[family as usize].range::<[u8], _>(range).filter_map(present).collect();
        for key in keys {
            self.set(family, key, None);
        }
    }

    fn sync(&mut self) {
        self.synced = self.written;
        self.stats.syncs += 1;
        self.forget();
    }

    fn crash_keeping(&mut self, batches: u64) {
        let kept = self.synced + batches.min(self.written - self.synced);
        while let Some(change) = self.changes.pop_back_if(|change| change.sequence > kept) {
            self.amend(change, |versions| versions.undo_above(kept));
        }
        self.written = kept;
        self.synced = kept;
        self.crashes += 1;
        self.pins.clear();
        self.forget();
    }

    fn newest(&self) -> Moment {
        Moment { crashes: self.crashes, sequence: self.written }
    }

    fn check(&self, moment: Moment) -> Result<(), EngineError> {
        self.check_process(moment.crashes)
    }

    fn check_process(&self, crashes: u64) -> Result<(), EngineError> {
        if crashes == self.crashes { Ok(()) } else { Err(EngineError::Io("the store crashed meanwhile".to_owned())) }
    }

    /// Keeps the newest state readable until it is unpinned.
    fn pin(&mut self) -> Moment {
        let moment = self.newest();
        *self.pins.entry(moment.sequence).or_default() += 1;
        moment
    }

    fn unpin(&mut self, moment: Moment) {
        // A crash has taken its pins away already.
        if moment.crashes != self.crashes {
            return;
        }
        let pins = self.pins.get_mut(&moment.sequence).expect("a live moment is pinned");
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(&moment.sequence);
            self.forget();
        }
    }

    /// Forgets the versions that nobody can ask for any more.
    fn forget(&mut self) {
        let oldest_pin = self.pins.first_key_value().map_or(u64::MAX, |(sequence, _)| *sequence);
        let floor = self.synced.min(oldest_pin);
        while let Some(change) = self.changes.pop_front_if(|change| change.sequence <= floor) {
            self.amend(change, |versions| versions.forget_below(floor));
        }
    }

    /// Amends the versions that a change made, and drops the key when none is left.
    fn amend(&mut self, change: Change, amend: impl FnOnce(&mut Versions)) {
        let family = &mut self.families[change.family as usize];
        // An earlier change of the same key may have taken all of them.
        if let Some(versions) = family.get_mut(&change.key) {
            amend(versions);
            if versions.0.is_empty() {
                family.remove(&change.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
