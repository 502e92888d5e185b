//! Values that name themselves: each is written once, by one writer, so whoever reads it can say whose it is.
//!
//! A body carries its value and bytes that follow from it, so a single wrong byte makes it nobody's. In a document a
//! value is a token (`[w3-17]`); tokens are typed as a whole and nobody types inside one.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Shortest body, and how many lengths there are from there on.
const BODY_BYTES: (usize, u64) = (48, 464);

/// The serial-th value of a writer; a writer writes to one room and one place only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Value {
    pub writer: u32,
    pub serial: u32,
}

impl Value {
    /// What is posted or sent for it.
    pub fn body(self) -> Bytes {
        let mut seed = (u64::from(self.writer) << 32 | u64::from(self.serial)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut body = format!("{self} ").into_bytes();
        let length = BODY_BYTES.0 + (random() % BODY_BYTES.1) as usize;
        while body.len() < length {
            body.extend_from_slice(&random().to_le_bytes());
        }
        body.into()
    }

    /// The value of a body; none if any byte of it is not as it was written.
    pub fn of_body(body: &[u8]) -> Option<Value> {
        let end = body.iter().position(|byte| *byte == b' ')?;
        let value: Value = std::str::from_utf8(&body[..end]).ok()?.parse().ok()?;
        (value.body() == body).then_some(value)
    }

    /// What is typed for it.
    pub fn token(self) -> String {
        format!("[{self}]")
    }
}

/// The values of a text in their order; what is no token comes as it stands.
pub fn tokens(text: &str) -> Vec<Result<Value, String>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let token = rest.find(']').map(|end| (&rest[..=end], &rest[end + 1..]));
        let Some((token, after)) = token else {
            found.push(Err(rest.to_owned()));
            break;
        };
        let inner = token.strip_prefix('[').and_then(|token| token.strip_suffix(']'));
        let value = inner.and_then(|inner| inner.parse::<Value>().ok());
        found.push(value.ok_or_else(|| token.to_owned()));
        rest = after;
    }
    found
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}-{}", self.writer, self.serial)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a value is written w<writer>-<serial>, not {0:?}")]
pub struct NotAValue(String);

impl FromStr for Value {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Value, NotAValue> {
        let parse = || -> Option<Result<Value, ParseIntError>> {
            let (writer, serial) = text.strip_prefix('w')?.split_once('-')?;
            Some(writer.parse().and_then(|writer| Ok(Value { writer, serial: serial.parse()? })))
        };
        let value = parse().and_then(Result::ok).ok_or_else(|| NotAValue(text.to_owned()))?;
        // `w01-1` and `w+1-1` parse as numbers too, and nobody wrote them.
        if value.to_string() == text { Ok(value) } else { Err(NotAValue(text.to_owned())) }
    }
}

impl From<Value> for String {
    fn from(value: Value) -> String {
        value.to_string()
    }
}

impl TryFrom<String> for Value {
    type Error = NotAValue;

    fn try_from(text: String) -> Result<Value, NotAValue> {
        text.parse()
    }
}

/// Values as runs of serials: a thousand tokens of a document in a few numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// By writer and first serial: writer, first and last serial of each run.
    runs: Vec<(u32, u32, u32)>,
    /// What was found and is nobody's token, or a token more than once.
    pub odd: Vec<String>,
}

impl Values {
    /// The values of a text.
    pub fn of_text(text: &str) -> Values {
        let (mut values, mut odd) = (Vec::new(), Vec::new());
        for token in tokens(text) {
            match token {
                Ok(value) => values.push(value),
                Err(foreign) => odd.push(foreign),
            }
        }
        values.sort_unstable();
        let mut runs: Vec<(u32, u32, u32)> = Vec::new();
        for value in values {
            match runs.last_mut() {
                Some((writer, _, last)) if *writer == value.writer && *last == value.serial => {
                    odd.push(format!("{value} twice"));
                }
                Some((writer, _, last)) if *writer == value.writer && *last + 1 == value.serial => *last += 1,
                _ => runs.push((value.writer, value.serial, value.serial)),
            }
        }
        Values { runs, odd }
    }

    pub fn contains(&self, value: Value) -> bool {
        let after = self.runs.partition_point(|(writer, first, _)| (*writer, *first) <= (value.writer, value.serial));
        let run = after.checked_sub(1).map(|index| self.runs[index]);
        run.is_some_and(|(writer, _, last)| writer == value.writer && value.serial <= last)
    }

    pub fn iter(&self) -> impl Iterator<Item = Value> {
        self.runs
            .iter()
            .flat_map(|(writer, first, last)| (*first..=*last).map(|serial| Value { writer: *writer, serial }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(writer: u32, serial: u32) -> Value {
        Value { writer, serial }
    }

    #[test]
    fn a_body_with_one_flipped_bit_is_nobodys() {
        let body = value(3, 17).body();
        assert_eq!(Value::of_body(&body), Some(value(3, 17)));
        for index in 0..body.len() {
            let mut flipped = body.to_vec();
            flipped[index] ^= 1;
            assert_eq!(Value::of_body(&flipped), None, "byte {index}");
        }
        assert_eq!(Value::of_body(&body[..body.len() - 1]), None);
        assert_eq!(Value::of_body(b""), None);
    }

    #[test]
    fn values_are_written_one_way() {
        for odd in ["w01-1", "w+1-1", "1-1", "w1", "w1-", "w1-1 ", ""] {
            assert!(odd.parse::<Value>().is_err(), "{odd:?}");
        }
        assert_eq!("w3-17".parse::<Value>().ok(), Some(value(3, 17)));
    }

    #[test]
    fn what_stands_between_tokens_is_found() {
        let text = "[w1-1][w1-2]x[w2-1][w2";
        let found = tokens(text);
        assert_eq!(found[..2], [Ok(value(1, 1)), Ok(value(1, 2))]);
        assert_eq!(found[2..], [Err("x[w2-1]".to_owned()), Err("[w2".to_owned())]);
    }

    #[test]
    fn values_of_a_text_are_kept_as_runs() {
        let values = Values::of_text("[w2-5][w1-1][w1-2][w1-4][w1-3][w2-7]");
        assert_eq!(values.runs, [(1, 1, 4), (2, 5, 5), (2, 7, 7)]);
        assert_eq!(values.iter().count(), 6);
        for (writer, serial, held) in
            [(1, 1, true), (1, 4, true), (1, 5, false), (2, 6, false), (2, 7, true), (3, 1, false)]
        {
            assert_eq!(values.contains(value(writer, serial)), held, "w{writer}-{serial}");
        }
        assert!(values.odd.is_empty());
        assert_eq!(Values::of_text("[w1-1][w1-1]oops]").odd, ["oops]", "w1-1 twice"]);
    }
}
