//! How values are written: a version byte, then fields in a fixed order.
//!
//! Integers are LEB128 varints, byte strings carry their length before them. Hand-written, because stored bytes must
//! stay what they are whatever a library's next version does; the golden tests beside each record hold them fast.
//! A version or a tag that this build does not know stops the replica: skipping it would let replicas diverge.

use bytes::Bytes;
use conclave_types::{
    DocumentNumber, DocumentPath, ParticipantName, QueueName, Revision, Sequence, SessionId, Timestamp,
};

use crate::TableError;

/// A stored value that cannot be right. The replica stops rather than guess.
pub(crate) fn damaged(what: &str, why: &str) -> TableError {
    TableError(format!("stored {what} is damaged or from a newer version: {why}"))
}

/// A value kept in the tables.
pub(crate) trait Record: Sized {
    /// Names the record in errors.
    const NAME: &'static str;
    const VERSION: u8 = 1;

    fn write(&self, writer: &mut Writer);

    fn read(reader: &mut Reader) -> Result<Self, TableError>;

    fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u8(Self::VERSION);
        self.write(&mut writer);
        writer.finish()
    }

    fn decode(bytes: Bytes) -> Result<Self, TableError> {
        let mut reader = Reader { bytes, at: 0, what: Self::NAME };
        if reader.u8()? != Self::VERSION {
            return Err(reader.damaged("unknown version"));
        }
        let record = Self::read(&mut reader)?;
        reader.end()?;
        Ok(record)
    }
}

#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Writer { bytes: Vec::with_capacity(bytes) }
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub fn time(&mut self, time: Timestamp) {
        self.varint(time.0);
    }

    pub fn revision(&mut self, revision: Revision) {
        self.varint(revision.0);
    }

    /// 0 for none; a time is written one higher.
    pub fn optional_time(&mut self, time: Option<Timestamp>) {
        self.varint(time.map_or(0, |time| time.0.saturating_add(1)));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Empty for nobody; a name never is.
    pub fn optional_participant(&mut self, participant: Option<&ParticipantName>) {
        self.bytes(participant.map_or(&[], |name| name.as_bytes()));
    }

    /// Empty for none.
    pub fn optional_session(&mut self, session: Option<SessionId>) {
        match session {
            Some(session) => self.bytes(&session.0),
            None => self.bytes(&[]),
        }
    }

    /// Bytes without their length; only as the last field.
    pub fn rest(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn finish(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
    what: &'static str,
}

impl Reader {
    /// Reads bytes that stand inside another record and have no version of their own.
    pub fn inner(bytes: Bytes, what: &'static str) -> Self {
        Reader { bytes, at: 0, what }
    }

    pub fn u8(&mut self) -> Result<u8, TableError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.damaged("too short"))?;
        self.at += 1;
        Ok(byte)
    }

    pub fn varint(&mut self) -> Result<u64, TableError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged("number over 64 bits"))
    }

    pub fn u32(&mut self) -> Result<u32, TableError> {
        u32::try_from(self.varint()?).map_err(|_| self.damaged("number over 32 bits"))
    }

    pub fn time(&mut self) -> Result<Timestamp, TableError> {
        self.varint().map(Timestamp)
    }

    pub fn revision(&mut self) -> Result<Revision, TableError> {
        self.varint().map(Revision)
    }

    pub fn sequence(&mut self) -> Result<Sequence, TableError> {
        self.varint().map(Sequence)
    }

    pub fn optional_time(&mut self) -> Result<Option<Timestamp>, TableError> {
        Ok(self.varint()?.checked_sub(1).map(Timestamp))
    }

    pub fn bytes(&mut self) -> Result<Bytes, TableError> {
        let length = self.varint()?;
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        match end {
            Some(end) if end <= self.bytes.len() => {
                let bytes = self.bytes.slice(self.at..end);
                self.at = end;
                Ok(bytes)
            }
            _ => Err(self.damaged("too short")),
        }
    }

    pub fn text(&mut self) -> Result<String, TableError> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| self.damaged("text is not UTF-8"))
    }

    pub fn flag(&mut self) -> Result<bool, TableError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged("unknown flag")),
        }
    }

    pub fn participant(&mut self) -> Result<ParticipantName, TableError> {
        self.text()?.parse().map_err(|_| self.damaged("participant name"))
    }

    pub fn queue_name(&mut self) -> Result<QueueName, TableError> {
        self.text()?.parse().map_err(|_| self.damaged("queue name"))
    }

    /// Empty for none.
    pub fn optional_queue_name(&mut self) -> Result<Option<QueueName>, TableError> {
        let name = self.text()?;
        let parsed = (!name.is_empty()).then(|| name.parse()).transpose();
        parsed.map_err(|_| self.damaged("queue name"))
    }

    pub fn document_path(&mut self) -> Result<DocumentPath, TableError> {
        self.text()?.parse().map_err(|_| self.damaged("document path"))
    }

    pub fn document_number(&mut self) -> Result<DocumentNumber, TableError> {
        self.u32().map(DocumentNumber)
    }

    pub fn optional_participant(&mut self) -> Result<Option<ParticipantName>, TableError> {
        let name = self.text()?;
        let parsed = (!name.is_empty()).then(|| name.parse()).transpose();
        parsed.map_err(|_| self.damaged("participant name"))
    }

    pub fn optional_session(&mut self) -> Result<Option<SessionId>, TableError> {
        let id = self.bytes()?;
        let parsed = (!id.is_empty()).then(|| id[..].try_into().map(SessionId)).transpose();
        parsed.map_err(|_| self.damaged("session id"))
    }

    pub fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn end(&self) -> Result<(), TableError> {
        if self.is_at_end() { Ok(()) } else { Err(self.damaged("bytes left over")) }
    }

    pub fn damaged(&self, why: &str) -> TableError {
        damaged(self.what, why)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_survive(numbers in prop::collection::vec(any::<u64>(), 0..8), bytes: Vec<u8>) {
            let mut writer = Writer::default();
            numbers.iter().for_each(|number| writer.varint(*number));
            writer.bytes(&bytes);
            writer.rest(&bytes);
            let mut reader = Reader::inner(writer.finish(), "test");
            for number in numbers {
                prop_assert_eq!(reader.varint().unwrap(), number);
            }
            prop_assert_eq!(reader.bytes().unwrap(), &bytes);
            prop_assert_eq!(reader.rest(), &bytes);
            prop_assert!(reader.end().is_ok());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Reader::inner(bytes.into(), "test");
            while !reader.is_at_end() && reader.bytes().is_ok() {}
        }
    }

    #[test]
    fn a_number_over_64_bits_is_refused() {
        let mut reader = Reader::inner(Bytes::from_static(&[0xff; 11]), "test");
        assert!(reader.varint().is_err());
        let mut reader =
            Reader::inner(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), "test");
        assert!(reader.varint().is_err());
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        let mut reader = Reader::inner(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]), "test");
        assert!(reader.bytes().is_err());
    }
}
