//! Writes a history down while it happens.
//!
//! Actors note an operation before they ask and its outcome when they have it; what has none in the end stays unknown.
//! The lock is held for a push and never across an await.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conclave_types::Clock;

use super::MAX_OPERATIONS;
use crate::checks::Tally;
use crate::history::{
    Call, Consumption, Errand, ErrandCall, ErrandTold, Fault, Handed, History, Operation, Outcome, QueueRules,
};

pub struct Recorder {
    clock: Arc<dyn Clock>,
    began: Duration,
    history: Mutex<History>,
    actors: AtomicU32,
    writers: AtomicU32,
    sessions: AtomicU32,
}

/// An operation that was noted and has no outcome yet.
#[derive(Debug)]
pub struct Open(usize);

/// A consumer of streams.
#[derive(Debug)]
pub struct Consuming(usize);

impl Recorder {
    /// The run begins now.
    pub fn new(seed: u64, rooms: Vec<String>, queues: Vec<QueueRules>, clock: Arc<dyn Clock>) -> Recorder {
        Recorder {
            began: clock.monotonic(),
            clock,
            history: Mutex::new(History { queues, ..History::new(seed, rooms) }),
            actors: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            sessions: AtomicU32::new(0),
        }
    }

    /// Microseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().saturating_sub(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    pub fn next_actor(&self) -> u32 {
        self.actors.fetch_add(1, Ordering::Relaxed)
    }

    pub fn next_writer(&self) -> u32 {
        self.writers.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn next_session(&self) -> u32 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.lock().operations.len() >= MAX_OPERATIONS
    }

    /// Notes that something is about to be asked.
    pub fn invoke(&self, actor: u32, session: Option<u32>, room: usize, call: Call) -> Open {
        let outcome = Outcome::Unknown { why: "no answer until the end".to_owned() };
        let mut history = self.lock();
        // Under the lock, so that operations stand in the order of their times.
        let invoked = self.now();
        history.operations.push(Operation { actor, session, room, invoked, answered: None, call, outcome });
        Open(history.operations.len() - 1)
    }

    pub fn answer(&self, open: Open, outcome: Outcome) {
        let mut history = self.lock();
        let now = self.now();
        let operation = &mut history.operations[open.0];
        if !matches!(outcome, Outcome::Unknown { .. }) {
            operation.answered = Some(now);
        }
        operation.outcome = outcome;
    }

    /// A consumer is about to ask for streams.
    pub fn consume(&self, consumer: u32, room: usize, queue: u16, lease: Duration) -> Consuming {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let mut history = self.lock();
        history.consumptions.push(Consumption { consumer, room, queue, lease_ms, handed: Vec::new() });
        Consuming(history.consumptions.len() - 1)
    }

    /// Notes what a consumer was handed.
    pub fn hand(&self, consuming: &Consuming, handed: Handed) {
        self.lock().consumptions[consuming.0].handed.push(handed);
    }

    /// Notes that an errand is about to be run.
    pub fn set_out(&self, actor: u32, call: ErrandCall) -> Open {
        let told = ErrandTold::Unknown("no answer until the end".to_owned());
        let mut history = self.lock();
        let invoked = self.now();
        history.errands.push(Errand { actor, invoked, answered: None, call, told });
        Open(history.errands.len() - 1)
    }

    /// Notes what an errand came to.
    pub fn come_back(&self, open: Open, told: ErrandTold) {
        let mut history = self.lock();
        let now = self.now();
        let errand = &mut history.errands[open.0];
        if !matches!(told, ErrandTold::Unknown(_)) {
            errand.answered = Some(now);
        }
        errand.told = told;
    }

    /// Acknowledged writes of a room so far: what a suite waits for before it does harm, or after.
    pub fn writes(&self, room: usize) -> usize {
        self.lock().of_room(room).filter(|operation| operation.is_write() && operation.revision().is_some()).count()
    }

    /// Acknowledged writes of every room together.
    pub fn all_writes(&self) -> usize {
        let history = self.lock();
        history.operations.iter().filter(|operation| operation.is_write() && operation.revision().is_some()).count()
    }

    /// What happened so far, in numbers.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.lock())
    }

    pub fn rooms(&self) -> Vec<String> {
        self.lock().rooms.clone()
    }

    /// The history so far; the recorder begins an empty one.
    pub(super) fn take(&self) -> History {
        let mut history = self.lock();
        let empty = History { queues: history.queues.clone(), ..History::new(history.seed, history.rooms.clone()) };
        std::mem::replace(&mut history, empty)
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes faults in the history of a load.
#[derive(Clone)]
pub struct Faults {
    recorder: Arc<Recorder>,
}

/// A fault that has begun.
#[derive(Debug)]
#[must_use = "a fault that is never noted as healed counts against all that follows"]
pub struct Begun(usize);

impl Faults {
    pub(super) fn new(recorder: Arc<Recorder>) -> Faults {
        Faults { recorder }
    }

    /// A fault begins now. `rooms`: those whose leader it hits, by their place in the load.
    pub fn begin(&self, kind: &str, detail: impl Into<String>, rooms: Vec<usize>) -> Begun {
        let mut history = self.recorder.lock();
        let began = self.recorder.now();
        history.faults.push(Fault { kind: kind.to_owned(), detail: detail.into(), began, ended: None, rooms });
        Begun(history.faults.len() - 1)
    }

    /// It is healed: hosts run and reach each other again, whether or not they have caught up.
    pub fn end(&self, begun: Begun) {
        let mut history = self.recorder.lock();
        let now = self.recorder.now();
        history.faults[begun.0].ended = Some(now);
    }

    /// Microseconds since the run began.
    pub fn now(&self) -> u64 {
        self.recorder.now()
    }

    /// Faults so far.
    pub fn count(&self) -> usize {
        self.recorder.lock().faults.len()
    }
}
