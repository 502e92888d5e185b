//! RocksDB keeps every claim of the engine suite.

use std::sync::Arc;

use conclave_storage::{Damage, Engine};
use conclave_storage_rocksdb::{RocksEngine, RocksOptions};

fn store() -> impl Fn() -> Arc<dyn Engine> {
    let folder = tempfile::tempdir().unwrap();
    move || Arc::new(RocksEngine::open(folder.path(), RocksOptions::default(), Damage::unattended()).unwrap())
}

conclave_testkit::engine_suite!(store);
