//! Remembers how far the store was synced, beside the store.
//!
//! RocksDB opens a log up to its first damaged record and goes on without the rest, whether that was the torn end of
//! a power cut or the middle of what had been synced. The second would forget acknowledged writes and votes. So the
//! sequence number of the last synced write stands in a file of its own, and a database below it does not serve.
//!
//! Invariant: the file never says more than was synced, because it is written after the sync. It may say less after
//! a power cut, as it is not synced itself each time: the guard is then weaker, but never wrong.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use conclave_storage::EngineError;

const FILE_NAME: &str = "SYNCED";

/// Little-endian sequence number, a mark of the format, and a checksum of both. All in one disk sector.
const RECORD_BYTES: usize = 16;
const FORMAT: u32 = 1;

pub struct SyncedSequence {
    file: File,
    recorded: u64,
}

impl SyncedSequence {
    /// Opens the record of the store in `folder`, or starts one when the folder has no database yet.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join(FILE_NAME);
        let record = match File::open(&path).and_then(|file| read(&file)) {
            Ok(record) => decode(&record),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => None,
            Err(error) => return Err(failed("read", &path, &error)),
        };
        match record {
            Some(recorded) => Self::resume(&path, recorded).map_err(|error| failed("open", &path, &error)),
            // The first start was interrupted, or this is it.
            None if !has_database(folder) => {
                Self::create(folder, &path).map_err(|error| failed("create", &path, &error))
            }
            None => Err(EngineError::Damaged(format!(
                "{} is missing or torn, so nothing shows that the database beside it is whole",
                path.display()
            ))),
        }
    }

    /// Refuses a database that ends before what was synced.
    pub fn check(&self, latest: u64) -> Result<(), EngineError> {
        if latest < self.recorded {
            return Err(EngineError::Damaged(format!(
                "the database ends at sequence {latest}, but was synced up to {}: its log lost synced writes",
                self.recorded
            )));
        }
        Ok(())
    }

    /// Records that everything up to `sequence` is synced.
    pub fn record(&mut self, sequence: u64) -> Result<(), EngineError> {
        if sequence > self.recorded {
            self.file
                .write_all_at(&encode(sequence), 0)
                .map_err(|error| EngineError::Io(format!("{FILE_NAME}: {error}")))?;
            self.recorded = sequence;
        }
        Ok(())
    }

    fn resume(path: &Path, recorded: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        // What earlier processes wrote becomes certain at least once in each process.
        file.sync_data()?;
        Ok(SyncedSequence { file, recorded })
    }

    /// The record is on disk before the database is, so a database without one has lost it.
    fn create(folder: &Path, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(&encode(0), 0)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(SyncedSequence { file, recorded: 0 })
    }
}

fn read(file: &File) -> io::Result<[u8; RECORD_BYTES]> {
    let mut record = [0; RECORD_BYTES];
    file.read_exact_at(&mut record, 0)?;
    Ok(record)
}

/// `CURRENT` names the manifest; a folder without it holds no database.
pub fn has_database(folder: &Path) -> bool {
    folder.join("CURRENT").exists()
}

fn encode(sequence: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&sequence.to_le_bytes());
    record[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let checksum = crc32c::crc32c(&record[..12]);
    record[12..].copy_from_slice(&checksum.to_le_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<u64> {
    let sequence = u64::from_le_bytes(*record.first_chunk()?);
    (*record == encode(sequence)).then_some(sequence)
}

fn failed(action: &str, path: &Path, error: &io::Error) -> EngineError {
    EngineError::Open(format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_survives_reopening_and_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let mut synced = SyncedSequence::open(folder.path()).unwrap();
        synced.record(7).unwrap();
        synced.record(3).unwrap();
        drop(synced);

        let synced = SyncedSequence::open(folder.path()).unwrap();
        synced.check(7).unwrap();
        assert!(matches!(synced.check(6), Err(EngineError::Damaged(_))));
    }

    #[test]
    fn a_record_that_fails_its_checksum_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("CURRENT"), "MANIFEST-000001\n").unwrap();
        for position in 0..RECORD_BYTES {
            let mut record = encode(7);
            record[position] ^= 0x10;
            std::fs::write(folder.path().join(FILE_NAME), record).unwrap();
            assert!(matches!(SyncedSequence::open(folder.path()), Err(EngineError::Damaged(_))));
        }
    }

    #[test]
    fn a_database_without_its_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("CURRENT"), "MANIFEST-000001\n").unwrap();
        assert!(matches!(SyncedSequence::open(folder.path()), Err(EngineError::Damaged(_))));
    }

    #[test]
    fn an_interrupted_first_start_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join(FILE_NAME)).unwrap();
        SyncedSequence::open(folder.path()).unwrap().record(7).unwrap();
        assert!(SyncedSequence::open(folder.path()).unwrap().check(6).is_err());
    }
}
