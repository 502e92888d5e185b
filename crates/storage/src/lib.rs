//! The storage engine that hosts stand on: a port, and the memory engine that simulation and fast tests run.
//!
//! The port promises what one RocksDB with one write-ahead log gives: a batch is all or nothing, batches keep their
//! order, and after a crash what is left is a prefix of them that holds everything written before the last `sync`.
//! This crate must not know Raft, rooms or gRPC. Start with [`engine`].

pub mod batch;
pub mod damage;
pub mod engine;
pub mod memory;
pub mod scrub;
pub mod staged;

pub use batch::{Operation, Operations, WriteBatch};
pub use damage::Damage;
pub use engine::{Engine, EngineError, EngineStats, EngineView, Family, FamilyStats, KeyRange, Pairs, Staging};
pub use memory::MemoryEngine;
pub use scrub::Scrub;
pub use staged::StagedOrder;
