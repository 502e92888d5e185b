//! The table port: ordered keys and values, as the storage crates give them.

use bytes::Bytes;

/// The store failed, or holds what this build does not understand. A replica that meets this stops; it cannot go on
/// without diverging.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table access failed: {0}")]
pub struct TableError(pub String);

pub type Pairs<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), TableError>> + 'a>;

/// Reads of one consistent state.
pub trait TableReads {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError>;

    /// Pairs with `from <= key < to`, ascending.
    fn scan(&self, from: &[u8], to: &[u8]) -> Pairs<'_>;
}

/// Reads that see this transaction's own writes, and the writes.
pub trait Tables: TableReads {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);

    fn delete(&mut self, key: Vec<u8>);
}
