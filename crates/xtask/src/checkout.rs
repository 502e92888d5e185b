//! Tells cargo when another checkout has used the target directory since.
//!
//! Cargo knows a crate of the workspace by its place in the workspace, not by its place on disk, and then compares
//! times. So with a shared target directory a source of this checkout that is older than an artifact of another one
//! would pass as built. A note in the target directory says whose artifacts these are; when they are another's, every
//! source here counts as new.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

const NOTE: &str = "checkout";
/// Where this workspace keeps what is compiled.
const SOURCES: [&str; 4] = ["crates", "tests", "bench", "proto"];

/// Makes the target directory this checkout's.
pub fn claim(root: &Path, target: &Path) -> Result<()> {
    let note = target.join(NOTE);
    let own = root.display().to_string();
    if fs::read_to_string(&note).is_ok_and(|found| found == own) {
        return Ok(());
    }
    for folder in SOURCES {
        renew(&root.join(folder), SystemTime::now())?;
    }
    fs::create_dir_all(target)?;
    fs::write(&note, own).with_context(|| note.display().to_string())
}

fn renew(path: &Path, now: SystemTime) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            renew(&entry?.path(), now)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "proto") {
        File::options().append(true).open(path)?.set_modified(now).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sources_count_as_new_only_when_another_checkout_was_here() {
        let folder = std::env::temp_dir().join(format!("conclave-checkout-{}", std::process::id()));
        let (ours, theirs, target) = (folder.join("ours"), folder.join("theirs"), folder.join("target"));
        let source = ours.join("crates/lib.rs");
        for root in [&ours, &theirs] {
            SOURCES.iter().for_each(|sources| fs::create_dir_all(root.join(sources)).expect("folders"));
        }
        fs::write(&source, "").expect("a source");
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let age = || File::options().append(true).open(&source).and_then(|file| file.set_modified(long_ago));
        let is_old = || fs::metadata(&source).and_then(|meta| meta.modified()).expect("a time") == long_ago;

        claim(&ours, &target).expect("claimed");
        age().expect("aged");
        claim(&ours, &target).expect("claimed again");
        assert!(is_old());
        claim(&theirs, &target).expect("claimed by another");
        claim(&ours, &target).expect("claimed back");
        assert!(!is_old());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
