//! The admitted vector: what a document will hold once all that was proposed is applied.
//!
//! A client sends its next update before the last is acknowledged, so updates are compared with the clocks as they will
//! be: what is stored, raised by what is in flight. The vector only spares the log what apply would refuse; apply decides.
//!
//! ```text
//! Unknown -- used while nothing is in flight: read from the tables --> Known
//! Known -- a proposal fails, the path's document changes, too many clients --> Unknown
//! ```
//!
//! While it is unknown and something is in flight nobody can say what the document will hold, so everything is proposed.
//! Once nothing is in flight the tables say it again.
//!
//! Invariant: a known vector is no lower than what the tables will hold once everything admitted through it is applied.

use std::collections::HashMap;

use conclave_types::limits::MAX_DOCUMENT_BYTES;
use conclave_types::{DocumentNumber, Fit, UpdateClocks, YjsClient};

/// Clocks that one document's vector remembers; more are forgotten, which costs reads, and while something is in flight
/// early refusals. Few clients write to a document at the same time.
const MAX_CLOCKS: usize = 256;

/// A document of one path, as the tables have it now.
pub trait Stored {
    type Error;

    /// The document at the path.
    fn document(&self) -> Result<Option<DocumentNumber>, Self::Error>;
    /// A client's clock in it; 0 for an unknown client.
    fn clock(&self, document: DocumentNumber, client: YjsClient) -> Result<u64, Self::Error>;
    /// What counts against the document's quota.
    fn bytes(&self, document: DocumentNumber) -> Result<u64, Self::Error>;
}

/// What is to become of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts as in flight now.
    Propose,
    /// It builds on what is neither stored nor in flight.
    Gap,
    /// The document would be over its limit, at so many bytes.
    TooLarge { bytes: u64 },
}

/// The vector of one path.
#[derive(Debug, Default)]
pub struct Admitted {
    known: Option<Known>,
    in_flight: u32,
    in_flight_bytes: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// None while the document is missing; an update in flight may create it.
    document: Option<DocumentNumber>,
    clocks: HashMap<YjsClient, u64>,
    stored_bytes: u64,
}

impl Admitted {
    /// Judges an update of so many bytes.
    pub fn judge<S: Stored>(&mut self, update: &UpdateClocks, bytes: u64, stored: &S) -> Result<Verdict, S::Error> {
        if self.known.is_none() && self.in_flight == 0 {
            self.known = Some(Known::read(stored)?);
        }
        let stored_bytes = match &self.known {
            Some(known) => known.stored_bytes,
            None => bytes_of(stored)?,
        };
        let all_bytes = stored_bytes + self.in_flight_bytes + bytes;
        if all_bytes > MAX_DOCUMENT_BYTES {
            return Ok(Verdict::TooLarge { bytes: all_bytes });
        }
        if let Some(known) = &mut self.known {
            match update.fit(|client| known.clock(client, stored))? {
                Fit::Gap => return Ok(Verdict::Gap),
                Fit::New => known.raise(update),
                Fit::Known => {}
            }
            if known.clocks.len() > MAX_CLOCKS {
                self.known = None;
            }
        }
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        Ok(Verdict::Propose)
    }

    /// Takes in what the tables hold by now; for a reader who knows that they hold all that was acknowledged.
    pub fn refresh<S: Stored>(&mut self, stored: &S) -> Result<(), S::Error> {
        if self.in_flight == 0 {
            self.known = Some(Known::read(stored)?);
            return Ok(());
        }
        let Some(known) = &mut self.known else { return Ok(()) };
        let document = stored.document()?;
        if known.document.is_some() && known.document != document {
            self.known = None;
            return Ok(());
        }
        known.document = document;
        if let Some(document) = document {
            known.stored_bytes = stored.bytes(document)?;
            for (client, clock) in &mut known.clocks {
                *clock = stored.clock(document, *client)?.max(*clock);
            }
        }
        Ok(())
    }

    /// An update that was in flight is applied.
    pub fn applied(&mut self, bytes: u64) {
        self.landed(bytes);
        if let Some(known) = &mut self.known {
            known.stored_bytes += bytes;
        }
    }

    /// An update that was in flight was refused, or nobody knows.
    pub fn failed(&mut self, bytes: u64) {
        self.landed(bytes);
        self.known = None;
    }

    /// The path's document is another now, or gone.
    pub fn forget(&mut self) {
        self.known = None;
    }

    fn landed(&mut self, bytes: u64) {
        self.in_flight -= 1;
        self.in_flight_bytes -= bytes;
    }
}

impl Known {
    fn read<S: Stored>(stored: &S) -> Result<Known, S::Error> {
        let document = stored.document()?;
        let stored_bytes = document.map_or(Ok(0), |document| stored.bytes(document))?;
        Ok(Known { document, clocks: HashMap::new(), stored_bytes })
    }

    /// A client's clock, read when it is first asked for: what this leadership admitted raised it here already.
    fn clock<S: Stored>(&mut self, client: YjsClient, stored: &S) -> Result<u64, S::Error> {
        if let Some(clock) = self.clocks.get(&client) {
            return Ok(*clock);
        }
        if self.document.is_none() {
            self.document = stored.document()?;
        }
        let clock = self.document.map_or(Ok(0), |document| stored.clock(document, client))?;
        self.clocks.insert(client, clock);
        Ok(clock)
    }

    fn raise(&mut self, update: &UpdateClocks) {
        for added in &update.added {
            let clock = self.clocks.entry(added.client).or_default();
            *clock = added.to.max(*clock);
        }
    }
}

fn bytes_of<S: Stored>(stored: &S) -> Result<u64, S::Error> {
    stored.document()?.map_or(Ok(0), |document| stored.bytes(document))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use conclave_types::{AddedClocks, Clocks, RequiredClock};
    use proptest::prelude::*;

    use super::*;

    /// Tables that a test moves by hand.
    #[derive(Default)]
    struct Tables {
        document: Cell<Option<DocumentNumber>>,
        clocks: RefCell<Clocks>,
        bytes: Cell<u64>,
    }

    impl Tables {
        fn holding(clocks: &[(u64, u64)]) -> Tables {
            let tables = Tables::default();
            tables.document.set(Some(DocumentNumber(1)));
            clocks.iter().for_each(|(client, clock)| tables.apply(*client, *clock));
            tables
        }

        fn apply(&self, client: u64, clock: u64) {
            self.clocks.borrow_mut().insert(YjsClient(client), clock);
        }
    }

    impl Stored for Tables {
        type Error = Infallible;

        fn document(&self) -> Result<Option<DocumentNumber>, Infallible> {
            Ok(self.document.get())
        }

        fn clock(&self, _document: DocumentNumber, client: YjsClient) -> Result<u64, Infallible> {
            Ok(self.clocks.borrow().get(&client).copied().unwrap_or_default())
        }

        fn bytes(&self, _document: DocumentNumber) -> Result<u64, Infallible> {
            Ok(self.bytes.get())
        }
    }

    fn adds(client: u64, from: u64, to: u64) -> UpdateClocks {
        UpdateClocks { added: vec![AddedClocks { client: YjsClient(client), from, to }], ..UpdateClocks::default() }
    }

    fn judge(admitted: &mut Admitted, update: &UpdateClocks, tables: &Tables) -> Verdict {
        let Ok(verdict) = admitted.judge(update, 10, tables);
        verdict
    }

    #[test]
    fn updates_in_flight_carry_those_that_follow() {
        let (tables, mut admitted) = (Tables::holding(&[(1, 3)]), Admitted::default());
        assert_eq!(judge(&mut admitted, &adds(1, 3, 5), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(1, 5, 6), &tables), Verdict::Propose);
        let required = vec![RequiredClock { client: YjsClient(1), clock: 6 }];
        let other = UpdateClocks { required, ..adds(2, 0, 1) };
        assert_eq!(judge(&mut admitted, &other, &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(1, 7, 8), &tables), Verdict::Gap);
    }

    #[test]
    fn a_missing_document_takes_its_first_updates_at_once() {
        let (tables, mut admitted) = (Tables::default(), Admitted::default());
        assert_eq!(judge(&mut admitted, &adds(1, 0, 1), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(1, 1, 2), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(2, 4, 5), &tables), Verdict::Gap);
    }

    #[test]
    fn after_a_failure_everything_is_proposed_until_the_tables_know_again() {
        let (tables, mut admitted) = (Tables::holding(&[]), Admitted::default());
        assert_eq!(judge(&mut admitted, &adds(1, 0, 1), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(1, 1, 2), &tables), Verdict::Propose);
        admitted.failed(10);
        assert_eq!(judge(&mut admitted, &adds(1, 7, 8), &tables), Verdict::Propose);
        admitted.applied(10);
        admitted.failed(10);
        assert_eq!(judge(&mut admitted, &adds(1, 7, 8), &tables), Verdict::Gap);
        tables.apply(1, 7);
        let Ok(()) = admitted.refresh(&tables);
        assert_eq!(judge(&mut admitted, &adds(1, 7, 8), &tables), Verdict::Propose);
    }

    #[test]
    fn a_fresh_look_sees_what_an_earlier_leader_committed() {
        let (tables, mut admitted) = (Tables::holding(&[]), Admitted::default());
        assert_eq!(judge(&mut admitted, &adds(1, 0, 1), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(2, 4, 5), &tables), Verdict::Gap);
        tables.apply(2, 4);
        let Ok(()) = admitted.refresh(&tables);
        assert_eq!(judge(&mut admitted, &adds(2, 4, 5), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(1, 1, 2), &tables), Verdict::Propose, "what is in flight still counts");
    }

    #[test]
    fn another_document_at_the_path_is_judged_by_apply_until_the_tables_know_it() {
        let (tables, mut admitted) = (Tables::holding(&[(1, 9)]), Admitted::default());
        assert_eq!(judge(&mut admitted, &adds(1, 9, 10), &tables), Verdict::Propose);
        tables.document.set(Some(DocumentNumber(2)));
        tables.apply(1, 0);
        assert_eq!(judge(&mut admitted, &adds(1, 0, 1), &tables), Verdict::Propose, "known already");
        assert_eq!(judge(&mut admitted, &adds(1, 12, 13), &tables), Verdict::Gap);
        let Ok(()) = admitted.refresh(&tables);
        assert_eq!(judge(&mut admitted, &adds(1, 12, 13), &tables), Verdict::Propose);
        (0..3).for_each(|_| admitted.failed(10));
        assert_eq!(judge(&mut admitted, &adds(1, 12, 13), &tables), Verdict::Gap);
        assert_eq!(judge(&mut admitted, &adds(1, 0, 1), &tables), Verdict::Propose);
    }

    #[test]
    fn the_limit_counts_what_is_in_flight_and_forgets_what_compaction_freed() {
        let (tables, mut admitted) = (Tables::holding(&[]), Admitted::default());
        tables.bytes.set(MAX_DOCUMENT_BYTES - 20);
        assert_eq!(judge(&mut admitted, &adds(1, 0, 1), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(1, 1, 2), &tables), Verdict::Propose);
        assert_eq!(judge(&mut admitted, &adds(1, 2, 3), &tables), Verdict::TooLarge { bytes: MAX_DOCUMENT_BYTES + 10 });
        (0..2).for_each(|_| admitted.applied(10));
        assert_eq!(judge(&mut admitted, &adds(1, 2, 3), &tables), Verdict::TooLarge { bytes: MAX_DOCUMENT_BYTES + 10 });
        tables.apply(1, 2);
        tables.bytes.set(100);
        let Ok(()) = admitted.refresh(&tables);
        assert_eq!(judge(&mut admitted, &adds(1, 2, 3), &tables), Verdict::Propose);
    }

    #[test]
    fn a_document_with_very_many_clients_is_left_to_apply() {
        let (tables, mut admitted) = (Tables::holding(&[]), Admitted::default());
        for client in 0..=MAX_CLOCKS as u64 {
            assert_eq!(judge(&mut admitted, &adds(client, 0, 1), &tables), Verdict::Propose);
        }
        assert_eq!(judge(&mut admitted, &adds(1, 5, 6), &tables), Verdict::Propose);
        assert!(admitted.known.is_none());
    }

    /// What may happen to one document at the path.
    #[derive(Debug, Clone)]
    enum Step {
        Push {
            update: UpdateClocks,
        },
        /// The oldest update in flight reaches apply.
        Apply,
        /// The newest one is lost on its way.
        Lose,
        /// Another document is at the path, with nothing in it.
        Replace,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let update = (0..3u64, 0..6u64, 1..3u64, prop::option::of((0..3u64, 0..6u64)), any::<bool>());
        let push = update.prop_map(|(client, from, len, required, deletes)| {
            let required = required.map(|(client, clock)| RequiredClock { client: YjsClient(client), clock });
            let required = required.into_iter().collect();
            Step::Push { update: UpdateClocks { required, deletes, ..adds(client, from, from + len) } }
        });
        let step = prop_oneof![12 => push, 4 => Just(Step::Apply), 1 => Just(Step::Lose), 1 => Just(Step::Replace)];
        prop::collection::vec(step, 0..200)
    }

    fn fits(clocks: &Clocks, update: &UpdateClocks) -> Fit {
        let Ok(fit) = update.fit(|client| Ok::<_, Infallible>(clocks.get(&client).copied().unwrap_or_default()));
        fit
    }

    fn append(clocks: &mut Clocks, update: &UpdateClocks) -> bool {
        let fit = fits(clocks, update);
        if fit == Fit::New {
            for added in &update.added {
                let clock = clocks.entry(added.client).or_default();
                *clock = added.to.max(*clock);
            }
        }
        fit != Fit::Gap
    }

    proptest! {
        #[test]
        fn nothing_is_refused_that_apply_would_take(steps in steps()) {
            let (tables, mut admitted) = (Tables::holding(&[]), Admitted::default());
            let mut in_flight: VecDeque<UpdateClocks> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push { update } => {
                        let mut verdict = judge(&mut admitted, &update, &tables);
                        if verdict != Verdict::Propose {
                            let Ok(()) = admitted.refresh(&tables);
                            verdict = judge(&mut admitted, &update, &tables);
                        }
                        let mut later = tables.clocks.borrow().clone();
                        for update in &in_flight {
                            append(&mut later, update);
                        }
                        match verdict {
                            Verdict::Propose => in_flight.push_back(update),
                            other => prop_assert_eq!((other, fits(&later, &update)), (Verdict::Gap, Fit::Gap)),
                        }
                    }
                    Step::Apply => match in_flight.pop_front() {
                        Some(update) if append(&mut tables.clocks.borrow_mut(), &update) => admitted.applied(10),
                        Some(_) => admitted.failed(10),
                        None => {}
                    },
                    Step::Lose => {
                        if in_flight.pop_back().is_some() {
                            admitted.failed(10);
                        }
                    }
                    Step::Replace => {
                        let number = tables.document.get().map_or(1, |number| number.0 + 1);
                        tables.document.set(Some(DocumentNumber(number)));
                        tables.clocks.borrow_mut().clear();
                    }
                }
            }
        }
    }
}
