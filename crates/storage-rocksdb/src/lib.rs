//! The engine port on RocksDB: one database a node, one column family for each of the port's families, one
//! write-ahead log.
//!
//! Only this crate names RocksDB, and only what runs or measures real processes depends on it. It must not know what
//! the keys mean. Start with [`engine`]; [`options`] says how the database is sized, `errors` which errors are damage,
//! `synced_sequence` and `manifest` how a store that lost synced writes is recognised, `staging` how a range is replaced.

pub mod engine;
mod errors;
mod manifest;
pub mod options;
mod staging;
mod synced_sequence;

pub use engine::RocksEngine;
pub use options::RocksOptions;
