//! Damage of a stopped host's files: what a bad disk, a bad cable or a careless person does to them.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use conclave_workload::dice::Dice;

/// A part of a host's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The write-ahead log: what was written last.
    Log,
    /// Tables: what was flushed.
    Table,
    /// The list of the tables that count.
    Manifest,
    /// Which manifest counts.
    Current,
    /// How far the log was synced.
    Synced,
    /// Parts of a snapshot that wait to be taken in.
    Staged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    FlipBit,
    /// Everything from some byte on is gone.
    Truncate,
    Remove,
}

/// What was done to which file.
#[derive(Debug, Clone)]
pub struct Damage {
    pub part: Part,
    pub kind: Kind,
    pub file: PathBuf,
    /// The byte that was changed, or the length that is left.
    pub at: u64,
    /// The file's length before.
    pub of: u64,
    /// The byte that is there now.
    byte: Option<u8>,
    bit: usize,
}

impl Part {
    pub const ALL: [Part; 6] = [Part::Log, Part::Table, Part::Manifest, Part::Current, Part::Synced, Part::Staged];

    fn is(self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_staged = path.components().any(|part| part.as_os_str() == "staging");
        match self {
            Part::Staged => is_staged,
            _ if is_staged => false,
            Part::Log => name.ends_with(".log"),
            Part::Table => name.ends_with(".sst"),
            Part::Manifest => name.starts_with("MANIFEST-"),
            Part::Current => name == "CURRENT",
            Part::Synced => name == "SYNCED",
        }
    }
}

/// Damages one file of this part, at a place that the dice choose; none when there is no such file with bytes in it.
pub fn damage(data: &Path, part: Part, kind: Kind, dice: &mut Dice) -> Result<Option<Damage>> {
    let files = files(data, part)?;
    if files.is_empty() {
        return Ok(None);
    }
    let (file, of) = dice.pick(&files).clone();
    let at = dice.roll(of as usize) as u64;
    let bit = dice.roll(8);
    let mut byte = None;
    match kind {
        Kind::FlipBit => byte = Some(flip_bit(&file, at, bit)?),
        Kind::Truncate => OpenOptions::new().write(true).open(&file)?.set_len(at)?,
        Kind::Remove => std::fs::remove_file(&file)?,
    }
    Ok(Some(Damage { part, kind, file, at, of, byte, bit }))
}

impl Damage {
    /// Flips a bit back that is still as it was left, and says whether it was. The file may be in use: who has not read
    /// it yet reads what was written.
    pub fn take_back(&self) -> Result<bool> {
        let Some(flipped) = self.byte else { return Ok(false) };
        let Ok(file) = File::open(&self.file) else { return Ok(false) };
        let mut byte = [0];
        let is_there = file.read_at(&mut byte, self.at)? == 1 && byte[0] == flipped;
        if is_there {
            flip_bit(&self.file, self.at, self.bit)?;
        }
        Ok(is_there)
    }
}

/// The files of this part that have bytes in them, with their lengths.
pub fn files(data: &Path, part: Part) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    collect(&store(data)?, &mut files)?;
    files.retain(|(path, length)| part.is(path) && *length > 0);
    files.sort();
    Ok(files)
}

/// The folder of the store that the host lives on: of those in its data folder, the one that was begun last.
pub fn store(data: &Path) -> Result<PathBuf> {
    let number = |path: &Path| -> Option<u64> {
        match path.file_name()?.to_str()? {
            "store" => Some(1),
            name => name.strip_prefix("store-")?.parse().ok(),
        }
    };
    let folders = std::fs::read_dir(data)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let newest = folders.into_iter().filter_map(|path| Some((number(&path)?, path))).max();
    newest.map(|(_, path)| path).with_context(|| format!("no store in {}", data.display()))
}

/// The host may run: what it removes meanwhile is not there.
fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}

/// Returns the byte that is there afterwards.
fn flip_bit(file: &Path, at: u64, bit: usize) -> Result<u8> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    ensure!(file.read_at(&mut byte, at)? == 1, "the file ends before {at}");
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at)?;
    Ok(byte[0])
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "{:?} at {} of {} in {name}", self.kind, self.at, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_goes_where_it_is_told() -> Result<()> {
        let data = tempfile::tempdir()?;
        for folder in ["store", "store-2", "store-2/staging"] {
            std::fs::create_dir(data.path().join(folder))?;
        }
        let write = |name: &str| std::fs::write(data.path().join(name), [7; 100]);
        for name in ["store/000001.log", "store-2/000009.log", "store-2/CURRENT", "store-2/staging/1.sst"] {
            write(name)?;
        }
        let mut dice = Dice::new(3);
        let flipped = damage(data.path(), Part::Log, Kind::FlipBit, &mut dice)?.context("a log")?;
        assert!(flipped.file.ends_with("store-2/000009.log"));
        let bytes = std::fs::read(&flipped.file)?;
        assert_eq!(bytes.iter().filter(|byte| **byte != 7).count(), 1);
        assert_eq!((bytes[flipped.at as usize] ^ 7).count_ones(), 1);
        assert!(flipped.take_back()? && !flipped.take_back()?);
        assert_eq!(std::fs::read(&flipped.file)?, [7; 100]);
        let cut = damage(data.path(), Part::Current, Kind::Truncate, &mut dice)?.context("a pointer")?;
        assert_eq!(std::fs::metadata(&cut.file)?.len(), cut.at);
        assert!(damage(data.path(), Part::Table, Kind::Remove, &mut dice)?.is_none());
        let staged = damage(data.path(), Part::Staged, Kind::Remove, &mut dice)?.context("a part")?;
        assert!(!staged.file.exists());
        Ok(())
    }
}
