//! RocksDB keeps every claim of the engine suite.

use std::sync::Arc;

use conclave_storage::{Damage, Engine};
use conclave_storage_rocksdb::{RocksEngine, RocksOptions};

fn store_with(options: RocksOptions) -> impl Fn() -> Arc<dyn Engine> {
    let folder = tempfile::tempdir().unwrap();
    move || Arc::new(RocksEngine::open(folder.path(), options.clone(), Damage::unattended()).unwrap())
}

fn store() -> impl Fn() -> Arc<dyn Engine> {
    store_with(RocksOptions::default())
}

conclave_testkit::engine_suite!(store);

/// Claims about stagings, where each becomes many table files.
mod many_staged_files {
    use super::*;

    fn store() -> impl Fn() -> Arc<dyn Engine> {
        let staged_write_bytes = 16 << 10;
        store_with(RocksOptions { staged_write_bytes, staged_file_bytes: 256 << 10, ..RocksOptions::default() })
    }

    conclave_testkit::engine_suite!(store =>
        an_installation_replaces_its_range_and_nothing_else,
        an_installation_of_nothing_empties_its_range,
        an_installation_survives_reopening,
        a_dropped_staging_changes_nothing,
        a_staging_takes_ascending_keys_of_its_range_alone,
        readers_see_the_whole_old_range_or_the_whole_new_one,
    );
}
