//! Opens a host's store, or begins the next one in place of a store that must not be used again.
//!
//! A store that is damaged or gone had voted and acknowledged: the host goes on with an empty store of the next number,
//! and the cluster gives it new replicas. A store that cannot be opened for any other reason stops the start, because
//! what it holds may be whole.

use std::process;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use conclave_cluster::{DataFolder, StoreVerdict};
use conclave_storage::{Damage, EngineError};
use conclave_storage_rocksdb::{RocksEngine, RocksOptions};
use tracing::error;

/// The store in use: open, or not to be used again.
enum Opened {
    Whole(Box<RocksEngine>),
    Damaged(String),
}

/// The folder's store. Damage that shows later ends the process, once it is written down.
pub fn open(folder: &DataFolder) -> Result<RocksEngine> {
    if folder.condemned().is_none() {
        match open_present(folder)? {
            Opened::Whole(engine) => return Ok(*engine),
            Opened::Damaged(reason) => {
                folder.check_peers(&reason)?;
                folder.verdict().condemn(&reason)?;
            }
        }
    }
    let successor = folder.succeed()?.context("the store is condemned")?;
    error!(
        reason = successor.reason,
        condemned = %successor.condemned.display(),
        store = %successor.store.display(),
        "the store must not be used again: this host goes on with an empty one, and its replicas are rebuilt from their \
         peers; the old store is kept to be looked at until the next one is condemned"
    );
    match open_present(folder)? {
        Opened::Whole(engine) => Ok(*engine),
        Opened::Damaged(reason) => bail!("a new store is damaged already ({reason}): replace the disk"),
    }
}

fn open_present(folder: &DataFolder) -> Result<Opened> {
    let store = folder.store_path();
    if folder.store_begun() && !RocksEngine::exists(&store)? {
        return Ok(Opened::Damaged(format!("{} holds no database, and it did", store.display())));
    }
    match RocksEngine::open(&store, RocksOptions::default(), end_when_damaged(folder.verdict())) {
        Ok(engine) => {
            folder.begin_store()?;
            Ok(Opened::Whole(Box::new(engine)))
        }
        Err(EngineError::Damaged(reason)) => Ok(Opened::Damaged(reason)),
        Err(reason) => Err(reason).with_context(|| format!("the store in {} cannot be opened", store.display())),
    }
}

/// Whatever is found on whatever thread, nothing more may be answered from the store.
fn end_when_damaged(verdict: StoreVerdict) -> Arc<Damage> {
    Damage::new(move |reason| {
        match verdict.condemn(reason) {
            Ok(()) => error!(reason, "the store is damaged and condemned: the process stops"),
            // Found again, if it is read again.
            Err(unwritten) => error!(reason, %unwritten, "the store is damaged: the process stops"),
        }
        process::abort();
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use conclave_cluster::{ClusterToken, Origin};
    use conclave_storage::{Engine, Family, WriteBatch};

    use super::*;

    fn folder(path: &Path) -> DataFolder {
        let token: ClusterToken = "the token of the tests".parse().expect("a token");
        let hosts = ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec();
        DataFolder::open(path, &token, Origin::founder(hosts, "a:1").expect("a founder")).expect("a folder")
    }

    /// Opens, writes something and closes.
    fn use_store(path: &Path) -> u32 {
        let folder = folder(path);
        let engine = open(&folder).expect("a store");
        let mut batch = WriteBatch::new();
        batch.put(Family::Node, *b"key", *b"value");
        engine.write(batch).expect("written");
        engine.sync().expect("synced");
        folder.store()
    }

    #[test]
    fn a_store_that_is_gone_is_replaced_by_the_next() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!((use_store(root.path()), use_store(root.path())), (1, 1));
        fs::remove_dir_all(root.path().join("store")).expect("a lost disk");
        assert_eq!((use_store(root.path()), use_store(root.path())), (2, 2));
        // An empty disk in its place is a lost one too.
        fs::remove_dir_all(root.path().join("store-2")).expect("a lost disk");
        fs::create_dir(root.path().join("store-2")).expect("an empty disk");
        assert_eq!(use_store(root.path()), 3);
    }

    #[test]
    fn a_store_that_lost_synced_writes_is_kept_aside_and_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        use_store(root.path());
        fs::remove_file(root.path().join("store/SYNCED")).expect("damaged");
        assert_eq!(use_store(root.path()), 2);
        assert!(root.path().join("store/CURRENT").exists(), "kept to be looked at");
        let engine = open(&folder(root.path())).expect("a store");
        assert_eq!(engine.damage().reported(), None);
    }

    #[test]
    fn a_store_in_use_stops_the_start_and_is_not_condemned() {
        let root = tempfile::tempdir().expect("a folder");
        let first = folder(root.path());
        let _in_use = open(&first).expect("a store");
        let again = folder(root.path());
        let refused = open(&again).map(drop).expect_err("locked").to_string();
        assert!(refused.contains("cannot be opened"), "{refused}");
        assert_eq!((again.store(), again.condemned()), (1, None));
    }
}
