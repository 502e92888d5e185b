//! Gives a document another path. Its number, and with it everything it holds, stays.

use conclave_types::{DocumentPath, RoomUid};

use super::Document;
use super::changes::{self, PathChange};
use crate::state::State;
use crate::{Outcome, Refusal, TableError};

pub(crate) fn rename(
    state: &mut State<'_>,
    room: RoomUid,
    from: DocumentPath,
    to: DocumentPath,
) -> Result<Outcome, TableError> {
    let mut document = match Document::find(state, room, &from)? {
        Ok(document) => document,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    if from == to {
        return Ok(Outcome::DocumentRenamed { revision: document.header.revision });
    }
    if state.document_number(room, &to)?.is_some() {
        return Ok(Outcome::Refused(Refusal::DocumentExists));
    }
    let number = document.number;
    document.header.path = to.clone();
    state.set_document_number(room, from.clone(), None);
    state.set_document_number(room, to.clone(), Some(number));
    let revision = document.store(state)?;
    changes::record(state, room, revision, number, PathChange::Renamed { from, to })?;
    Ok(Outcome::DocumentRenamed { revision })
}
