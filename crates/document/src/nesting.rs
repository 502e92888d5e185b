//! How deep shared types are nested in each other.
//!
//! yrs deletes, collects and prints nested types by recursion, and many small updates can nest them without any of them
//! being deep. A stack that overflows ends the process, so the depth is known before yrs is asked to do anything: this
//! index holds it for every element that is inside a nested type.

use std::collections::BTreeMap;
use std::ops::Bound;

use conclave_types::YjsClient;

use crate::admission::UpdateError;
use crate::structure::{self, Block, Bounds, Id, Place, Visitor};

/// Deepest nesting of shared types that documents are read with. Editors nest some tens; at about 1 KiB of stack a level
/// it takes an eighth of the 2 MiB that a thread has.
pub const MAX_NESTED_TYPES: usize = 256;

/// Depth by element, growing with the document. What it does not know is at depth 0, in a root type.
#[derive(Debug, Default)]
pub struct Nesting {
    /// First clock of a range of elements, to its end and depth.
    depths: BTreeMap<(YjsClient, u64), (u64, usize)>,
}

impl Nesting {
    /// Takes in the elements of an update that was found valid: none waits for itself.
    pub fn add(&mut self, update: &[u8], bounds: Bounds) -> Result<(), UpdateError> {
        let mut placed = Placed::default();
        structure::walk(update, bounds, &mut placed)?;
        placed.sections.sort_unstable_by_key(|section| section.client);
        let depths = placed.resolve(self)?;
        for (block, depth) in placed.blocks.iter().zip(depths) {
            if depth > 0 {
                self.depths.insert((block.client, block.clock), (block.clock + block.len, depth));
            }
        }
        Ok(())
    }

    fn depth(&self, id: Id) -> usize {
        let until = Bound::Included((id.client, id.clock));
        let before = self.depths.range((Bound::Included((id.client, 0)), until)).next_back();
        before.filter(|(_, (end, _))| id.clock < *end).map_or(0, |(_, (_, depth))| *depth)
    }
}

/// The blocks of one update, to be found by element.
#[derive(Default)]
struct Placed {
    blocks: Vec<Block>,
    sections: Vec<Section>,
}

struct Section {
    client: YjsClient,
    first: usize,
    end: usize,
}

impl Visitor for Placed {
    fn section(&mut self, client: YjsClient, _: u64, _: u64) {
        let first = self.sections.last().map_or(0, |section| section.end);
        self.sections.push(Section { client, first, end: self.blocks.len() });
    }

    fn block(&mut self, block: &Block) -> Result<(), UpdateError> {
        self.blocks.push(*block);
        Ok(())
    }
}

impl Placed {
    fn find(&self, id: Id) -> Option<usize> {
        let section = self.sections.binary_search_by_key(&id.client, |section| section.client).ok()?;
        let Section { first, end, .. } = self.sections[section];
        let after = first + self.blocks[first..end].partition_point(|block| block.clock <= id.clock);
        let at = after.checked_sub(1).filter(|at| *at >= first)?;
        (id.clock < self.blocks[at].clock + self.blocks[at].len).then_some(at)
    }

    /// The depth of every block. Depth first on a stack of our own: a block waits for those it is in or beside.
    fn resolve(&self, known: &Nesting) -> Result<Vec<usize>, UpdateError> {
        const UNKNOWN: usize = usize::MAX;
        let mut depths = vec![UNKNOWN; self.blocks.len()];
        let mut stack = Vec::new();
        for first in 0..self.blocks.len() {
            stack.push(first);
            while let Some(&at) = stack.last() {
                if depths[at] != UNKNOWN {
                    stack.pop();
                    continue;
                }
                let place = self.blocks[at].place;
                let mut deepest = 0;
                let waiting = stack.len();
                for id in place.needs() {
                    match self.find(id) {
                        Some(other) if depths[other] == UNKNOWN => stack.push(other),
                        Some(other) => deepest = deepest.max(depths[other]),
                        None => deepest = deepest.max(known.depth(id)),
                    }
                }
                if stack.len() == waiting {
                    let depth = deepest + usize::from(matches!(place, Place::Inside(_)));
                    if depth > MAX_NESTED_TYPES {
                        return Err(UpdateError::TypeNesting { limit: MAX_NESTED_TYPES });
                    }
                    depths[at] = depth;
                    stack.pop();
                }
            }
        }
        Ok(depths)
    }
}
