//! What is known of a document without opening it: its number, and the clocks of its updates.
//!
//! In a Yjs document every client numbers what it inserts: its clock. An update is described by the clocks it adds and
//! those it builds on; comparing these numbers is all that decides whether it may be applied.

/// A document's number inside its room, from 1 in order of creation; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentNumber(pub u32);

/// The number that a Yjs client draws for itself; at most 53 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct YjsClient(pub u64);

/// Clocks `from..to` of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddedClocks {
    pub client: YjsClient,
    pub from: u64,
    pub to: u64,
}

/// A document must hold the client's clocks below `clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequiredClock {
    pub client: YjsClient,
    pub clock: u64,
}

/// What an update adds and what it builds on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateClocks {
    /// One range a client, by client; none is empty.
    pub added: Vec<AddedClocks>,
    /// By client, one each; without what the update's own ranges bring (together with `from`, which is required too).
    pub required: Vec<RequiredClock>,
    /// It deletes something, which no clock shows: such an update is kept even when it adds nothing.
    pub deletes: bool,
}

/// A state vector: the clock up to which each client is known.
pub type Clocks = std::collections::BTreeMap<YjsClient, u64>;

/// How an update stands to a document's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It adds something, or deletes.
    New,
    /// The document holds all of it.
    Known,
    /// Something it builds on is missing, or it repeats a part of what is known and goes on.
    Gap,
}

impl UpdateClocks {
    /// How the update stands to a document; `clock` looks up a client's clock, 0 for an unknown one.
    pub fn fit<E>(&self, mut clock: impl FnMut(YjsClient) -> Result<u64, E>) -> Result<Fit, E> {
        let mut new = self.deletes;
        for added in &self.added {
            let known = clock(added.client)?;
            if known < added.from || (known > added.from && known < added.to) {
                return Ok(Fit::Gap);
            }
            new |= known == added.from;
        }
        for required in &self.required {
            if clock(required.client)? < required.clock {
                return Ok(Fit::Gap);
            }
        }
        Ok(if new { Fit::New } else { Fit::Known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(clocks: &UpdateClocks, known: &[(u64, u64)]) -> Fit {
        let known: Clocks = known.iter().map(|(client, clock)| (YjsClient(*client), *clock)).collect();
        clocks.fit(|client| Ok::<_, ()>(known.get(&client).copied().unwrap_or_default())).expect("no error")
    }

    fn adds(client: u64, from: u64, to: u64) -> UpdateClocks {
        UpdateClocks { added: vec![AddedClocks { client: YjsClient(client), from, to }], ..UpdateClocks::default() }
    }

    #[test]
    fn an_update_fits_where_the_clocks_end_and_nowhere_else() {
        let update = adds(1, 3, 5);
        assert_eq!(fit(&update, &[(1, 3)]), Fit::New);
        for known in [0, 2, 4] {
            assert_eq!(fit(&update, &[(1, known)]), Fit::Gap, "{known}");
        }
        for known in [5, 9] {
            assert_eq!(fit(&update, &[(1, known)]), Fit::Known, "{known}");
        }
    }

    #[test]
    fn what_it_builds_on_must_be_there() {
        let required = vec![RequiredClock { client: YjsClient(2), clock: 7 }];
        let update = UpdateClocks { required, ..adds(1, 0, 1) };
        assert_eq!(fit(&update, &[(2, 6)]), Fit::Gap);
        assert_eq!(fit(&update, &[(2, 7)]), Fit::New);
    }

    #[test]
    fn a_deletion_is_never_known_already() {
        assert_eq!(fit(&UpdateClocks { deletes: true, ..adds(1, 0, 1) }, &[(1, 1)]), Fit::New);
        assert_eq!(fit(&UpdateClocks::default(), &[]), Fit::Known);
    }
}
