//! Remembers how far the store was synced, beside the store.
//!
//! RocksDB opens a log up to its first damaged record and goes on without the rest, whether that was the torn end of
//! a power cut or the middle of what had been synced. The second would forget acknowledged writes and votes. So the
//! sequence number of the last synced write stands in a file of its own, and a database below it does not serve. The
//! manifest, which can lose its end in the same way, is marked there too.
//!
//! Invariant: the file never says more than was synced, because it is written after the sync. It may say less after
//! a power cut, as it is not synced itself each time: the guard is then weaker, but never wrong.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use conclave_storage::EngineError;

use crate::manifest::{self, ManifestMark};

const FILE_NAME: &str = "SYNCED";

/// Little-endian: sequence number, the manifest's number, length and checksum, a mark of the format, and a checksum of
/// all that. All in one disk sector.
const RECORD_BYTES: usize = 36;
const CONTENT_BYTES: usize = RECORD_BYTES - 4;
const FORMAT: u32 = 2;

/// The first format had sequence number, mark and checksum alone. A store with one is whole: it is read as one whose
/// manifest is not known, and the next record replaces it.
const FIRST_RECORD_BYTES: usize = 16;
const FIRST_FORMAT: u32 = 1;

pub struct SyncedSequence {
    file: File,
    recorded: Synced,
}

/// What is certain to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Synced {
    pub sequence: u64,
    pub manifest: ManifestMark,
}

impl SyncedSequence {
    /// Opens the record of the store in `folder`, or starts one when the folder has no database yet. Refuses a folder
    /// whose manifest is not the one that was recorded.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join(FILE_NAME);
        let record = match File::open(&path).and_then(|file| read(&file)) {
            Ok(record) => decode(&record),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let has_database = manifest::has_database(folder).map_err(|error| failed("read", folder, &error))?;
        match record {
            Some(recorded) => {
                // The first start was interrupted where nothing was ever written.
                if has_database || recorded != Synced::default() {
                    manifest::check(folder, &recorded.manifest)?;
                }
                Self::resume(&path, recorded).map_err(|error| failed("open", &path, &error))
            }
            // The first start was interrupted, or this is it.
            None if !has_database => Self::create(folder, &path).map_err(|error| failed("create", &path, &error)),
            None => Err(EngineError::Damaged(format!(
                "{} is missing or torn, so nothing shows that the database beside it is whole",
                path.display()
            ))),
        }
    }

    /// Refuses a database that ends before what was synced.
    pub fn check(&self, latest: u64) -> Result<(), EngineError> {
        let recorded = self.recorded.sequence;
        if latest < recorded {
            return Err(EngineError::Damaged(format!(
                "the database ends at sequence {latest}, but was synced up to {recorded}: its log lost synced writes"
            )));
        }
        Ok(())
    }

    /// Records what is synced, unless that is known.
    pub fn record(&mut self, synced: Synced) -> io::Result<()> {
        let synced = Synced { sequence: synced.sequence.max(self.recorded.sequence), ..synced };
        if synced != self.recorded {
            self.file.write_all_at(&encode(&synced), 0)?;
            self.recorded = synced;
        }
        Ok(())
    }

    fn resume(path: &Path, recorded: Synced) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        // What earlier processes wrote becomes certain at least once in each process.
        file.sync_data()?;
        Ok(SyncedSequence { file, recorded })
    }

    /// The record is on disk before the database is, so a database without one has lost it.
    fn create(folder: &Path, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let recorded = Synced::default();
        file.write_all_at(&encode(&recorded), 0)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(SyncedSequence { file, recorded })
    }
}

/// All there is of a record, which may be torn.
fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut record = vec![0; RECORD_BYTES];
    let mut length = 0;
    while length < RECORD_BYTES {
        match file.read_at(&mut record[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    record.truncate(length);
    Ok(record)
}

fn encode(synced: &Synced) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&synced.sequence.to_le_bytes());
    record[8..16].copy_from_slice(&synced.manifest.number.to_le_bytes());
    record[16..24].copy_from_slice(&synced.manifest.length.to_le_bytes());
    record[24..28].copy_from_slice(&synced.manifest.checksum.to_le_bytes());
    record[28..CONTENT_BYTES].copy_from_slice(&FORMAT.to_le_bytes());
    let checksum = crc32c::crc32c(&record[..CONTENT_BYTES]);
    record[CONTENT_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    record
}

fn decode(record: &[u8]) -> Option<Synced> {
    match record.len() {
        RECORD_BYTES => decode_present(record),
        FIRST_RECORD_BYTES => decode_first(record),
        _ => None,
    }
}

fn decode_first(record: &[u8]) -> Option<Synced> {
    let sequence = u64::from_le_bytes(*record.first_chunk()?);
    let (content, checksum) = record.split_at(FIRST_RECORD_BYTES - 4);
    let is_whole = content[8..] == FIRST_FORMAT.to_le_bytes() && checksum == crc32c::crc32c(content).to_le_bytes();
    is_whole.then(|| Synced { sequence, manifest: ManifestMark::default() })
}

fn decode_present(record: &[u8]) -> Option<Synced> {
    let number = |at: usize| Some(u64::from_le_bytes(*record[at..].first_chunk()?));
    let checksum = u32::from_le_bytes(*record[24..].first_chunk()?);
    let manifest = ManifestMark { number: number(8)?, length: number(16)?, checksum };
    let synced = Synced { sequence: number(0)?, manifest };
    (record == encode(&synced)).then_some(synced)
}

fn failed(action: &str, path: &Path, error: &io::Error) -> EngineError {
    let message = format!("cannot {action} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => EngineError::Open(message),
        _ => EngineError::Io(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(sequence: u64) -> Synced {
        Synced { sequence, ..Synced::default() }
    }

    /// A folder with a manifest that nothing is known of.
    fn furnish(folder: &Path) {
        std::fs::write(folder.join("CURRENT"), "MANIFEST-000001\n").unwrap();
        std::fs::write(folder.join("MANIFEST-000001"), "").unwrap();
    }

    #[test]
    fn the_record_survives_reopening_and_its_sequence_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = SyncedSequence::open(folder.path()).unwrap();
        furnish(folder.path());
        record.record(synced(7)).unwrap();
        record.record(synced(3)).unwrap();
        drop(record);

        let record = SyncedSequence::open(folder.path()).unwrap();
        record.check(7).unwrap();
        assert!(matches!(record.check(6), Err(EngineError::Damaged(_))));
    }

    #[test]
    fn a_record_that_fails_its_checksum_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        furnish(folder.path());
        let whole = Synced { sequence: 7, manifest: ManifestMark { number: 1, length: 0, checksum: 0 } };
        std::fs::write(folder.path().join(FILE_NAME), encode(&whole)).unwrap();
        SyncedSequence::open(folder.path()).unwrap();
        for position in 0..RECORD_BYTES {
            let mut record = encode(&whole);
            record[position] ^= 0x10;
            std::fs::write(folder.path().join(FILE_NAME), record).unwrap();
            assert!(matches!(SyncedSequence::open(folder.path()), Err(EngineError::Damaged(_))));
        }
    }

    #[test]
    fn a_record_of_the_first_format_is_read_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        furnish(folder.path());
        let mut first = [0; FIRST_RECORD_BYTES];
        first[..8].copy_from_slice(&7u64.to_le_bytes());
        first[8..12].copy_from_slice(&FIRST_FORMAT.to_le_bytes());
        let checksum = crc32c::crc32c(&first[..12]);
        first[12..].copy_from_slice(&checksum.to_le_bytes());
        std::fs::write(folder.path().join(FILE_NAME), first).unwrap();
        let mut record = SyncedSequence::open(folder.path()).unwrap();
        assert!(record.check(7).is_ok() && record.check(6).is_err());
        record.record(synced(8)).unwrap();
        drop(record);
        assert_eq!(std::fs::read(folder.path().join(FILE_NAME)).unwrap(), encode(&synced(8)));

        first[3] ^= 1;
        std::fs::write(folder.path().join(FILE_NAME), first).unwrap();
        assert!(matches!(SyncedSequence::open(folder.path()), Err(EngineError::Damaged(_))));
    }

    #[test]
    fn a_database_without_its_record_is_refused() {
        for file in ["CURRENT", "000004.log", "000009.sst", "MANIFEST-000005"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(file), "").unwrap();
            assert!(matches!(SyncedSequence::open(folder.path()), Err(EngineError::Damaged(_))), "{file}");
        }
    }

    #[test]
    fn a_record_without_its_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        SyncedSequence::open(folder.path()).unwrap().record(synced(7)).unwrap();
        assert!(matches!(SyncedSequence::open(folder.path()), Err(EngineError::Damaged(_))));
    }

    #[test]
    fn an_interrupted_first_start_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join(FILE_NAME)).unwrap();
        SyncedSequence::open(folder.path()).unwrap();
        File::create(folder.path().join("MANIFEST-000001")).unwrap();
        SyncedSequence::open(folder.path()).unwrap();
    }
}
