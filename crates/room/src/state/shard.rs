//! The record of the shard as a whole.

use conclave_types::Timestamp;

use super::load;
use crate::codec::{Reader, Record, Writer};
use crate::keys::Keys;
use crate::{TableError, TableReads};

/// What the shard as a whole remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardHeader {
    /// The applied clock: the highest stamp of any entry.
    pub clock: Timestamp,
    /// The number the next room gets.
    pub next_room: u64,
    /// No due entry has an earlier deadline. Saves the scan of the index from passing over all that was deleted.
    pub due_from: Timestamp,
}

impl ShardHeader {
    pub(super) const NEW: ShardHeader = ShardHeader { clock: Timestamp(0), next_room: 1, due_from: Timestamp(0) };

    pub fn load(reads: &(impl TableReads + ?Sized), keys: &Keys) -> Result<Self, TableError> {
        Ok(load(reads, &keys.shard())?.unwrap_or(ShardHeader::NEW))
    }
}

/// The version of this record is the schema of the whole shard.
impl Record for ShardHeader {
    const NAME: &'static str = "shard header";
    /// 2: documents and messages.
    const VERSION: u8 = 2;

    fn write(&self, writer: &mut Writer) {
        writer.time(self.clock);
        writer.varint(self.next_room);
        writer.time(self.due_from);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(ShardHeader { clock: reader.time()?, next_room: reader.varint()?, due_from: reader.time()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_header_bytes_are_as_they_were_first_stored() {
        let header = ShardHeader { clock: Timestamp(300), next_room: 2, due_from: Timestamp(1) };
        assert_eq!(&header.encode()[..], [2, 0xac, 2, 2, 1]);
        assert_eq!(ShardHeader::decode(header.encode()), Ok(header));
    }
}
