//! Rooms: the unit of collaboration and of order.
//!
//! ```text
//! create → Active → delete → Deleting → (purge, in steps) → gone
//! ```
//!
//! What every command touches (state, revision, counters) stands in a small header; what users wrote about the room
//! (up to half a mebibyte of labels) stands in a record of its own, so that a send does not rewrite it.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod purge;
pub(crate) mod update;

use std::collections::BTreeMap;

use conclave_types::{ProjectId, Revision, RoomName, RoomNumber, Timestamp};

use crate::TableError;
use crate::codec::{Reader, Record, Writer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomState {
    Active,
    /// The name is free already; the data goes in steps.
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomHeader {
    pub state: RoomState,
    pub revision: Revision,
    /// The revision of the last update of the room itself.
    pub etag: u64,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// Queues made so far: the number of the newest.
    pub queues: u32,
    /// Documents made so far: the number of the newest.
    pub documents: u32,
    /// Documents that are not deleted.
    pub live_documents: u32,
}

const STATE_ACTIVE: u8 = 1;
const STATE_DELETING: u8 = 2;

impl Record for RoomHeader {
    const NAME: &'static str = "room header";
    /// 2: counts documents.
    const VERSION: u8 = 2;

    fn write(&self, writer: &mut Writer) {
        writer.u8(match self.state {
            RoomState::Active => STATE_ACTIVE,
            RoomState::Deleting => STATE_DELETING,
        });
        writer.revision(self.revision);
        writer.varint(self.etag);
        writer.time(self.create_time);
        writer.time(self.update_time);
        for count in [self.queues, self.documents, self.live_documents] {
            writer.varint(count.into());
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let state = match reader.u8()? {
            STATE_ACTIVE => RoomState::Active,
            STATE_DELETING => RoomState::Deleting,
            _ => return Err(reader.damaged("unknown state")),
        };
        Ok(RoomHeader {
            state,
            revision: reader.revision()?,
            etag: reader.varint()?,
            create_time: reader.time()?,
            update_time: reader.time()?,
            queues: reader.u32()?,
            documents: reader.u32()?,
            live_documents: reader.u32()?,
        })
    }
}

pub(crate) type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomLabels {
    pub project: ProjectId,
    pub name: RoomName,
    pub metadata: Labels,
    pub annotations: Labels,
}

impl Record for RoomLabels {
    const NAME: &'static str = "room labels";

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.project.as_bytes());
        writer.bytes(self.name.as_bytes());
        for labels in [&self.metadata, &self.annotations] {
            writer.varint(labels.len() as u64);
            for (key, value) in labels {
                writer.bytes(key.as_bytes());
                writer.bytes(value.as_bytes());
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        Ok(RoomLabels {
            project: reader.text()?.parse().map_err(|_| reader.damaged("project"))?,
            name: reader.text()?.parse().map_err(|_| reader.damaged("room name"))?,
            metadata: read_labels(reader)?,
            annotations: read_labels(reader)?,
        })
    }
}

fn read_labels(reader: &mut Reader) -> Result<Labels, TableError> {
    let count = reader.varint()?;
    (0..count).map(|_| Ok((reader.text()?, reader.text()?))).collect()
}

/// The value of a directory entry.
impl Record for RoomNumber {
    const NAME: &'static str = "room directory";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        reader.varint().map(RoomNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let header = RoomHeader {
            state: RoomState::Active,
            revision: Revision(130),
            etag: 3,
            create_time: Timestamp(4),
            update_time: Timestamp(5),
            queues: 6,
            documents: 7,
            live_documents: 1,
        };
        assert_eq!(&header.encode()[..], [2, 1, 0x82, 1, 3, 4, 5, 6, 7, 1]);
        assert_eq!(RoomHeader::decode(header.encode()), Ok(header));
        let deleting = RoomHeader { state: RoomState::Deleting, ..header };
        assert_eq!(RoomHeader::decode(deleting.encode()), Ok(deleting));

        let labels = RoomLabels {
            project: "p".parse().unwrap(),
            name: "r".parse().unwrap(),
            metadata: [("k".into(), "v".into())].into(),
            annotations: Labels::new(),
        };
        assert_eq!(&labels.encode()[..], b"\x01\x01p\x01r\x01\x01k\x01v\x00");
        assert_eq!(RoomLabels::decode(labels.encode()), Ok(labels));
        assert_eq!(&RoomNumber(9).encode()[..], [1, 9]);
    }

    #[test]
    fn an_unknown_state_stops_the_replica() {
        assert!(RoomHeader::decode(vec![2, 1, 1, 1, 1, 1, 1, 1, 1].into()).is_ok());
        assert!(RoomHeader::decode(vec![2, 9, 1, 1, 1, 1, 1, 1, 1].into()).is_err());
        assert!(RoomHeader::decode(vec![3, 1, 1, 1, 1, 1, 1, 1, 1].into()).is_err());
    }
}
