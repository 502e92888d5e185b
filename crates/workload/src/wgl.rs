//! Is there an order of operations that agrees with real time and with what each was told? The search of Wing and Gong,
//! with Lowe's memory of configurations that were tried, for one object.
//!
//! It knows nothing of revisions, so it judges independently of those who go by them. Operations whose outcome nobody
//! knows may stand anywhere after they were asked, also after everything else. The time it takes may grow exponentially
//! with operations that overlap: [`MOST_OPERATIONS`] and [`MOST_CONFIGURATIONS`] bound it, and a history that is too hard
//! is called that, not correct.

use std::collections::HashSet;
use std::hash::Hash;

/// Of one object; of a longer history the beginning is judged, which must have an order of its own.
pub const MOST_OPERATIONS: usize = 400;
/// Configurations that are tried before a history is called too hard.
pub const MOST_CONFIGURATIONS: usize = 400_000;

/// An object in one of its states.
pub trait Model: Clone + Eq + Hash {
    type Operation;

    /// The state after an operation, if it can have been told what it was told.
    fn step(&self, operation: &Self::Operation) -> Option<Self>;
}

/// An operation and when it was under way; `returned` is none if nobody knows.
#[derive(Debug, Clone)]
pub struct Timed<O> {
    pub invoked: u64,
    pub returned: Option<u64>,
    pub operation: O,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Exists,
    /// No order does: the most operations that could be put in one.
    None {
        ordered: usize,
    },
    TooHard,
}

/// One end of an operation in the list of what is not ordered yet.
#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    is_return: bool,
    before: usize,
    after: usize,
}

/// A list whose elements can be taken out and put back; index 0 is its head.
struct Events(Vec<Event>);

impl Events {
    fn of<O>(history: &[Timed<O>]) -> (Events, Vec<usize>) {
        let mut times: Vec<(u64, bool, usize)> = Vec::with_capacity(history.len() * 2);
        for (operation, timed) in history.iter().enumerate() {
            times.push((timed.invoked, false, operation));
            times.push((timed.returned.unwrap_or(u64::MAX), true, operation));
        }
        // At the same time calls come first: then the two overlapped, for all that one can tell.
        times.sort_unstable();
        let head = Event { operation: usize::MAX, is_return: false, before: 0, after: 1 };
        let mut events = vec![head];
        let mut returns = vec![0; history.len()];
        for (place, (_, is_return, operation)) in times.into_iter().enumerate() {
            events.push(Event { operation, is_return, before: place, after: place + 2 });
            if is_return {
                returns[operation] = place + 1;
            }
        }
        (Events(events), returns)
    }

    fn take(&mut self, place: usize) {
        let Event { before, after, .. } = self.0[place];
        self.0[before].after = after;
        if after < self.0.len() {
            self.0[after].before = before;
        }
    }

    fn put_back(&mut self, place: usize) {
        let Event { before, after, .. } = self.0[place];
        self.0[before].after = place;
        if after < self.0.len() {
            self.0[after].before = place;
        }
    }

    fn first(&self) -> usize {
        self.0[0].after
    }

    fn get(&self, place: usize) -> Option<Event> {
        self.0.get(place).copied()
    }
}

/// Searches for an order, from a state on.
pub fn order<M: Model>(initial: M, history: &[Timed<M::Operation>]) -> Order {
    let history = &history[..history.len().min(MOST_OPERATIONS)];
    let (mut events, returns) = Events::of(history);
    let mut ordered = vec![0_u64; history.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, M)> = HashSet::new();
    let (mut state, mut most) = (initial, 0);
    let mut stack: Vec<(usize, M)> = Vec::new();
    let mut place = events.first();
    let known = history.iter().filter(|timed| timed.returned.is_some()).count();
    let mut known_ordered = 0;
    while known_ordered < known {
        let Some(event) = events.get(place) else { return Order::None { ordered: most } };
        if event.is_return {
            // It must have happened by now and was not put anywhere: something before it stands wrong.
            let Some((call, before)) = stack.pop() else { return Order::None { ordered: most } };
            let operation = events.0[call].operation;
            state = before;
            ordered[operation / 64] &= !(1 << (operation % 64));
            known_ordered -= usize::from(history[operation].returned.is_some());
            events.put_back(returns[operation]);
            events.put_back(call);
            place = events.0[call].after;
            continue;
        }
        let next = state.step(&history[event.operation].operation);
        let is_new = next.filter(|next| {
            let mut with = ordered.clone();
            with[event.operation / 64] |= 1 << (event.operation % 64);
            tried.insert((with, next.clone()))
        });
        let Some(next) = is_new else {
            place = event.after;
            continue;
        };
        if tried.len() > MOST_CONFIGURATIONS {
            return Order::TooHard;
        }
        stack.push((place, std::mem::replace(&mut state, next)));
        ordered[event.operation / 64] |= 1 << (event.operation % 64);
        known_ordered += usize::from(history[event.operation].returned.is_some());
        most = most.max(stack.len());
        events.take(place);
        events.take(returns[event.operation]);
        place = events.first();
    }
    Order::Exists
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that can be set and read.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Register(u32);

    #[derive(Clone, Copy)]
    enum Do {
        Set(u32),
        Read(u32),
    }

    impl Model for Register {
        type Operation = Do;

        fn step(&self, operation: &Do) -> Option<Register> {
            match operation {
                Do::Set(value) => Some(Register(*value)),
                Do::Read(value) => (self.0 == *value).then(|| self.clone()),
            }
        }
    }

    fn judge(history: &[(u64, u64, Do)]) -> Order {
        let timed = |(invoked, returned, operation): &(u64, u64, Do)| Timed {
            invoked: *invoked,
            returned: (*returned > 0).then_some(*returned),
            operation: *operation,
        };
        order(Register(0), &history.iter().map(timed).collect::<Vec<_>>())
    }

    #[test]
    fn a_history_with_an_order_has_one() {
        assert_eq!(judge(&[]), Order::Exists);
        assert_eq!(judge(&[(1, 2, Do::Set(1)), (3, 4, Do::Read(1))]), Order::Exists);
        // They overlap, so either may come first.
        assert_eq!(judge(&[(1, 9, Do::Set(1)), (2, 3, Do::Read(0)), (4, 5, Do::Read(1))]), Order::Exists);
        assert_eq!(judge(&[(1, 9, Do::Set(1)), (2, 8, Do::Set(2)), (10, 11, Do::Read(1))]), Order::Exists);
    }

    #[test]
    fn a_read_of_what_was_overwritten_has_none() {
        assert_eq!(judge(&[(1, 2, Do::Set(1)), (3, 4, Do::Read(0))]), Order::None { ordered: 1 });
        let back = [(1, 9, Do::Set(1)), (2, 3, Do::Read(1)), (4, 5, Do::Read(0))];
        assert!(matches!(judge(&back), Order::None { .. }));
        let twice = [(1, 2, Do::Set(1)), (3, 4, Do::Set(2)), (5, 9, Do::Read(2)), (6, 8, Do::Read(1))];
        assert!(matches!(judge(&twice), Order::None { .. }));
    }

    #[test]
    fn what_nobody_knows_may_have_happened_late_or_never() {
        assert_eq!(judge(&[(1, 0, Do::Set(1)), (3, 4, Do::Read(0)), (5, 6, Do::Read(1))]), Order::Exists);
        assert_eq!(judge(&[(1, 0, Do::Set(1)), (3, 4, Do::Read(0))]), Order::Exists);
        let back = [(1, 0, Do::Set(1)), (3, 4, Do::Read(1)), (5, 6, Do::Read(0))];
        assert!(matches!(judge(&back), Order::None { .. }));
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        // Many sets at once and a read that fits none of their orders.
        let mut history: Vec<(u64, u64, Do)> = (0..40).map(|at| (at, 1_000, Do::Set(at as u32 + 1))).collect();
        history.push((500, 900, Do::Read(99)));
        assert_eq!(judge(&history), Order::TooHard);
    }
}
