//! What somebody who comes back lacks of a document.

use bytes::Bytes;
use conclave_types::Clocks;
use yrs::diff_updates_v1;

use crate::guard;
use crate::load::DocumentError;
use crate::state_vector::encode_state_vector;

/// The part of an encoded base update that a client with these clocks lacks, with all its deletions.
///
/// No document is built; it takes 0.2 ms for 25 KiB. Who knows nothing gets the base as it is.
pub fn diff(base: &[u8], client: &Clocks) -> Result<Bytes, DocumentError> {
    if client.values().all(|clock| *clock == 0) {
        return Ok(Bytes::copy_from_slice(base));
    }
    let vector = encode_state_vector(client);
    let diff = guard::catch(|| diff_updates_v1(base, &vector))?;
    diff.map(Bytes::from).map_err(|error| DocumentError::Unreadable(error.to_string()))
}
