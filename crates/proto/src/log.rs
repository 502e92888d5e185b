//! The payload of a log entry: a time stamp and commands, as `proto/conclave/internal/v1/log.proto` writes them.
//!
//! This is the hot path of every write, on the leader and on every follower, so it is written by hand: [`encode_batch`]
//! copies each payload once, [`decode_batch`] not at all. The generated types of `log.proto` describe the same bytes and
//! the tests hold the two against each other.

use bytes::Bytes;
use conclave_room::Command;
use conclave_types::{NameError, Timestamp};

use crate::wire::Malformed;

mod decode;
mod encode;

/// The schema that this version writes. A new operation or field, or a change of what an entry means, is a new number.
pub const SCHEMA: u32 = 3;
/// The oldest schema that this version reads.
pub const OLDEST_SCHEMA: u32 = 1;
/// The schema that brought documents, messages and the retention of a room's log.
const SCHEMA_OF_DOCUMENTS: u32 = 2;
/// The schema that brought what queues do beside sending, leasing and acknowledging.
const SCHEMA_OF_QUEUES: u32 = 3;

/// Why an entry was not understood. A replica that meets this stops its shard: skipping would make it diverge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeBatchError {
    #[error("log entry has schema {found}, this version knows up to {known}")]
    UnknownSchema { found: u32, known: u32 },
    /// Also an operation or origin that this version does not know, or that the entry's schema does not have.
    #[error("log entry has field {field} in {message}, which its schema does not have")]
    UnknownField { message: &'static str, field: u32 },
    #[error("log entry lacks {field} of {message}")]
    Missing { message: &'static str, field: &'static str },
    #[error("log entry: {0}")]
    Malformed(#[from] Malformed),
    #[error("log entry: {0}")]
    Name(#[from] NameError),
}

/// Encodes what one log entry proposes.
pub fn encode_batch(time: Timestamp, commands: &[Command]) -> Bytes {
    /// A command's own frame, and the batch's, round the guess of its content.
    const FRAME_BYTES: usize = 16;
    let expected = commands.iter().map(|command| encode::expected_bytes(command) + FRAME_BYTES).sum::<usize>();
    let mut out = Vec::with_capacity(FRAME_BYTES + expected);
    encode::batch(&mut out, time, commands);
    out.into()
}

/// Decodes what [`encode_batch`] wrote. Payloads of the commands are slices of `entry` and keep all of it alive.
pub fn decode_batch(entry: Bytes) -> Result<(Timestamp, Vec<Command>), DecodeBatchError> {
    decode::batch(&entry)
}

#[cfg(test)]
mod tests;
