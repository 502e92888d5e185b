//! The wall clock that one host sees, through libfaketime: a library that is loaded before all others and answers for
//! the system's clock.
//!
//! The offset stands in a file that it reads at every look at the clock, so that a jump happens while the host runs.
//! Monotonic clocks are left alone: a jump of the wall clock is what an operator or a time server can cause.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The multi-threaded variant, as Debian's package `faketime` installs it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

#[derive(Debug)]
pub struct Clock {
    offset: PathBuf,
}

impl Clock {
    /// A clock that tells the right time so far.
    pub fn new(folder: &Path, name: &str) -> Result<Clock> {
        let clock = Clock { offset: folder.join(format!("{name}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// What a process finds in its environment to live by this clock.
    pub fn environment(&self) -> Result<Vec<(String, String)>> {
        let own = [
            ("LD_PRELOAD", library()?.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Ok(own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// So many seconds before or after the right time.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Whole at every moment: whoever reads an empty file would see the right time for a blink.
        let next = self.offset.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        std::fs::rename(next, &self.offset)?;
        Ok(())
    }
}

/// Where the library is installed.
pub fn library() -> Result<PathBuf> {
    let by_architecture = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join(LIBRARY));
    let found = by_architecture.into_iter().find(|path| path.is_file());
    found.context("not installed: faketime (cargo xtask setup installs it)")
}
