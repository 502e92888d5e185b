//! Numbers, counts and strings of an encoded update; nothing is copied.

use crate::admission::UpdateError;

/// Yjs keeps numbers in the 53 bits that a JavaScript number holds exactly.
const MAX_NUMBER: u64 = (1 << 53) - 1;

pub struct Cursor<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    pub fn byte(&mut self) -> Result<u8, UpdateError> {
        let (first, rest) = self.rest.split_first().ok_or(UpdateError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn peek(&self) -> Result<u8, UpdateError> {
        self.rest.first().copied().ok_or(UpdateError::Truncated)
    }

    pub fn bytes(&mut self, len: u64) -> Result<&'a [u8], UpdateError> {
        let len = usize::try_from(len).map_err(|_| UpdateError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(UpdateError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of at most 53 bits in as few bytes as it takes: yrs wraps longer ones, Yjs refuses them.
    #[inline]
    pub fn number(&mut self) -> Result<u64, UpdateError> {
        let mut number = 0;
        for shift in (0..).step_by(7).take(8) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let shortest = byte != 0 || shift == 0;
                return if shortest && number <= MAX_NUMBER { Ok(number) } else { Err(UpdateError::Number) };
            }
        }
        Err(UpdateError::Number)
    }

    /// A signed number: the first byte holds the sign and six bits. Its value is of no interest here.
    pub fn skip_signed(&mut self) -> Result<(), UpdateError> {
        let first = self.byte()?;
        let mut number = u64::from(first & 0x3f);
        if first < 0x80 {
            return Ok(());
        }
        for shift in (6..).step_by(7).take(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte != 0 && number <= MAX_NUMBER { Ok(()) } else { Err(UpdateError::Number) };
            }
        }
        Err(UpdateError::Number)
    }

    /// How many follow, each of at least `min_bytes`: what is declared must be there.
    pub fn count(&mut self, min_bytes: u64) -> Result<u64, UpdateError> {
        let count = self.number()?;
        match count.checked_mul(min_bytes) {
            Some(bytes) if bytes <= self.rest.len() as u64 => Ok(count),
            _ => Err(UpdateError::Count { declared: count }),
        }
    }

    pub fn text(&mut self) -> Result<&'a str, UpdateError> {
        let len = self.number()?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| UpdateError::Text)
    }
}
