//! Walks the fields of an encoded message without decoding it.
//!
//! Used where generated code would copy or drop what it does not know: a gateway's peek, items that are passed on as they
//! were sent, log entries. Groups do not exist in proto3 and are refused. Never panics, whatever the bytes.

/// The bytes are no protobuf message, or not the one expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// The value of one field, borrowed from the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    /// Eight or four bytes; no message of ours reads them, so they are only skipped.
    Fixed,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn uint(self) -> Result<u64, Malformed> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(Malformed("a number has another wire type")),
        }
    }

    pub(crate) fn flag(self) -> Result<bool, Malformed> {
        Ok(self.uint()? != 0)
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed("a length-delimited field has another wire type")),
        }
    }

    /// The numbers of a packed list.
    pub(crate) fn packed(self) -> Result<Packed<'a>, Malformed> {
        Ok(Packed { rest: Fields::of(self.bytes()?) })
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a string is not UTF-8"))
    }
}

/// The numbers of a packed list, in order. Ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Packed<'a> {
    rest: Fields<'a>,
}

impl Packed<'_> {
    /// How many there are, if the list is well formed.
    pub(crate) fn count_hint(&self) -> usize {
        self.rest.rest.iter().filter(|byte| **byte < 0x80).count()
    }
}

impl Iterator for Packed<'_> {
    type Item = Result<u64, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.rest.is_empty() {
            return None;
        }
        let number = self.rest.varint();
        if number.is_err() {
            self.rest.rest = &[];
        }
        Some(number)
    }
}

/// The top-level fields of a message, in the order of its bytes. Ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    /// Bytes not walked yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed("a field number is out of range"))?;
        if key < 8 {
            return Err(Malformed("field number 0"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| TRUNCATED)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed("unknown wire type")),
        };
        Ok((key >> 3, value))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        // Most keys and lengths are one byte.
        if let [byte @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(MAX_VARINT_BYTES).enumerate() {
            if index == MAX_VARINT_BYTES - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < MAX_VARINT_BYTES { TRUNCATED } else { Malformed("a number is over 64 bits") })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }
}

const TRUNCATED: Malformed = Malformed("it ends in the middle of a field");
/// 64 bits in groups of seven.
const MAX_VARINT_BYTES: usize = 10;

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::encoding::{decode_varint, encode_varint};

    use super::*;

    proptest! {
        #[test]
        fn numbers_read_as_prost_reads_them(value: u64, bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut encoded = Vec::new();
            encode_varint(value, &mut encoded);
            prop_assert_eq!(Fields::of(&encoded).varint(), Ok(value));
            prop_assert_eq!(Fields::of(&bytes).varint().ok(), decode_varint(&mut &bytes[..]).ok());
        }

        #[test]
        fn walking_arbitrary_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn longest_varint_is_read_and_a_longer_one_refused() {
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(Fields::of(&longest).varint(), Ok(u64::MAX));
        longest[9] = 2;
        assert!(Fields::of(&longest).varint().is_err());
    }
}
