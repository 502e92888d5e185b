//! Knows how much of the database's manifest was whole, so that a shorter or another one is noticed.
//!
//! The manifest lists the tables and logs that make up the database; RocksDB appends to it and syncs each record. Damage
//! in its middle is found by RocksDB. But a manifest that ends early, or whose damaged record claims to be longer than
//! the file, reads like one whose last write was cut off: its records, and the tables they name, vanish without an
//! error. So the length that was synced and a checksum over it are kept elsewhere.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use conclave_storage::EngineError;

/// Names the manifest in use.
const CURRENT: &str = "CURRENT";
const PREFIX: &str = "MANIFEST-";

/// The first of a new database, which may be there before `CURRENT` is.
const FIRST: u64 = 1;

/// Bytes read at once while a checksum is taken.
const READ_BYTES: usize = 64 << 10;

/// A beginning of one manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ManifestMark {
    pub number: u64,
    pub length: u64,
    pub checksum: u32,
}

/// The manifest in use, followed as it grows.
pub struct Manifest {
    folder: PathBuf,
    /// Inode of `CURRENT`, which is replaced when another manifest takes over.
    current: u64,
    file: File,
    mark: ManifestMark,
}

impl Manifest {
    /// Follows the manifest of an open database, from its beginning.
    pub fn follow(folder: &Path) -> io::Result<Manifest> {
        let current = fs::metadata(folder.join(CURRENT))?.ino();
        // The name is certain before anything refers to what it names.
        File::open(folder)?.sync_all()?;
        let number = in_use(folder)?.ok_or_else(|| io::Error::other("CURRENT names no manifest"))?;
        let file = File::open(path(folder, number))?;
        Ok(Manifest { folder: folder.to_owned(), current, file, mark: ManifestMark { number, ..Default::default() } })
    }

    /// The manifest as far as it reaches now, synced.
    pub fn mark(&mut self) -> io::Result<ManifestMark> {
        if fs::metadata(self.folder.join(CURRENT))?.ino() != self.current {
            *self = Manifest::follow(&self.folder)?;
        }
        let length = self.file.metadata()?.len();
        if length > self.mark.length {
            // RocksDB may be about to sync this itself; the mark must not be on disk before it is.
            self.file.sync_data()?;
            self.mark.checksum = checksum(&self.file, self.mark.length..length, self.mark.checksum)?;
            self.mark.length = length;
        }
        Ok(self.mark)
    }
}

/// Compares the manifest in use with what is known of it. A newer one is not known, and not doubted.
pub fn check(folder: &Path, mark: &ManifestMark) -> Result<(), EngineError> {
    let failed = |error: io::Error| EngineError::Io(format!("the manifest in {}: {error}", folder.display()));
    let Some(number) = in_use(folder).map_err(failed)? else {
        return Err(EngineError::Damaged(format!("{} names no manifest", folder.join(CURRENT).display())));
    };
    let path = path(folder, number);
    if number != mark.number {
        return match number > mark.number {
            true => Ok(()),
            false => Err(EngineError::Damaged(format!("{} was followed by {}", path.display(), mark.number))),
        };
    }
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EngineError::Damaged(format!("{} is missing", path.display())));
        }
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.len() < mark.length {
        return Err(EngineError::Damaged(format!("{} is shorter than the {} synced", path.display(), mark.length)));
    }
    if checksum(&file, 0..mark.length, 0).map_err(failed)? != mark.checksum {
        return Err(EngineError::Damaged(format!("{} is not what was written", path.display())));
    }
    Ok(())
}

/// Whether the folder holds a database, or had one: files that appear only once `CURRENT` exists.
pub fn has_database(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let is_later_manifest = || manifest_number(&name).is_some_and(|number| number != FIRST);
        if name == CURRENT || name.ends_with(".sst") || name.ends_with(".log") || is_later_manifest() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Number of the manifest that `CURRENT` names; none if it names none.
fn in_use(folder: &Path) -> io::Result<Option<u64>> {
    match fs::read(folder.join(CURRENT)) {
        Ok(content) => Ok(str::from_utf8(&content).ok().and_then(|name| manifest_number(name.strip_suffix('\n')?))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn manifest_number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{number:06}"))
}

/// Continues a checksum over a part of a file.
fn checksum(file: &File, range: std::ops::Range<u64>, before: u32) -> io::Result<u32> {
    let mut checksum = before;
    let mut buffer = vec![0; READ_BYTES];
    let mut position = range.start;
    while position < range.end {
        let wanted = usize::try_from(range.end - position).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact_at(&mut buffer[..wanted], position)?;
        checksum = crc32c::crc32c_append(checksum, &buffer[..wanted]);
        position += wanted as u64;
    }
    Ok(checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, number: u64, content: &[u8]) {
        fs::write(path(folder, number), content).unwrap();
        let draft = folder.join("draft");
        fs::write(&draft, format!("MANIFEST-{number:06}\n")).unwrap();
        fs::rename(draft, folder.join(CURRENT)).unwrap();
    }

    fn append(folder: &Path, number: u64, content: &[u8]) {
        let whole = [&fs::read(path(folder, number)).unwrap()[..], content].concat();
        fs::write(path(folder, number), whole).unwrap();
    }

    #[test]
    fn a_manifest_is_followed_as_it_grows_and_when_another_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 5, b"one");
        let mut manifest = Manifest::follow(folder.path()).unwrap();
        let one = manifest.mark().unwrap();
        append(folder.path(), 5, b"two");
        let two = manifest.mark().unwrap();
        assert_eq!((one.number, one.length, two.length), (5, 3, 6));
        assert_eq!(two.checksum, crc32c::crc32c(b"onetwo"));
        for mark in [one, two] {
            check(folder.path(), &mark).unwrap();
        }
        write(folder.path(), 9, b"three");
        assert_eq!(manifest.mark().unwrap().number, 9);
        check(folder.path(), &two).unwrap();
    }

    #[test]
    fn a_changed_short_older_or_missing_manifest_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 5, b"content");
        let mark = Manifest::follow(folder.path()).unwrap().mark().unwrap();
        let damaged = |what: &str| {
            let found = check(folder.path(), &mark);
            assert!(matches!(found, Err(EngineError::Damaged(_))), "{what}: {found:?}");
        };
        for length in 0..mark.length as usize {
            write(folder.path(), 5, &b"content"[..length]);
            damaged("short");
        }
        for bit in 0..mark.length as usize * 8 {
            let mut flipped = b"content and more".to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            write(folder.path(), 5, &flipped);
            damaged("flipped");
        }
        write(folder.path(), 4, b"content");
        damaged("older");
        write(folder.path(), 5, b"content");
        check(folder.path(), &mark).unwrap();
        fs::remove_file(path(folder.path(), 5)).unwrap();
        damaged("missing");
        fs::write(folder.path().join(CURRENT), "MANIFEST-00").unwrap();
        damaged("unnamed");
    }
}
