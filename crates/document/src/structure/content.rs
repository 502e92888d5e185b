//! What an element is: its kind decides how many clocks it takes.

use conclave_types::limits::MAX_UPDATE_NESTING;

use super::Content;
use super::cursor::Cursor;
use crate::admission::UpdateError;

const DELETED: u8 = 1;
const JSON: u8 = 2;
const BINARY: u8 = 3;
const STRING: u8 = 4;
const EMBED: u8 = 5;
const FORMAT: u8 = 6;
const TYPE: u8 = 7;
const VALUES: u8 = 8;
const SUBDOCUMENT: u8 = 9;

/// Reads content; yields its clocks, one an element. A string takes one for each UTF-16 unit.
pub fn read(cursor: &mut Cursor<'_>, kind: u8) -> Result<(u64, Content), UpdateError> {
    let len = match kind {
        DELETED => cursor.number()?,
        // Yjs has not written it for years, and yrs reads one string too many.
        JSON => return Err(UpdateError::Unsupported { what: "JSON content" }),
        BINARY => {
            let len = cursor.number()?;
            cursor.bytes(len)?;
            1
        }
        STRING => utf16_len(cursor.text()?),
        EMBED => {
            json(cursor.text()?)?;
            1
        }
        FORMAT => {
            cursor.text()?;
            json(cursor.text()?)?;
            1
        }
        TYPE => {
            nested_type(cursor)?;
            return Ok((1, Content::Type));
        }
        VALUES => {
            let values = cursor.count(1)?;
            for _ in 0..values {
                value(cursor)?;
            }
            values
        }
        SUBDOCUMENT => {
            cursor.text()?;
            // Its options: Yjs takes them apart as an object.
            if cursor.peek()? != MAP {
                return Err(UpdateError::Kind { what: "subdocument options" });
            }
            value(cursor)?;
            return Ok((1, Content::Subdocument));
        }
        _ => return Err(UpdateError::Kind { what: "content" }),
    };
    Ok((len, Content::Plain))
}

/// Every character is one unit, those of four bytes two.
fn utf16_len(text: &str) -> u64 {
    text.bytes().map(|byte| u64::from(byte & 0xc0 != 0x80) + u64::from(byte >= 0xf0)).sum()
}

fn nested_type(cursor: &mut Cursor<'_>) -> Result<(), UpdateError> {
    const XML_ELEMENT: u8 = 3;
    const XML_HOOK: u8 = 5;
    match cursor.byte()? {
        // Array, map, text, XML fragment, XML text.
        0 | 1 | 2 | 4 | 6 => Ok(()),
        XML_ELEMENT => cursor.text().map(drop),
        // Yjs writes a name after it that yrs does not read.
        XML_HOOK => Err(UpdateError::Unsupported { what: "XML hook" }),
        // Weak links are an extension that Yjs itself does not have; the rest only yrs knows.
        _ => Err(UpdateError::Unsupported { what: "nested type" }),
    }
}

const UNDEFINED: u8 = 127;
const NULL: u8 = 126;
const INTEGER: u8 = 125;
const FLOAT32: u8 = 124;
const FLOAT64: u8 = 123;
const BIG_INTEGER: u8 = 122;
const FALSE: u8 = 121;
const TRUE: u8 = 120;
const TEXT: u8 = 119;
const MAP: u8 = 118;
const ARRAY: u8 = 117;
const BUFFER: u8 = 116;

/// An array or map that is being read.
#[derive(Clone, Copy, Default)]
struct Open {
    left: u64,
    keyed: bool,
}

/// Reads one value with all that is inside it, with a stack of its own instead of the thread's.
fn value(cursor: &mut Cursor<'_>) -> Result<(), UpdateError> {
    let mut open = [Open::default(); MAX_UPDATE_NESTING];
    let mut depth = 0;
    loop {
        if let Some(entered) = scalar_or_open(cursor)? {
            let slot = open.get_mut(depth).ok_or(UpdateError::Nesting { limit: MAX_UPDATE_NESTING })?;
            *slot = entered;
            depth += 1;
        }
        // The next value is that of the innermost which lacks one.
        loop {
            let Some(inner) = depth.checked_sub(1).map(|at| &mut open[at]) else { return Ok(()) };
            if inner.left > 0 {
                inner.left -= 1;
                if inner.keyed {
                    cursor.text()?;
                }
                break;
            }
            depth -= 1;
        }
    }
}

fn scalar_or_open(cursor: &mut Cursor<'_>) -> Result<Option<Open>, UpdateError> {
    match cursor.byte()? {
        UNDEFINED | NULL | FALSE | TRUE => {}
        INTEGER => cursor.skip_signed()?,
        FLOAT32 => drop(cursor.bytes(4)?),
        FLOAT64 | BIG_INTEGER => drop(cursor.bytes(8)?),
        TEXT => drop(cursor.text()?),
        BUFFER => {
            let len = cursor.number()?;
            cursor.bytes(len)?;
        }
        MAP => return Ok(Some(Open { left: cursor.count(2)?, keyed: true })),
        ARRAY => return Ok(Some(Open { left: cursor.count(1)?, keyed: false })),
        _ => return Err(UpdateError::Kind { what: "value" }),
    }
    Ok(None)
}

/// JSON text: its brackets are counted before a parser sees it.
fn json(text: &str) -> Result<(), UpdateError> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > MAX_UPDATE_NESTING {
                    return Err(UpdateError::Nesting { limit: MAX_UPDATE_NESTING });
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(drop).map_err(|_| UpdateError::Json)
}
