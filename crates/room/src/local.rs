//! What a replica holds of documents in its own form: updates as they were pushed, and the base they are compacted into.
//!
//! ```text
//!            kept_from        base_revision       the document's revision
//!  ──────────────┼───────────────────┼────────────────────┼
//!   only in base │ in base, and kept │ kept, not in base  │
//! ```
//!
//! Applying an entry puts updates and does nothing else; replicas compact at different times, with versions of the
//! document library of their own, and still agree on what a document is. The functions here run between entries, in
//! the order of one replica's writes: they read the present state and return what to write. Nothing of this is
//! proposed, and no apply reads it.
//!
//! Invariant: base and kept updates after `base_revision` together are the whole document. The updates that a base has
//! replaced stay for one more base, for readers who are a little behind.

mod swap;
mod sweep;
mod update;

use conclave_types::Revision;

use crate::TableError;
use crate::codec::{Reader, Record, Writer};

pub use swap::swap_base;
pub use sweep::{SweepCursor, sweep};
pub(crate) use update::UpdateRecord;

/// Bytes of one base chunk: small beside a block cache, large beside a key.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// How a replica holds a document. There is none before the first base; then every update is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalHeader {
    /// The base holds everything up to here.
    pub base_revision: Revision,
    /// Every update after this is still stored by itself.
    pub kept_from: Revision,
    /// Bytes of the base.
    pub base_bytes: u64,
    /// Updates that were pushed up to the base, and their bytes.
    pub updates: u64,
    pub bytes: u64,
}

impl Record for LocalHeader {
    const NAME: &'static str = "local document header";

    fn write(&self, writer: &mut Writer) {
        writer.revision(self.base_revision);
        writer.revision(self.kept_from);
        writer.varint(self.base_bytes);
        writer.varint(self.updates);
        writer.varint(self.bytes);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(LocalHeader {
            base_revision: reader.revision()?,
            kept_from: reader.revision()?,
            base_bytes: reader.varint()?,
            updates: reader.varint()?,
            bytes: reader.varint()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let header =
            LocalHeader { base_revision: Revision(300), kept_from: Revision(2), base_bytes: 3, updates: 4, bytes: 5 };
        assert_eq!(&header.encode()[..], [1, 0xac, 2, 2, 3, 4, 5]);
        assert_eq!(LocalHeader::decode(header.encode()), Ok(header));
    }
}
