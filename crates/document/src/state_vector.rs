//! State vectors as Yjs v1 bytes: the clock up to which each client is known.

use bytes::Bytes;
use conclave_types::{Clocks, UpdateClocks, YjsClient};

use crate::admission::UpdateError;
use crate::structure::{MAX_CLOCK, cursor::Cursor};

/// Why bytes are no state vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    #[error("state vector is malformed: {0}")]
    Malformed(UpdateError),
    #[error("state vector names client {} twice", client.0)]
    RepeatedClient { client: YjsClient },
}

/// Fewest bytes of an entry: client and clock.
const MIN_ENTRY_BYTES: u64 = 2;

/// Reads a state vector. What it declares is held against its bytes before anything is reserved. No bytes at all are
/// nobody's vector, and an error.
pub fn decode_state_vector(bytes: &[u8]) -> Result<Clocks, VectorError> {
    let mut cursor = Cursor::new(bytes);
    let mut clocks = Clocks::new();
    for _ in 0..cursor.count(MIN_ENTRY_BYTES).map_err(VectorError::Malformed)? {
        let (client, clock) = entry(&mut cursor).map_err(VectorError::Malformed)?;
        if clocks.insert(client, clock).is_some() {
            return Err(VectorError::RepeatedClient { client });
        }
    }
    if cursor.remaining() > 0 {
        return Err(VectorError::Malformed(UpdateError::Trailing { bytes: cursor.remaining() }));
    }
    clocks.retain(|_, clock| *clock > 0);
    Ok(clocks)
}

fn entry(cursor: &mut Cursor<'_>) -> Result<(YjsClient, u64), UpdateError> {
    let (client, clock) = (YjsClient(cursor.number()?), cursor.number()?);
    if clock > MAX_CLOCK {
        return Err(UpdateError::Clock { limit: MAX_CLOCK });
    }
    Ok((client, clock))
}

/// Writes a state vector, highest client first as Yjs does.
pub fn encode_state_vector(clocks: &Clocks) -> Bytes {
    let known = clocks.iter().rev().filter(|(_, clock)| **clock > 0);
    let mut bytes = Vec::with_capacity(1 + clocks.len() * 8);
    write_number(&mut bytes, known.clone().count() as u64);
    for (client, clock) in known {
        write_number(&mut bytes, client.0);
        write_number(&mut bytes, *clock);
    }
    Bytes::from(bytes)
}

/// Whether who knows `clocks` lacks nothing of an update. Clocks do not show deletions, so one that deletes is never
/// covered.
pub fn covers(clocks: &Clocks, added: &UpdateClocks) -> bool {
    let known = |client: &YjsClient| clocks.get(client).copied().unwrap_or_default();
    !added.deletes && added.added.iter().all(|added| added.to <= known(&added.client))
}

pub(crate) fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let clocks = Clocks::from([(YjsClient(1), 1), (YjsClient((1 << 53) - 1), MAX_CLOCK)]);
        assert_eq!(decode_state_vector(&encode_state_vector(&clocks)), Ok(clocks));
        assert_eq!(decode_state_vector(&[0]), Ok(Clocks::new()));
    }

    #[test]
    fn declared_clients_are_held_against_the_bytes() {
        // 2^27 clients in six bytes, for which yrs reserves 264 MB.
        let error = decode_state_vector(&[0x80, 0x80, 0x80, 0x40, 1, 1]);
        assert_eq!(error, Err(VectorError::Malformed(UpdateError::Count { declared: 1 << 27 })));
    }

    #[test]
    fn a_client_is_named_once_and_nothing_follows() {
        assert_eq!(decode_state_vector(&[2, 1, 1, 1, 2]), Err(VectorError::RepeatedClient { client: YjsClient(1) }));
        assert_eq!(decode_state_vector(&[0, 0]), Err(VectorError::Malformed(UpdateError::Trailing { bytes: 1 })));
        assert_eq!(decode_state_vector(&[]), Err(VectorError::Malformed(UpdateError::Truncated)));
    }
}
