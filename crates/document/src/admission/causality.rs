//! The order in which the blocks of an update can be applied.
//!
//! A client's blocks are applied in the order of its clocks; a block may have to wait for another client's. Clients that
//! wait for each other in a circle would be set aside by yrs as pending for ever, so such an update is refused.

use conclave_types::AddedClocks;

use super::UpdateError;
use crate::structure::Id;

/// The block at clock `at` of a section needs an element of another client.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub section: usize,
    pub at: u64,
    pub on: Id,
}

/// Blocks of one section that can be applied together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub section: usize,
    pub from: u64,
    pub to: u64,
}

/// All blocks, each after those that it needs. `links` are in the order of sections and clocks; each is taken once.
pub fn order(sections: &[AddedClocks], links: &[Link]) -> Result<Vec<Step>, UpdateError> {
    let mut order = Order::new(sections, links);
    (0..sections.len()).try_for_each(|section| order.finish(section))?;
    Ok(order.steps)
}

struct Order<'a> {
    sections: &'a [AddedClocks],
    links: &'a [Link],
    /// Section numbers by client.
    by_client: Vec<usize>,
    /// For each section its first link that is not known to be satisfied, and the end of its links.
    next: Vec<(usize, usize)>,
    /// The clock up to which each section is applied.
    applied: Vec<u64>,
    waiting: Vec<bool>,
    steps: Vec<Step>,
}

impl<'a> Order<'a> {
    fn new(sections: &'a [AddedClocks], links: &'a [Link]) -> Self {
        let mut by_client: Vec<usize> = (0..sections.len()).collect();
        by_client.sort_unstable_by_key(|section| sections[*section].client);
        let mut next = Vec::with_capacity(sections.len());
        let mut begin = 0;
        for section in 0..sections.len() {
            let end = begin + links[begin..].partition_point(|link| link.section <= section);
            next.push((begin, end));
            begin = end;
        }
        let applied = sections.iter().map(|section| section.from).collect();
        let waiting = vec![false; sections.len()];
        Self { sections, links, by_client, next, applied, waiting, steps: Vec::with_capacity(sections.len()) }
    }

    /// Applies a section to its end, and of others as much as it waits for: depth first, on a stack of our own.
    fn finish(&mut self, section: usize) -> Result<(), UpdateError> {
        let mut stack = vec![(section, self.sections[section].to)];
        self.waiting[section] = true;
        while let Some(&(section, until)) = stack.last() {
            match self.advance(section, until) {
                None => {
                    self.waiting[section] = false;
                    stack.pop();
                }
                Some((other, _)) if self.waiting[other] => {
                    return Err(UpdateError::Causality { client: self.sections[section].client });
                }
                Some((other, clock)) => {
                    self.waiting[other] = true;
                    stack.push((other, clock));
                }
            }
        }
        Ok(())
    }

    /// Applies at least up to the block that holds the clock `until`; or says which section's clock stands in the way.
    fn advance(&mut self, section: usize, until: u64) -> Option<(usize, u64)> {
        let (mut at, end) = self.next[section];
        let mut missing = None;
        while at < end && self.links[at].at <= until {
            missing = self.missing(self.links[at].on);
            if missing.is_some() {
                break;
            }
            at += 1;
        }
        self.next[section].0 = at;
        let to = if at < end { self.links[at].at } else { self.sections[section].to };
        let from = std::mem::replace(&mut self.applied[section], to);
        if from < to {
            self.steps.push(Step { section, from, to });
        }
        missing
    }

    fn missing(&self, on: Id) -> Option<(usize, u64)> {
        let found = self.by_client.binary_search_by_key(&on.client, |section| self.sections[*section].client);
        let section = self.by_client[found.ok()?];
        let AddedClocks { from, to, .. } = self.sections[section];
        ((from..to).contains(&on.clock) && on.clock >= self.applied[section]).then_some((section, on.clock))
    }
}
