//! Hands an update to yrs in steps, when it is of many clients.
//!
//! yrs takes the sections of an update as they come, puts aside what has to wait, and calls itself for each section that
//! it finds used up: 10,000 clients who build on each other overflow half a MiB of stack. Our parser knows an order in
//! which nobody waits, and a section can be cut between any two blocks, so such an update is cut into pieces of one
//! client each.

use conclave_types::{AddedClocks, YjsClient};
use yrs::Update;
use yrs::encoding::read::Error;
use yrs::updates::decoder::Decode;

use crate::admission::{Survey, UpdateError};
use crate::guard;
use crate::load::DocumentError;
use crate::state_vector::write_number;
use crate::structure::{self, Block, Bounds, Visitor};

/// Most clients of an update that is handed over whole, so the deepest that yrs calls itself for them.
const MAX_CLIENTS_AT_ONCE: usize = 64;

/// Has yrs read an update; to be applied one after the other.
pub fn decode(update: &[u8], survey: &Survey) -> Result<Vec<Update>, DocumentError> {
    let decoded = if survey.clocks.added.len() <= MAX_CLIENTS_AT_ONCE {
        guard::catch(|| Update::decode_v1(update).map(|update| vec![update]))?
    } else {
        let pieces = cut(update, &survey.steps)?;
        guard::catch(|| pieces.iter().map(|piece| Update::decode_v1(piece)).collect::<Result<_, Error>>())?
    };
    decoded.map_err(|error| DocumentError::Unreadable(error.to_string()))
}

/// An update for each step, and one that deletes.
fn cut(update: &[u8], steps: &[AddedClocks]) -> Result<Vec<Vec<u8>>, UpdateError> {
    let mut spans = Spans::default();
    structure::walk(update, Bounds::DOCUMENT, &mut spans)?;
    spans.blocks.sort_unstable();
    let mut pieces = Vec::with_capacity(steps.len() + 1);
    for AddedClocks { client, from, to } in steps {
        let until = |clock: &u64| spans.blocks.partition_point(|span| (span.client, span.clock) < (*client, *clock));
        let blocks = &spans.blocks[until(from)..until(to)];
        let bytes = blocks.first().zip(blocks.last()).map_or(0..0, |(first, last)| first.bytes.0..last.bytes.1);
        let mut piece = Vec::with_capacity(bytes.len() + 16);
        piece.push(1);
        write_number(&mut piece, blocks.len() as u64);
        write_number(&mut piece, client.0);
        write_number(&mut piece, *from);
        piece.extend(&update[bytes]);
        piece.push(0);
        pieces.push(piece);
    }
    pieces.push([&[0], &update[spans.deletions..]].concat());
    Ok(pieces)
}

/// Where the blocks of an update are.
#[derive(Default)]
struct Spans {
    blocks: Vec<Span>,
    deletions: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    client: YjsClient,
    clock: u64,
    bytes: (usize, usize),
}

impl Visitor for Spans {
    fn block(&mut self, block: &Block) -> Result<(), UpdateError> {
        self.blocks.push(Span { client: block.client, clock: block.clock, bytes: block.bytes });
        Ok(())
    }

    fn section(&mut self, _: YjsClient, _: u64, _: u64) {}

    fn deletions(&mut self, at: usize) {
        self.deletions = at;
    }
}
