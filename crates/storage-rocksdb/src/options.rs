//! How the database is sized and tuned.
//!
//! The defaults are for a host that has 1 GiB of memory and two cores, of which RocksDB gets at most 300 MiB.

use conclave_storage::Family;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, SliceTransform, WriteBufferManager,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Files of RocksDB's own diagnostic log, and the size of each.
const DIAGNOSTIC_FILES: usize = 4;
const DIAGNOSTIC_FILE_BYTES: usize = 4 * MIB;

/// Settings of one database. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct RocksOptions {
    /// Block cache of all families; index, filter and write-buffer memory are charged to it. Default 192 MiB.
    pub block_cache_bytes: usize,
    /// All write buffers together; when they near it the oldest is flushed, and writers never wait. Default 96 MiB.
    pub write_buffers_bytes: usize,
    /// Buffers of the log family. Default 2 of 32 MiB.
    pub log_buffers: WriteBuffers,
    /// Buffers of the state family. Default 3 of 32 MiB.
    pub state_buffers: WriteBuffers,
    /// Buffers of the node family. Default 2 of 2 MiB.
    pub node_buffers: WriteBuffers,
    /// Level-0 files of a family at which they are merged into the level below. Default 8.
    ///
    /// The usual 4 merges twice as often, each time with all that is below: a third of a busy host's processor.
    pub young_files: i32,
    /// Level-0 files of the state family at which writes slow down. Default 200.
    ///
    /// The usual 20 would let the installation of a few snapshots slow the whole database, the log included.
    pub state_slowdown_files: i32,
    /// Level-0 files of the state family at which writes stop. Default 400.
    pub state_stop_files: i32,
    /// State keys share this many leading bytes when they belong together; filters know the prefix. Default 13.
    pub state_prefix_bytes: usize,
    /// Tables of the state family that are full of deletions are compacted early. Default 512 of any 1,024 keys.
    pub state_deletions: DeletionTrigger,
    /// The write-ahead log grows to this size before the family that holds its oldest part is flushed. Default 256 MiB.
    pub max_wal_bytes: u64,
    /// Table files are handed to the disk in steps of this size while they are written. Default 1 MiB.
    pub bytes_per_sync: u64,
    /// Upper bound of what flush and compaction write in a second; tuned below it by demand. Default 48 MiB,
    /// `None` is without bound.
    pub background_bytes_per_second: Option<usize>,
    /// Threads of flush and compaction together. Default 2.
    pub background_jobs: i32,
    /// Pairs of a staging up to this size become one write instead of a table. Default 1 MiB: up to there it is faster.
    pub staged_write_bytes: usize,
    /// Size at which a staged table file is closed and the next begun; larger files once there are sixteen. Default
    /// 64 MiB.
    pub staged_file_bytes: u64,
    /// Open table files; -1 keeps all open, so that reads never pay for opening. Default -1.
    pub max_open_files: i32,
}

/// Write buffers of one family.
#[derive(Debug, Clone, Copy)]
pub struct WriteBuffers {
    /// Size of one, in bytes.
    pub bytes: usize,
    /// How many there are at most; all but one wait for their flush.
    pub count: i32,
}

/// When a table counts as full of deletions.
#[derive(Debug, Clone, Copy)]
pub struct DeletionTrigger {
    /// Neighbouring keys that are looked at together.
    pub window: usize,
    /// Deletions among them.
    pub deletions: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        RocksOptions {
            block_cache_bytes: 192 * MIB,
            write_buffers_bytes: 96 * MIB,
            log_buffers: WriteBuffers { bytes: 32 * MIB, count: 2 },
            state_buffers: WriteBuffers { bytes: 32 * MIB, count: 3 },
            node_buffers: WriteBuffers { bytes: 2 * MIB, count: 2 },
            young_files: 8,
            state_slowdown_files: 200,
            state_stop_files: 400,
            state_prefix_bytes: 13,
            state_deletions: DeletionTrigger { window: 1024, deletions: 512 },
            max_wal_bytes: 256 * MIB as u64,
            bytes_per_sync: MIB as u64,
            background_bytes_per_second: Some(48 * MIB),
            background_jobs: 2,
            staged_write_bytes: MIB,
            staged_file_bytes: 64 * MIB as u64,
            max_open_files: -1,
        }
    }
}

impl RocksOptions {
    pub(crate) fn database(&self, cache: &Cache) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // After a power cut the log's end may be torn, and everything up to there is what the port promises. This
        // mode also stops silently at damage before the end, which the synced sequence then shows.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_recycle_log_file_num(0);
        // A log that was closed and synced is named in the manifest until its contents are in tables, so that one that
        // is gone or too short is missed. The one in use is watched by the synced record.
        options.set_track_and_verify_wals_in_manifest(true);
        // The default too. A store that reads on past what it cannot check would serve wrong bytes.
        options.set_paranoid_checks(true);
        options.set_manual_wal_flush(false);
        options.set_max_total_wal_size(self.max_wal_bytes);
        options.set_bytes_per_sync(self.bytes_per_sync);
        options.set_max_background_jobs(self.background_jobs);
        options.set_max_open_files(self.max_open_files);
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
            self.write_buffers_bytes,
            false,
            cache.clone(),
        ));
        if let Some(rate) = self.background_bytes_per_second {
            let refill_period_us = 100_000;
            options.set_auto_tuned_ratelimiter(i64::try_from(rate).unwrap_or(i64::MAX), refill_period_us, 10);
        }
        // The end of a scan must not wait for the deletion of files.
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(DIAGNOSTIC_FILES);
        options.set_max_log_file_size(DIAGNOSTIC_FILE_BYTES);
        options.set_stats_dump_period_sec(0);
        options
    }

    pub(crate) fn family(&self, family: Family, cache: &Cache) -> ColumnFamilyDescriptor {
        ColumnFamilyDescriptor::new(family.name(), self.tables_of(family, cache))
    }

    /// How a family's tables are made, by the database or beside it.
    pub(crate) fn tables_of(&self, family: Family, cache: &Cache) -> Options {
        let mut options = Options::default();
        // Also at the bottom, where most of a small store is: there zstd took a tenth of a busy host's processor.
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Lz4);
        options.set_level_zero_file_num_compaction_trigger(self.young_files);
        let mut tables = tables(cache);
        let buffers = match family {
            // Read in runs from known indexes, so filters would not be asked.
            Family::Log => self.log_buffers,
            Family::State => {
                self.tune_state(&mut options);
                tables.set_bloom_filter(10.0, false);
                self.state_buffers
            }
            Family::Node => self.node_buffers,
        };
        options.set_write_buffer_size(buffers.bytes);
        options.set_max_write_buffer_number(buffers.count);
        options.set_block_based_table_factory(&tables);
        options
    }

    fn tune_state(&self, options: &mut Options) {
        options.set_level_zero_slowdown_writes_trigger(self.state_slowdown_files);
        options.set_level_zero_stop_writes_trigger(self.state_stop_files);
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(self.state_prefix_bytes));
        let no_ratio = 0.0;
        options.add_compact_on_deletion_collector_factory(
            self.state_deletions.window,
            self.state_deletions.deletions,
            no_ratio,
        );
    }
}

/// Index and filters live in the cache, so that its size bounds them too; those of young files stay there.
fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_block_size(16 * KIB);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    tables.set_partition_filters(true);
    tables.set_pin_top_level_index_and_filter(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables
}
