//! Documents as sets of tokens: there is an order of all pushes and strong reads that explains every read.
//!
//! Apart from all other checks this one does not go by revisions.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::history::{Answer, Call, History, Outcome, Value};
use crate::wgl::{self, Model, Order, Timed};

/// Tokens of a document, of which a sum of digests knows enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Tokens {
    count: u64,
    digests: u64,
}

impl Tokens {
    fn with(self, value: Value) -> Tokens {
        let digest = xxh3_64(value.token().as_bytes());
        Tokens { count: self.count + 1, digests: self.digests.wrapping_add(digest) }
    }
}

enum Asked {
    Push(Value),
    Holds(Tokens),
}

impl Model for Tokens {
    type Operation = Asked;

    fn step(&self, operation: &Asked) -> Option<Tokens> {
        match operation {
            Asked::Push(value) => Some(self.with(*value)),
            Asked::Holds(tokens) => (self == tokens).then_some(*self),
        }
    }
}

pub fn check(history: &History, room: usize) -> Vec<String> {
    let mut documents: BTreeMap<u16, Vec<Timed<Asked>>> = BTreeMap::new();
    for operation in history.of_room(room) {
        let (document, asked) = match (&operation.call, &operation.outcome) {
            (Call::Push { document, value }, Outcome::Ok { .. } | Outcome::Unknown { .. }) => {
                (*document, Asked::Push(*value))
            }
            (Call::DescribeDocument { document }, Outcome::Ok { answer: Answer::Holds { values }, .. }) => {
                (*document, Asked::Holds(values.iter().fold(Tokens::default(), Tokens::with)))
            }
            _ => continue,
        };
        let timed = Timed { invoked: operation.invoked, returned: operation.answered, operation: asked };
        documents.entry(document).or_default().push(timed);
    }
    let complaint = |(document, asked): (u16, Vec<Timed<Asked>>)| match wgl::order(Tokens::default(), &asked) {
        Order::Exists | Order::TooHard => None,
        Order::None { ordered } => {
            Some(format!("document {document}: no order explains more than {ordered} of {} operations", asked.len()))
        }
    };
    documents.into_iter().filter_map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, done, push, unknown};
    use super::*;

    #[test]
    fn a_read_that_forgets_an_acknowledged_push_is_refused() {
        let story = || Story::begin().then(push(1, 1), done(1)).describe("[w1-1]", 1);
        assert!(check(&story().end(), 0).is_empty());
        assert_eq!(check(&story().describe("", 1).end(), 0).len(), 1);
    }

    #[test]
    fn a_push_that_nobody_knows_of_may_show_late_and_then_for_good() {
        let story = || Story::begin().then(push(1, 1), unknown()).describe("", 1).describe("[w1-1]", 2);
        assert!(check(&story().end(), 0).is_empty());
        assert_eq!(check(&story().describe("", 3).end(), 0).len(), 1);
    }
}
