//! Reads the room tables from the engine.

use bytes::Bytes;
use conclave_room::{Pairs, TableError, TableReads};
use conclave_storage::{EngineError, EngineView, Family, KeyRange};

/// The state family of an engine or of one of its snapshots, as the room crate reads it.
pub struct EngineTables<'a, V: EngineView + ?Sized>(pub &'a V);

impl<V: EngineView + ?Sized> TableReads for EngineTables<'_, V> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        self.0.get(Family::State, key).map_err(table_error)
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        let range = KeyRange { from: from.to_vec(), to: to.to_vec() };
        Box::new(self.0.scan(Family::State, range).map(|pair| pair.map_err(table_error)))
    }
}

fn table_error(error: EngineError) -> TableError {
    TableError(error.to_string())
}
