//! Makes a document that is missing. One that exists is left as it is and is no error: whoever opens a document first
//! need not know whether it is there.

use conclave_types::{DocumentPath, RoomUid};

use super::Document;
use crate::state::State;
use crate::{Outcome, TableError};

pub(crate) fn create(state: &mut State<'_>, room: RoomUid, path: &DocumentPath) -> Result<Outcome, TableError> {
    let document = match Document::find_or_begin(state, room, path)? {
        Ok(document) => document,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let (number, created) = (document.number, document.is_new);
    let revision = if created { document.store(state)? } else { document.header.revision };
    Ok(Outcome::DocumentReady { document: number, created, revision })
}
