//! An update as it was pushed.

use bytes::Bytes;
use conclave_types::{AddedClocks, ParticipantName, RequiredClock, SessionId, Timestamp, UpdateClocks, YjsClient};

use crate::TableError;
use crate::codec::{Reader, Record, Writer};

/// Its revision stands in the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpdateRecord {
    pub time: Timestamp,
    pub author: ParticipantName,
    pub session: Option<SessionId>,
    pub clocks: UpdateClocks,
    pub update: Bytes,
}

const DELETES: u8 = 1;

impl Record for UpdateRecord {
    const NAME: &'static str = "document update";

    fn write(&self, writer: &mut Writer) {
        writer.time(self.time);
        writer.bytes(self.author.as_bytes());
        writer.optional_session(self.session);
        writer.u8(if self.clocks.deletes { DELETES } else { 0 });
        writer.varint(self.clocks.added.len() as u64);
        for AddedClocks { client, from, to } in &self.clocks.added {
            writer.varint(client.0);
            writer.varint(*from);
            writer.varint(*to);
        }
        writer.varint(self.clocks.required.len() as u64);
        for RequiredClock { client, clock } in &self.clocks.required {
            writer.varint(client.0);
            writer.varint(*clock);
        }
        writer.rest(&self.update);
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (time, author, session) = (reader.time()?, reader.participant()?, reader.optional_session()?);
        let deletes = match reader.u8()? {
            0 => false,
            DELETES => true,
            _ => return Err(reader.damaged("unknown flags")),
        };
        let (mut added, mut required) = (Vec::new(), Vec::new());
        for _ in 0..reader.varint()? {
            let client = YjsClient(reader.varint()?);
            added.push(AddedClocks { client, from: reader.varint()?, to: reader.varint()? });
        }
        for _ in 0..reader.varint()? {
            required.push(RequiredClock { client: YjsClient(reader.varint()?), clock: reader.varint()? });
        }
        let clocks = UpdateClocks { added, required, deletes };
        Ok(UpdateRecord { time, author, session, clocks, update: reader.rest() })
    }

    fn encode(&self) -> Bytes {
        let clocks = 24 * (self.clocks.added.len() + self.clocks.required.len());
        let mut writer = Writer::with_capacity(self.update.len() + self.author.as_bytes().len() + clocks + 36);
        writer.u8(Self::VERSION);
        self.write(&mut writer);
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_as_they_were_first_stored() {
        let record = UpdateRecord {
            time: Timestamp(1),
            author: "ann".parse().unwrap(),
            session: None,
            clocks: UpdateClocks {
                added: vec![AddedClocks { client: YjsClient(300), from: 2, to: 5 }],
                required: vec![RequiredClock { client: YjsClient(6), clock: 7 }],
                deletes: true,
            },
            update: Bytes::from_static(b"up"),
        };
        assert_eq!(&record.encode()[..], b"\x01\x01\x03ann\x00\x01\x01\xac\x02\x02\x05\x01\x06\x07up");
        assert_eq!(UpdateRecord::decode(record.encode()), Ok(record.clone()));
        let with_session = UpdateRecord { session: Some(SessionId([7; 16])), ..record };
        assert_eq!(UpdateRecord::decode(with_session.encode()), Ok(with_session));
    }
}
