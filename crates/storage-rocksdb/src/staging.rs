//! Ranges replaced by table files that are built aside and taken in at once.
//!
//! Each file covers a part of the range and holds a tombstone over exactly that part; together the parts are the whole
//! range, and they never overlap. The database takes all files in by one record of its manifest, so readers, a crash and
//! a power cut find the old range or the new one. A tombstone hides older pairs and not those of its own file.
//!
//! What is small is written as one batch instead: that is faster and makes no file.
//!
//! Everything written before is synced first. The manifest is synced with the new files, so without that an installation
//! could outlive earlier writes of others, votes among them, and the store would no longer be a prefix of what was
//! written. After a crash the folder holds files that nobody names; it is emptied when the store opens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conclave_storage::{Engine, EngineError, Family, KeyRange, StagedOrder, Staging, WriteBatch};
use parking_lot::Mutex;
use rocksdb::{ErrorKind, IngestExternalFileOptions, Options, SstFileWriter};
use self_cell::self_cell;

use crate::RocksEngine;

const FOLDER_NAME: &str = "staging";

/// Files of one installation before they grow: each costs about half a millisecond while it is taken in.
const FILES: u64 = 16;

/// How often a flush and an installation without one are tried before writers are stopped for it. Another writer's pairs
/// beside the range can make one more flush necessary; two were never seen.
const FLUSH_ATTEMPTS: usize = 3;

/// Where tables are built: inside the store's folder, so that taking them in is a link and not a copy.
pub struct StagingFolder {
    path: PathBuf,
    /// Makes one installation at a time.
    installing: Mutex<()>,
    next: AtomicU64,
}

impl StagingFolder {
    /// The folder of a store, without what a crash left there.
    pub fn emptied(store: &Path) -> Result<StagingFolder, EngineError> {
        let path = store.join(FOLDER_NAME);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("empty", &path, &error)),
            _ => Ok(StagingFolder { path, installing: Mutex::new(()), next: AtomicU64::new(0) }),
        }
    }

    fn new_path(&self) -> Result<PathBuf, EngineError> {
        let path = self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&path).map_err(|error| failed("create", &path, &error))?;
        Ok(path)
    }
}

fn failed(action: &str, path: &Path, error: &io::Error) -> EngineError {
    EngineError::Io(format!("cannot {action} {}: {error}", path.display()))
}

pub struct RocksStaging {
    engine: Arc<RocksEngine>,
    family: Family,
    order: StagedOrder,
    gathered: Gathered,
}

enum Gathered {
    /// The deletion of the range, and the pairs so far.
    Batch(WriteBatch),
    Files(Files),
}

impl RocksStaging {
    pub fn new(engine: Arc<RocksEngine>, family: Family, range: KeyRange) -> Self {
        let mut batch = WriteBatch::new();
        batch.delete_range(family, range.clone());
        RocksStaging { engine, family, order: StagedOrder::new(range), gathered: Gathered::Batch(batch) }
    }
}

impl Staging for RocksStaging {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.order.take(key)?;
        match &mut self.gathered {
            Gathered::Batch(batch) => {
                batch.put(self.family, key, value);
                if batch.bytes() > self.engine.options.staged_write_bytes {
                    let mut files = Files::begin(&self.engine, self.family, &self.order.range().from)?;
                    for (key, value) in batch.operations().filter_map(|operation| operation.as_put()) {
                        files.put(&self.engine, key, value)?;
                    }
                    self.gathered = Gathered::Files(files);
                }
                Ok(())
            }
            Gathered::Files(files) => files.put(&self.engine, key, value),
        }
    }

    fn install(self: Box<Self>) -> Result<(), EngineError> {
        let RocksStaging { engine, family, order, gathered } = *self;
        match gathered {
            Gathered::Batch(batch) => {
                engine.write(batch)?;
                engine.sync()
            }
            Gathered::Files(mut files) => {
                files.close(&engine, &order.range().to)?;
                files.assert_disjoint(order.range());
                engine.take_in(family, &files)
            }
        }
    }
}

impl RocksEngine {
    fn take_in(&self, family: Family, files: &Files) -> Result<(), EngineError> {
        let _one_at_a_time = self.staging.installing.lock();
        self.sync()?;
        let paths: Vec<&Path> = files.closed.iter().map(|closed| &*closed.path).collect();
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let mut ingested = Ok(());
        for attempt in 0..=FLUSH_ATTEMPTS {
            // Pairs of the range in memory would have to be flushed while all writers wait.
            self.db.flush_cf(self.family(family)).map_err(|error| self.failed(&error))?;
            options.set_allow_blocking_flush(attempt == FLUSH_ATTEMPTS);
            ingested = self.db.ingest_external_file_cf_opts(self.family(family), &options, paths.clone());
            if !ingested.as_ref().is_err_and(needs_flush) {
                break;
            }
        }
        ingested.map_err(|error| self.failed(&error))?;
        // The manifest has grown, and what it gained is not to be lost unnoticed.
        self.record_synced(0)
    }
}

fn needs_flush(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::InvalidArgument && error.as_ref().contains("requires flush")
}

self_cell!(
    /// A writer and the options it was made with, which it reads until it is finished.
    struct TableWriter {
        owner: Options,
        #[covariant]
        dependent: SstFileWriter,
    }
);

/// Table files under construction, removed when dropped; those that were taken in live on in the database's folder.
struct Files {
    folder: PathBuf,
    family: Family,
    closed: Vec<ClosedFile>,
    closed_bytes: u64,
    open: Option<OpenFile>,
}

struct OpenFile {
    from: Vec<u8>,
    path: PathBuf,
    writer: TableWriter,
}

/// A finished file and the part of the range it stands for.
struct ClosedFile {
    part: KeyRange,
    path: PathBuf,
}

impl Files {
    fn begin(engine: &RocksEngine, family: Family, from: &[u8]) -> Result<Files, EngineError> {
        let folder = engine.staging.new_path()?;
        let mut files = Files { folder, family, closed: Vec::new(), closed_bytes: 0, open: None };
        files.open(engine, from)?;
        Ok(files)
    }

    fn put(&mut self, engine: &RocksEngine, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        let full = self.open.as_ref().is_none_or(|open| {
            let limit = engine.options.staged_file_bytes.max(self.closed_bytes / FILES);
            open.writer.with_dependent(|_, writer| writer.file_size()) >= limit
        });
        if full {
            self.close(engine, key)?;
            self.open(engine, key)?;
        }
        let open = self.open.as_mut().expect("opened above");
        let put = open.writer.with_dependent_mut(|_, writer| writer.put(key, value));
        put.map_err(|error| engine.failed(&error))
    }

    fn open(&mut self, engine: &RocksEngine, from: &[u8]) -> Result<(), EngineError> {
        let path = self.folder.join(format!("{:06}.sst", self.closed.len()));
        let mut options = engine.options.tables_of(self.family, &engine.cache);
        // The sync at the end of the file then has little left to do.
        options.set_bytes_per_sync(engine.options.bytes_per_sync);
        let writer = TableWriter::new(options, |options| SstFileWriter::create(options));
        let opened = writer.with_dependent(|_, writer| writer.open(&path));
        opened.map_err(|error| engine.failed(&error))?;
        self.open = Some(OpenFile { from: from.to_vec(), path, writer });
        Ok(())
    }

    /// Ends the open file, which stands for everything up to `to`. Synced on return.
    fn close(&mut self, engine: &RocksEngine, to: &[u8]) -> Result<(), EngineError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let finished = open.writer.with_dependent_mut(|_, writer| {
            writer.delete_range(&open.from[..], to)?;
            writer.finish()?;
            Ok(writer.file_size())
        });
        self.closed_bytes += finished.map_err(|error: rocksdb::Error| engine.failed(&error))?;
        let part = KeyRange { from: open.from, to: to.to_vec() };
        self.closed.push(ClosedFile { part, path: open.path });
        Ok(())
    }

    /// Files that overlapped would hide each other's pairs without an error.
    fn assert_disjoint(&self, range: &KeyRange) {
        let mut next = &range.from;
        for ClosedFile { part, .. } in &self.closed {
            assert!(*next == part.from && part.from < part.to, "staged files follow each other");
            next = &part.to;
        }
        assert!(*next == range.to, "staged files stand for the whole range");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.open = None;
        // What cannot be removed now is removed when the store opens.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
