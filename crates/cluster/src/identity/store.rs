//! Which store of the folder is in use, and how a condemned one gets a successor.
//!
//! ```text
//!  store N, begun ──condemn──► store N, condemned ──succeed──► store N+1, not begun ──begin──► store N+1, begun
//! ```
//! Each arrow is one durable change of the identity file. A store is marked as begun once it exists and before anything
//! is written into it; from then on its absence is a loss, not a first start. Crash before an arrow: the step is taken
//! again. The number never falls, so replicas are told apart by the store that they were handed out for, and a verdict
//! is never forgotten: whoever writes the file holds the whole record.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conclave_faults::Point;

use super::{DataFolder, FolderError, Identity, Origin, io_error};

/// Number of a node's first store.
pub const FIRST_STORE: u32 = 1;

const STORE: &str = "store";
/// Longest reason that is kept; it is for a person to read.
const MAX_REASON_BYTES: usize = 512;

/// Condemns the store that was in use when this was made; may be called on any thread.
#[derive(Debug, Clone)]
pub struct StoreVerdict(Arc<Identity>);

impl StoreVerdict {
    /// Writes down that the store must not be used again. On return that survives a power cut. The first reason stays.
    pub fn condemn(&self, reason: &str) -> Result<(), FolderError> {
        self.0.change(|record| {
            record.condemned.get_or_insert_with(|| one_line(reason));
            Ok(())
        })?;
        conclave_faults::reached(Point::StoreCondemned);
        Ok(())
    }
}

/// A store took a condemned one's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    pub reason: String,
    /// What was condemned; kept aside until the next one is.
    pub condemned: PathBuf,
    /// Where the successor will be.
    pub store: PathBuf,
}

impl DataFolder {
    /// Number of the store in use, from 1.
    pub fn store(&self) -> u32 {
        self.identity.record.lock().store
    }

    /// Where the store in use is.
    pub fn store_path(&self) -> PathBuf {
        store_path(self.path(), self.store())
    }

    /// Whether the store in use has existed: then it must still be there.
    pub fn store_begun(&self) -> bool {
        self.identity.record.lock().store_begun
    }

    /// Why the store must not be used again; none while it may be.
    pub fn condemned(&self) -> Option<String> {
        self.identity.record.lock().condemned.clone()
    }

    /// What condemns the present store.
    pub fn verdict(&self) -> StoreVerdict {
        StoreVerdict(self.identity.clone())
    }

    /// Marks the store as one that existed. Call it when it does, before anything is written into it.
    pub fn begin_store(&self) -> Result<(), FolderError> {
        self.identity.change(|record| {
            record.store_begun = true;
            Ok(())
        })
    }

    /// Refuses to give up the store of a host that is its whole cluster: nobody could rebuild what it held.
    pub fn check_peers(&self, reason: &str) -> Result<(), FolderError> {
        match &self.origin {
            Origin::Founder { hosts, .. } if hosts.len() == 1 => {
                Err(FolderError::NoPeers { store: self.store_path(), reason: reason.into() })
            }
            _ => Ok(()),
        }
    }

    /// Goes on to the next number if the store in use is condemned. The condemned store is kept for a person to look at,
    /// those before it are removed: one copy of everything is what a disk must have room for.
    pub fn succeed(&self) -> Result<Option<Successor>, FolderError> {
        let Some(reason) = self.condemned() else { return Ok(None) };
        self.check_peers(&reason)?;
        let condemned = self.store_path();
        self.identity.change(|record| {
            record.store += 1;
            record.store_begun = false;
            record.condemned = None;
            Ok(())
        })?;
        let number = self.store();
        for old in FIRST_STORE..number - 1 {
            remove(&store_path(self.path(), old))?;
        }
        conclave_faults::reached(Point::StoreCondemned);
        Ok(Some(Successor { reason, condemned, store: self.store_path() }))
    }
}

fn store_path(folder: &Path, number: u32) -> PathBuf {
    match number {
        FIRST_STORE => folder.join(STORE),
        number => folder.join(format!("{STORE}-{number}")),
    }
}

fn remove(store: &Path) -> Result<(), FolderError> {
    match fs::remove_dir_all(store) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(io_error(store, "removing a store that was condemned before", source))
        }
        _ => Ok(()),
    }
}

/// A fact is one line of the file.
fn one_line(reason: &str) -> String {
    let mut line: String = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = (0..=MAX_REASON_BYTES.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or_default());
    match line.is_empty() {
        true => "no reason was given".into(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use conclave_types::ClusterUuid;

    use super::*;
    use crate::identity::tests::{founder, token};

    fn open(path: &Path) -> DataFolder {
        DataFolder::open(path, &token(), founder()).expect("a folder")
    }

    #[test]
    fn a_condemned_store_gets_one_successor_and_older_ones_are_removed() {
        let root = tempfile::tempdir().expect("a folder");
        let mut folder = open(root.path());
        assert_eq!((folder.store(), folder.store_begun(), folder.condemned()), (1, false, None));
        for number in 2..=4 {
            fs::create_dir(folder.store_path()).expect("a store");
            folder.begin_store().expect("begun");
            assert_eq!(folder.succeed().expect("no verdict"), None);
            let condemned = folder.store_path();
            folder.verdict().condemn("block 7\nis not what was written").expect("condemned");
            // As after a restart between any two steps.
            let again = open(root.path());
            let successor = again.succeed().expect("a successor").expect("condemned before");
            assert_eq!(successor.reason, "block 7 is not what was written");
            assert_eq!(
                (&successor.condemned, &successor.store),
                (&condemned, &root.path().join(format!("store-{number}")))
            );
            assert!(condemned.exists());
            folder = open(root.path());
            assert_eq!((folder.store(), folder.store_begun(), folder.condemned()), (number, false, None));
            assert_eq!(folder.succeed().expect("no verdict"), None);
        }
        let left: Vec<bool> = ["store", "store-2", "store-3"].map(|name| root.path().join(name).exists()).to_vec();
        assert_eq!(left, [false, false, true], "only the newest condemned store is kept");
    }

    #[test]
    fn a_verdict_and_a_learned_cluster_do_not_undo_each_other() {
        let root = tempfile::tempdir().expect("a folder");
        let cluster = ClusterUuid([3; 16]);
        for round in 0..20 {
            let path = root.path().join(round.to_string());
            let folder = open(&path);
            let verdict = folder.verdict();
            thread::scope(|scope| {
                scope.spawn(|| verdict.condemn("damaged").expect("condemned"));
                scope.spawn(|| folder.learn_cluster(cluster).expect("learned"));
            });
            let again = open(&path);
            assert_eq!((again.cluster(), again.condemned()), (Some(cluster), Some("damaged".into())));
        }
    }

    #[test]
    fn the_first_reason_stays_and_is_one_line() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = open(root.path());
        folder.verdict().condemn(&"é ".repeat(1_000)).expect("condemned");
        folder.verdict().condemn("later").expect("condemned");
        let reason = open(root.path()).condemned().expect("a reason");
        assert!(reason.starts_with("é é") && reason.len() <= MAX_REASON_BYTES, "{reason}");
        assert_eq!(one_line(" \n"), "no reason was given");
    }

    #[test]
    fn a_folder_that_knew_its_cluster_had_a_store() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = open(root.path());
        folder.learn_cluster(ClusterUuid([3; 16])).expect("learned");
        assert!(open(root.path()).store_begun());
        folder.verdict().condemn("gone").expect("condemned");
        folder.succeed().expect("a successor");
        assert!(!open(root.path()).store_begun(), "the second store does not exist yet");
    }

    #[test]
    fn a_host_that_is_its_whole_cluster_gets_no_empty_store() {
        let root = tempfile::tempdir().expect("a folder");
        let origin = Origin::founder(vec!["a:1".into()], "a:1").expect("a founder");
        let folder = DataFolder::open(root.path(), &token(), origin).expect("a folder");
        folder.verdict().condemn("block 7").expect("condemned");
        let refused = folder.succeed().expect_err("nobody to rebuild from").to_string();
        assert!(refused.contains("block 7") && refused.contains("its whole cluster"), "{refused}");
        assert_eq!(folder.store(), 1);
    }
}
