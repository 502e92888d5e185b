//! gRPC message framing over raw bytes.
//!
//! A gRPC body is a row of messages, each behind five bytes: a compression flag and a length. The gateway never opens
//! messages, so it keeps them as they came, prefix and all: what arrives in one piece leaves in one piece, without a
//! copy and without work for each message beyond finding its end. Only a message that came in pieces is put together.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before each message: compression flag, big-endian length.
pub const PREFIX_BYTES: usize = 5;

/// Why bytes are not the messages they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("message of {actual} bytes is over the limit of {limit} bytes")]
    TooLarge { limit: usize, actual: usize },
    #[error("message is compressed; no compression was agreed")]
    Compressed,
    #[error("body ended inside a message")]
    Truncated,
}

/// Cuts chunks of a body, which end anywhere, into runs of whole messages.
#[derive(Debug)]
pub struct Deframer {
    /// The beginning of a message whose end has not come.
    carry: BytesMut,
    limit: usize,
}

impl Deframer {
    /// `limit`: most bytes of one message, without its prefix.
    pub fn new(limit: usize) -> Self {
        Deframer { carry: BytesMut::new(), limit }
    }

    /// Takes the next chunk and returns the messages that are whole now; the rest waits for the next chunk.
    pub fn push(&mut self, mut chunk: Bytes) -> Result<Run, FrameError> {
        if self.carry.is_empty() {
            let whole = whole_bytes(&chunk, self.limit)?;
            let run = chunk.split_to(whole);
            self.carry.put_slice(&chunk);
            return Ok(Run(run));
        }
        self.carry.put_slice(&chunk);
        let whole = whole_bytes(&self.carry, self.limit)?;
        Ok(Run(self.carry.split_to(whole).freeze()))
    }

    /// As [`push`](Self::push), without copying what came whole: first the message that earlier chunks began, then the
    /// others. For bodies whose chunks are full and nearly always end inside a message. Either may be empty.
    pub fn push_apart(&mut self, mut chunk: Bytes) -> Result<[Run; 2], FrameError> {
        let mut begun = Run::default();
        if !self.carry.is_empty() {
            self.carry_on(PREFIX_BYTES, &mut chunk);
            whole_bytes(&self.carry, self.limit)?;
            if self.carry.len() >= PREFIX_BYTES {
                self.carry_on(PREFIX_BYTES + message_length(&self.carry), &mut chunk);
            }
            if whole_bytes(&self.carry, self.limit)? == 0 {
                return Ok([begun, Run::default()]);
            }
            begun = Run(self.carry.split().freeze());
        }
        Ok([begun, self.push(chunk)?])
    }

    /// Moves bytes from the chunk until so many are carried, or none are left.
    fn carry_on(&mut self, until: usize, chunk: &mut Bytes) {
        let missing = until.saturating_sub(self.carry.len()).min(chunk.len());
        self.carry.put_slice(&chunk.split_to(missing));
    }

    /// The body has ended: nothing may be left over.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.carry.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

/// Whole messages with their prefixes, back to back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run(Bytes);

impl Run {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Where each message lies, prefix included.
    pub fn messages(&self) -> Messages<'_> {
        Messages { bytes: &self.0, at: 0 }
    }

    /// One message with its prefix. Copied when small, because a slice keeps the whole buffer it was received in.
    pub fn retain(&self, message: Range<usize>) -> Bytes {
        const COPY_UP_TO_BYTES: usize = 4 << 10;
        if message.len() <= COPY_UP_TO_BYTES { Bytes::copy_from_slice(&self.0[message]) } else { self.0.slice(message) }
    }

    /// The first message as a run of its own, and the others.
    pub fn split_first(mut self) -> (Run, Run) {
        let end = self.messages().next().map_or(0, |message| message.end);
        let first = self.0.split_to(end);
        (Run(first), self)
    }

    /// What stands in the only message; empty if there is none.
    pub fn single(&self) -> &[u8] {
        self.messages().next().map(|message| self.payload(message)).unwrap_or_default()
    }

    /// The bytes in a buffer of their own.
    pub fn copied(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// What stands in one message.
    pub fn payload(&self, message: Range<usize>) -> &[u8] {
        &self.0[message.start + PREFIX_BYTES..message.end]
    }
}

/// Walks a run. The deframer has checked every length in it.
#[derive(Debug)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Messages<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.bytes.get(self.at..).filter(|rest| rest.len() >= PREFIX_BYTES)?;
        let start = self.at;
        self.at += PREFIX_BYTES + message_length(rest);
        Some(start..self.at)
    }
}

/// Encoded bytes as one message with its prefix.
pub fn prefixed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a message is far below 4 GiB"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// One message with its prefix.
pub fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("the gateway's own messages are small"));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

fn message_length(prefixed: &[u8]) -> usize {
    u32::from_be_bytes([prefixed[1], prefixed[2], prefixed[3], prefixed[4]]) as usize
}

/// Bytes at the front that are whole messages.
fn whole_bytes(bytes: &[u8], limit: usize) -> Result<usize, FrameError> {
    let mut at = 0;
    while bytes.len() - at >= PREFIX_BYTES {
        if bytes[at] != 0 {
            return Err(FrameError::Compressed);
        }
        let length = message_length(&bytes[at..]);
        if length > limit {
            return Err(FrameError::TooLarge { limit, actual: length });
        }
        if bytes.len() - at < PREFIX_BYTES + length {
            break;
        }
        at += PREFIX_BYTES + length;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(payloads: &[&[u8]]) -> Bytes {
        let mut bytes = BytesMut::new();
        for payload in payloads {
            bytes.put_u8(0);
            bytes.put_u32(payload.len() as u32);
            bytes.put_slice(payload);
        }
        bytes.freeze()
    }

    fn payloads(run: &Run) -> Vec<Vec<u8>> {
        run.messages().map(|message| run.payload(message).to_vec()).collect()
    }

    #[test]
    fn messages_are_the_same_wherever_the_chunks_end() {
        let parts: [&[u8]; 4] = [b"one", b"", b"three", &[7; 300]];
        let whole = body(&parts);
        for size in 1..whole.len() {
            let mut deframer = Deframer::new(1_000);
            let mut seen = Vec::new();
            for start in (0..whole.len()).step_by(size) {
                let run = deframer.push(whole.slice(start..(start + size).min(whole.len()))).unwrap();
                seen.extend(payloads(&run));
            }
            assert_eq!(seen, parts.map(<[u8]>::to_vec), "chunks of {size}");
            assert_eq!(deframer.finish(), Ok(()));
            let mut seen = Vec::new();
            for start in (0..whole.len()).step_by(size) {
                let runs = deframer.push_apart(whole.slice(start..(start + size).min(whole.len()))).unwrap();
                seen.extend(runs.iter().flat_map(payloads));
            }
            assert_eq!(seen, parts.map(<[u8]>::to_vec), "chunks of {size}, apart");
            assert_eq!(deframer.finish(), Ok(()));
        }
    }

    #[test]
    fn a_chunk_of_whole_messages_is_not_copied() {
        let whole = body(&[b"one", b"two"]);
        let run = Deframer::new(10).push(whole.clone()).unwrap();
        assert_eq!(run.into_bytes().as_ptr(), whole.as_ptr());
    }

    #[test]
    fn messages_behind_one_that_came_in_pieces_are_not_copied() {
        let whole = body(&[b"one", b"two", b"three", b"four"]);
        let mut deframer = Deframer::new(10);
        assert!(deframer.push_apart(whole.slice(..6)).unwrap().iter().all(Run::is_empty));
        let [begun, others] = deframer.push_apart(whole.slice(6..whole.len() - 1)).unwrap();
        assert_eq!(
            (payloads(&begun), payloads(&others)),
            (vec![b"one".to_vec()], vec![b"two".to_vec(), b"three".to_vec()])
        );
        assert_eq!(others.into_bytes().as_ptr(), whole[8..].as_ptr());
        let [begun, others] = deframer.push_apart(whole.slice(whole.len() - 1..)).unwrap();
        assert_eq!((payloads(&begun), others), (vec![b"four".to_vec()], Run::default()));
    }

    #[test]
    fn an_oversized_message_is_refused_by_its_prefix() {
        let mut deframer = Deframer::new(10);
        let error = deframer.push(Bytes::from_static(&[0, 0, 0, 0, 11])).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { limit: 10, actual: 11 });
        assert_eq!(error.to_string(), "message of 11 bytes is over the limit of 10 bytes");
        let mut deframer = Deframer::new(10);
        deframer.push_apart(Bytes::from_static(&[0, 0])).unwrap();
        assert_eq!(deframer.push_apart(Bytes::from_static(&[0, 0, 11])).unwrap_err(), error);
    }

    #[test]
    fn a_compressed_message_and_a_cut_one_are_refused() {
        assert_eq!(Deframer::new(10).push(Bytes::from_static(&[1, 0, 0, 0, 0])), Err(FrameError::Compressed));
        let mut deframer = Deframer::new(10);
        assert!(deframer.push(Bytes::from_static(&[0, 0, 0, 0, 3, 1])).unwrap().is_empty());
        assert_eq!(deframer.finish(), Err(FrameError::Truncated));
    }

    #[test]
    fn a_small_message_kept_does_not_pin_the_buffer_it_came_in() {
        let run = Deframer::new(100).push(body(&[b"one", b"two"])).unwrap();
        let message = run.messages().nth(1).unwrap();
        let kept = run.retain(message.clone());
        assert_eq!(kept, run.0.slice(message.clone()));
        assert_ne!(kept.as_ptr(), run.0[message].as_ptr());
    }
}
