//! The memory engine keeps every claim of the engine suite.

use std::sync::Arc;

use conclave_storage::{Engine, MemoryEngine};

fn store() -> impl Fn() -> Arc<dyn Engine> {
    let engine = Arc::new(MemoryEngine::new());
    move || {
        engine.crash();
        engine.clone()
    }
}

conclave_testkit::engine_suite!(store);
