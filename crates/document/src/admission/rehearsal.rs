//! Applies a small update to a made-up document before it is stored.
//!
//! The document that the update is for is not at hand, so one is made that holds exactly what the update builds on: types
//! where it has parents, deleted elements for all else. This finds what yrs cannot apply or encode whatever the document
//! is. What depends on the document's content is not found: such an update fails when the document is read.

use conclave_types::{Clocks, YjsClient};
use yrs::updates::decoder::Decode;
use yrs::{ReadTxn, StateVector, Update};

use super::{Survey, UpdateError};
use crate::guard;
use crate::load::{DocumentError, Loaded};

/// Largest update that is rehearsed. Edits of people are smaller; larger ones are whole documents and pasted text, where
/// the cost would be felt.
const MAX_REHEARSED_BYTES: usize = 4 << 10;

pub fn rehearse(update: &[u8], survey: &Survey, decoded: Update) -> Result<(), UpdateError> {
    if update.len() > MAX_REHEARSED_BYTES {
        return Ok(());
    }
    let refused = |error: DocumentError| UpdateError::Inapplicable(error.to_string());
    let (stage, known) = stage(survey);
    let stage = guard::catch(|| Update::decode_v1(&stage)).map_err(|panic| refused(panic.into()))?;
    let stage = stage.map_err(|error| UpdateError::Inapplicable(error.to_string()))?;
    let mut loaded = Loaded::empty(YjsClient(0));
    if survey.subdocuments > 0 {
        loaded.has_subdocuments();
    }
    loaded.apply([stage, decoded], |txn| txn.gc(None)).map_err(refused)?;
    let encoded = loaded.read(|txn| txn.encode_state_as_update_v1(&StateVector::default()));
    let encoded = encoded.map_err(|panic| refused(panic.into()))?;
    let clocks = loaded.clocks().map_err(|panic| refused(panic.into()))?;
    let again = super::survey(&encoded, crate::structure::Bounds::DOCUMENT)?;
    let complete =
        clocks == expected(known, survey) && again.clocks.added.iter().map(|added| (added.client, added.to)).eq(clocks);
    if complete { Ok(()) } else { Err(UpdateError::Inapplicable("clocks are lost".to_owned())) }
}

fn expected(mut known: Clocks, survey: &Survey) -> Clocks {
    for added in &survey.clocks.added {
        let clock = known.entry(added.client).or_default();
        *clock = added.to.max(*clock);
    }
    known
}

/// An update that brings what another builds on, and the clocks it makes known.
///
/// Its elements follow each other in one root type, in the order in which yrs applies them: highest client first.
fn stage(survey: &Survey) -> (Vec<u8>, Clocks) {
    let clocks = &survey.clocks;
    let mut known = Clocks::new();
    let before = clocks.added.iter().map(|added| (added.client, added.from));
    let built_on = clocks.required.iter().map(|required| (required.client, required.clock));
    for (client, clock) in before.chain(built_on).filter(|(_, clock)| *clock > 0) {
        let end = known.entry(client).or_default();
        *end = clock.max(*end);
    }
    let mut parents = survey.parents.clone();
    parents.sort_unstable();
    parents.dedup();
    let mut bytes = Vec::with_capacity(64);
    number(&mut bytes, known.len() as u64);
    let mut last = None;
    for (client, end) in known.iter().rev() {
        let first = parents.partition_point(|parent| parent.client < *client);
        let types = parents[first..].iter().take_while(|parent| parent.client == *client && parent.clock < *end);
        section(&mut bytes, *client, *end, types.map(|parent| parent.clock), &mut last);
    }
    bytes.push(0);
    (bytes, known)
}

/// One client's elements: nested arrays at the clocks `types`, deleted ones between them.
fn section(
    bytes: &mut Vec<u8>,
    client: YjsClient,
    end: u64,
    types: impl Iterator<Item = u64>,
    last: &mut Option<(YjsClient, u64)>,
) {
    const DELETED: u8 = 1;
    const TYPE: u8 = 7;
    const ARRAY: u8 = 0;
    let mut blocks = Vec::with_capacity(32);
    let (mut clock, mut count) = (0, 0_u64);
    let mut block = |blocks: &mut Vec<u8>, clock: u64, content: u8, len: u64| {
        match last.replace((client, clock + len - 1)) {
            Some((client, clock)) => {
                blocks.push(0b1000_0000 | content);
                number(blocks, client.0);
                number(blocks, clock);
            }
            // In the root type without a name.
            None => blocks.extend([content, 1, 0]),
        }
        match content {
            TYPE => blocks.push(ARRAY),
            _ => number(blocks, len),
        }
        count += 1;
    };
    for at in types {
        if at > clock {
            block(&mut blocks, clock, DELETED, at - clock);
        }
        block(&mut blocks, at, TYPE, 1);
        clock = at + 1;
    }
    if end > clock {
        block(&mut blocks, clock, DELETED, end - clock);
    }
    number(bytes, count);
    number(bytes, client.0);
    number(bytes, 0);
    bytes.extend(blocks);
}

fn number(bytes: &mut Vec<u8>, number: u64) {
    crate::state_vector::write_number(bytes, number);
}
