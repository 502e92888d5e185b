//! The engine port on RocksDB: one database a node, one column family for each of the port's families, one
//! write-ahead log.
//!
//! Only this crate names RocksDB, and only what runs or measures real processes depends on it. It must not know what
//! the keys mean. Start with [`engine`]; [`options`] says how the database is sized, `synced_sequence` how a store
//! that lost synced writes is recognised.

pub mod engine;
pub mod options;
mod synced_sequence;

pub use engine::RocksEngine;
pub use options::RocksOptions;
