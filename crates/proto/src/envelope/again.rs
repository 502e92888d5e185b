//! What a gateway says again for a client. It says it with the client's own bytes: only the numbers that count for the
//! new stream are replaced, and fields of a later version stay.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::{ClientEnvelope, REVISION, body};
use crate::wire::{Fields, Malformed};

/// `ClientFrame.sequence`.
const SEQUENCE: u32 = 1;

/// A client's frame with sequence 0: said again by a gateway, which wants no answer unless it fails.
pub fn without_sequence(frame: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut again = Vec::with_capacity(frame.len());
    let mut fields = Fields::of(frame);
    let mut from = 0;
    while let Some(field) = fields.next() {
        let to = frame.len() - fields.remaining();
        if field?.0 != SEQUENCE {
            again.extend_from_slice(&frame[from..to]);
        }
        from = to;
    }
    Ok(again)
}

/// A client's `Subscribe` frame with sequence 0, to go on after this revision; 0 leaves the frame's own.
pub fn resubscribe(frame: &[u8], after_revision: u64) -> Result<Vec<u8>, Malformed> {
    let subscribe = ClientEnvelope::peek(frame)?.subscribe().ok_or(Malformed("the frame does not subscribe"))?;
    let again = without_sequence(frame)?;
    if after_revision == 0 {
        return Ok(again);
    }
    replace_subscribe(&again, &with_after_revision(subscribe, after_revision))
}

/// `Credit.events`, and the field of `Subscribe` that remembers them.
const CREDIT_EVENTS: u32 = 1;
const CREDIT: u32 = 9;

/// A client's `Subscribe` frame with what a `Credit` frame adds to it.
pub fn with_credit(frame: &[u8], credit: &[u8]) -> Result<Vec<u8>, Malformed> {
    let subscribe = ClientEnvelope::peek(frame)?.subscribe().ok_or(Malformed("the frame does not subscribe"))?;
    let number = |message: &[u8], wanted: u32| -> Result<u64, Malformed> {
        let mut number = 0;
        for field in Fields::of(message) {
            if let (field, value) = field?
                && field == wanted
            {
                number = value.uint()?;
            }
        }
        Ok(number)
    };
    // More than any window is as good as all of it, and stays a number of 32 bits.
    let events = number(subscribe, CREDIT)?.saturating_add(number(credit, CREDIT_EVENTS)?).min(u32::MAX.into());
    // In the place of what it said before: a subscription may be given credit again and again.
    let mut changed = Vec::with_capacity(subscribe.len() + key_len(CREDIT) + encoded_len_varint(events));
    let mut fields = Fields::of(subscribe);
    let mut from = 0;
    while let Some(field) = fields.next() {
        let to = subscribe.len() - fields.remaining();
        if field?.0 != CREDIT {
            changed.extend_from_slice(&subscribe[from..to]);
        }
        from = to;
    }
    encode_key(CREDIT, WireType::Varint, &mut changed);
    encode_varint(events, &mut changed);
    replace_subscribe(frame, &changed)
}

fn replace_subscribe(frame: &[u8], subscribe: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut changed = Vec::with_capacity(frame.len() + subscribe.len());
    let mut fields = Fields::of(frame);
    let mut from = 0;
    while let Some(field) = fields.next() {
        let to = frame.len() - fields.remaining();
        if field?.0 == body::SUBSCRIBE {
            encode_key(body::SUBSCRIBE, WireType::LengthDelimited, &mut changed);
            encode_varint(subscribe.len() as u64, &mut changed);
            changed.extend_from_slice(subscribe);
        } else {
            changed.extend_from_slice(&frame[from..to]);
        }
        from = to;
    }
    Ok(changed)
}

/// A request that has `after_revision`, to go on after this one; 0 leaves the request's own.
pub fn with_after_revision(request: &[u8], after_revision: u64) -> Bytes {
    if after_revision == 0 {
        return Bytes::copy_from_slice(request);
    }
    let mut changed = Vec::with_capacity(request.len() + key_len(REVISION) + encoded_len_varint(after_revision));
    changed.extend_from_slice(request);
    // Of a field that comes twice the last counts.
    encode_key(REVISION, WireType::Varint, &mut changed);
    encode_varint(after_revision, &mut changed);
    changed.into()
}
