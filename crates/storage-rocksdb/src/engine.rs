//! The database as an [`Engine`].
//!
//! Writes go to the log without a sync, and a sync is a call of its own: RocksDB lets writers that need no sync join
//! a group that does, so synced writes would make everybody wait for the disk.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use conclave_storage::{
    Damage, Engine, EngineError, EngineStats, EngineView, Family, FamilyStats, KeyRange, Operation, Pairs, Staging,
    WriteBatch,
};
use parking_lot::Mutex;
use rocksdb::{Cache, ColumnFamily, DB, DBRawIterator, Options, ReadOptions, Snapshot, WriteOptions};
use self_cell::self_cell;

use crate::RocksOptions;
use crate::errors::{failed, open_failed};
use crate::manifest::{self, Manifest};
use crate::staging::{RocksStaging, StagingFolder};
use crate::synced_sequence::{Synced, SyncedSequence};

/// RocksDB's own table of live bytes of a family.
const LIVE_TABLE_BYTES: &str = "rocksdb.live-sst-files-size";

/// What a scan without the cache reads ahead.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// Of a record in RocksDB's batch: its kind, its family and two lengths, where keys and values are small.
const RECORD_OVERHEAD_BYTES: usize = 5;
/// Of a batch: sequence number and count.
const BATCH_OVERHEAD_BYTES: usize = 12;

/// One node's database.
pub struct RocksEngine {
    pub(crate) db: DB,
    pub(crate) options: RocksOptions,
    pub(crate) cache: Cache,
    pub(crate) staging: StagingFolder,
    write_options: WriteOptions,
    synced: Mutex<SyncedMark>,
    damage: Arc<Damage>,
    syncs: AtomicU64,
    wal_bytes: AtomicU64,
    /// By family.
    written: [Written; Family::ALL.len()],
}

/// The record of what is synced, and where the next one is taken from.
struct SyncedMark {
    record: SyncedSequence,
    manifest: Manifest,
}

#[derive(Default)]
struct Written {
    operations: AtomicU64,
    bytes: AtomicU64,
}

impl RocksEngine {
    /// Whether there is a database in `folder`; opening would make one where there is none.
    pub fn exists(folder: &Path) -> Result<bool, EngineError> {
        match manifest::has_database(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            found => found.map_err(|error| EngineError::Open(format!("cannot read {}: {error}", folder.display()))),
        }
    }

    /// Opens the database in `folder`, or makes one there.
    ///
    /// Fails with [`EngineError::Damaged`] when the database is not the one that was synced: its log, manifest or tables
    /// lost something or fail their checksums. Such a folder must not be used again, and the node's replicas need new
    /// ids. Any other error says nothing against the folder's contents.
    pub fn open(folder: &Path, options: RocksOptions, damage: Arc<Damage>) -> Result<Self, EngineError> {
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let database = options.database(&cache);
        // Not reported: whoever opens is told by the error, and decides.
        Self::open_with(folder, options, &database, cache, damage)
    }

    fn open_with(
        folder: &Path,
        options: RocksOptions,
        database: &Options,
        cache: Cache,
        damage: Arc<Damage>,
    ) -> Result<Self, EngineError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| EngineError::Open(format!("cannot create {}: {error}", folder.display())))?;
        let record = SyncedSequence::open(folder)?;
        let families = Family::ALL.map(|family| options.family(family, &cache));
        let db = DB::open_cf_descriptors(database, folder, families).map_err(|error| open_failed(folder, &error))?;
        record.check(db.latest_sequence_number())?;
        // Only the process that holds the database may empty it.
        let staging = StagingFolder::emptied(folder)?;
        let manifest = Manifest::follow(folder)
            .map_err(|error| EngineError::Io(format!("the manifest in {}: {error}", folder.display())))?;
        let mut write_options = WriteOptions::default();
        write_options.set_sync(false);
        let engine = RocksEngine {
            db,
            options,
            cache,
            staging,
            write_options,
            synced: Mutex::new(SyncedMark { record, manifest }),
            damage,
            syncs: AtomicU64::new(0),
            wal_bytes: AtomicU64::new(0),
            written: Default::default(),
        };
        // From here on the manifest that opening has just written is known.
        engine.record_synced(0)?;
        Ok(engine)
    }

    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("every family was opened")
    }

    /// Says what an error of RocksDB means, and reports it if that is damage.
    pub(crate) fn failed(&self, error: &rocksdb::Error) -> EngineError {
        let error = failed(error);
        if let EngineError::Damaged(reason) = &error {
            self.damage.report(reason);
        }
        error
    }

    /// Notes that everything up to `sequence` is synced, and how far the manifest reaches.
    pub(crate) fn record_synced(&self, sequence: u64) -> Result<(), EngineError> {
        let mut synced = self.synced.lock();
        let manifest = synced.manifest.mark();
        let recorded = manifest.and_then(|manifest| synced.record.record(Synced { sequence, manifest }));
        recorded.map_err(|error| EngineError::Io(format!("recording what is synced: {error}")))
    }

    fn get_with(&self, family: Family, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>, EngineError> {
        let value =
            self.db.get_pinned_cf_opt(self.family(family), key, options).map_err(|error| self.failed(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn read_options(&self, family: Family, range: &KeyRange, direction: Direction, caching: Caching) -> ReadOptions {
        let mut options = ReadOptions::default();
        if caching == Caching::None {
            options.fill_cache(false);
            options.set_readahead_size(READ_AHEAD_BYTES);
        }
        options.set_iterate_lower_bound(&range.from[..]);
        options.set_iterate_upper_bound(&range.to[..]);
        options.set_total_order_seek(!self.has_one_prefix(family, range) || direction == Direction::Descending);
        options
    }

    fn scan_in(&self, family: Family, range: KeyRange, direction: Direction, caching: Caching) -> Pairs<'_> {
        let options = self.read_options(family, &range, direction, caching);
        Scan::start(self, range, direction, || self.db.raw_iterator_cf_opt(self.family(family), options))
    }

    /// Filters know prefixes, so only a scan that stays within one may ask them.
    fn has_one_prefix(&self, family: Family, range: &KeyRange) -> bool {
        let Some(prefix) = range.from.get(..self.options.state_prefix_bytes) else { return false };
        family == Family::State && range.to.starts_with(prefix)
    }

    fn count(&self, batch: &WriteBatch, wal_bytes: usize) {
        let mut counted = [(0, 0); Family::ALL.len()];
        for operation in batch {
            let (operations, bytes) = &mut counted[operation.family() as usize];
            *operations += 1;
            *bytes += operation.bytes() as u64;
        }
        for (written, (operations, bytes)) in self.written.iter().zip(counted) {
            written.operations.fetch_add(operations, Ordering::Relaxed);
            written.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.wal_bytes.fetch_add(wal_bytes as u64, Ordering::Relaxed);
    }
}

impl EngineView for RocksEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.get_with(family, key, &ReadOptions::default())
    }

    fn scan(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_in(family, range, Direction::Ascending, Caching::Blocks)
    }

    fn scan_back(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_in(family, range, Direction::Descending, Caching::Blocks)
    }

    fn scan_once(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_in(family, range, Direction::Ascending, Caching::None)
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: WriteBatch) -> Result<(), EngineError> {
        if batch.is_empty() {
            return Ok(());
        }
        let families = Family::ALL.map(|family| self.family(family));
        let capacity = BATCH_OVERHEAD_BYTES + batch.bytes() + batch.len() * RECORD_OVERHEAD_BYTES;
        let mut writes = rocksdb::WriteBatch::with_capacity_bytes(capacity);
        for operation in &batch {
            match operation {
                Operation::Put { family, key, value } => writes.put_cf(&families[family as usize], key, value),
                Operation::Delete { family, key } => writes.delete_cf(&families[family as usize], key),
                // RocksDB takes an inverted range for an error; the port says that it holds nothing.
                Operation::DeleteRange { from, to, .. } if from >= to => {}
                Operation::DeleteRange { family, from, to } => {
                    writes.delete_range_cf(&families[family as usize], from, to);
                }
            }
        }
        let wal_bytes = writes.size_in_bytes();
        self.db.write_opt(writes, &self.write_options).map_err(|error| self.failed(&error))?;
        self.count(&batch, wal_bytes);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        // Taken before the sync, so the record never runs ahead of the disk.
        let sequence = self.db.latest_sequence_number();
        self.db.flush_wal(true).map_err(|error| self.failed(&error))?;
        self.record_synced(sequence)?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn stage(self: Arc<Self>, family: Family, range: KeyRange) -> Result<Box<dyn Staging>, EngineError> {
        Ok(Box::new(RocksStaging::new(self, family, range)))
    }

    fn snapshot(self: Arc<Self>) -> Arc<dyn EngineView> {
        Arc::new(RocksView(PinnedSnapshot::new(self, |engine| engine.db.snapshot())))
    }

    fn damage(&self) -> &Damage {
        &self.damage
    }

    fn stats(&self) -> EngineStats {
        let families = Family::ALL.map(|family| {
            let written = &self.written[family as usize];
            let table_bytes = self.db.property_int_value_cf(self.family(family), LIVE_TABLE_BYTES);
            FamilyStats {
                family,
                operations: written.operations.load(Ordering::Relaxed),
                written_bytes: written.bytes.load(Ordering::Relaxed),
                table_bytes: table_bytes.ok().flatten().unwrap_or(0),
            }
        });
        EngineStats {
            syncs: self.syncs.load(Ordering::Relaxed),
            wal_bytes: self.wal_bytes.load(Ordering::Relaxed),
            families: families.to_vec(),
        }
    }
}

self_cell!(
    /// A snapshot and the database it belongs to, which stays open as long.
    struct PinnedSnapshot {
        owner: Arc<RocksEngine>,
        #[covariant]
        dependent: Snapshot,
    }
);

struct RocksView(PinnedSnapshot);

impl RocksView {
    fn scan_in(&self, family: Family, range: KeyRange, direction: Direction, caching: Caching) -> Pairs<'_> {
        let engine = &**self.0.borrow_owner();
        let options = engine.read_options(family, &range, direction, caching);
        let iterator = || self.0.borrow_dependent().raw_iterator_cf_opt(engine.family(family), options);
        Scan::start(engine, range, direction, iterator)
    }
}

impl EngineView for RocksView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let engine = self.0.borrow_owner();
        let value = self.0.borrow_dependent().get_pinned_cf(engine.family(family), key);
        let value = value.map_err(|error| engine.failed(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_in(family, range, Direction::Ascending, Caching::Blocks)
    }

    fn scan_back(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_in(family, range, Direction::Descending, Caching::Blocks)
    }

    fn scan_once(&self, family: Family, range: KeyRange) -> Pairs<'_> {
        self.scan_in(family, range, Direction::Ascending, Caching::None)
    }
}

/// Whether what a scan reads displaces what others read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caching {
    Blocks,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

/// An iterator on its current pair, or on none once it met the bound of its options.
struct Scan<'a> {
    engine: &'a RocksEngine,
    iterator: DBRawIterator<'a>,
    direction: Direction,
    finished: bool,
}

impl<'a> Scan<'a> {
    fn start(
        engine: &'a RocksEngine,
        range: KeyRange,
        direction: Direction,
        iterator: impl FnOnce() -> DBRawIterator<'a>,
    ) -> Pairs<'a> {
        if range.from >= range.to {
            return Box::new(std::iter::empty());
        }
        let mut iterator = iterator();
        match direction {
            Direction::Ascending => iterator.seek(&range.from),
            Direction::Descending => iterator.seek_to_last(),
        }
        Box::new(Scan { engine, iterator, direction, finished: false })
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let Some((key, value)) = self.iterator.item() else {
            self.finished = true;
            return self.iterator.status().err().map(|error| Err(self.engine.failed(&error)));
        };
        let pair = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        match self.direction {
            Direction::Ascending => self.iterator.next(),
            Direction::Descending => self.iterator.prev(),
        }
        Some(Ok(pair))
    }
}

#[cfg(test)]
mod tests {
    use rocksdb::statistics::Ticker;

    use super::*;

    /// No test within one process can lose what the operating system holds, so the syncs themselves are counted.
    #[test]
    fn a_sync_reaches_the_disk_and_a_write_alone_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let options = RocksOptions::default();
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let mut database = options.database(&cache);
        database.enable_statistics();
        let engine = RocksEngine::open_with(folder.path(), options, &database, cache, Damage::unattended()).unwrap();
        for round in 0..3u64 {
            let mut batch = WriteBatch::new();
            batch.put(Family::Log, b"key", b"value");
            engine.write(batch).unwrap();
            assert_eq!(database.get_ticker_count(Ticker::WalFileSynced), round);
            engine.sync().unwrap();
            assert_eq!(database.get_ticker_count(Ticker::WalFileSynced), round + 1);
        }
        assert_eq!(database.get_ticker_count(Ticker::WalFileBytes), engine.stats().wal_bytes);
    }
}
