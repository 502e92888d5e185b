//! Queues: durable, by priority and first in first out, at least once.
//!
//! ```text
//!          ┌─ its time comes ── delayed ◄──────────── given back with a wait ─┐
//!          ▼                                                                  │
//! send ─► ready ─► lease (attempt + 1) ─► in flight ─► ack ─► acked (remembered for a while) ─► forgotten
//!   │      ▲  ▲                               │
//!   │      │  └──── lease ended, given back ──┤
//!   │      │                                  └─► too many attempts, rejected ─► dead letter, in another queue
//!   └─ waiting behind its group's head
//! ```
//!
//! An item's record is written once, by its send, and holds the body; all else are small keys beside it. So the attempt
//! stands in the ready, delayed and in-flight values rather than in the item: a delivery never rewrites a body.
//! Invariant: an item that exists is ready, in flight, delayed or behind its group's head, and only one of them. The head
//! of a group is whichever of its items is none of the last.
//!
//! Every step that changes the sizes participants can read is a revision: send, a lease that delivers, an ack that
//! counts, leases that ended. Receiving again what one holds, extending a lease, or nothing, is none.
//!
//! Waiting for time: a queue has at most one due entry of each kind ([`QueueTimer`]), not one for each item. The entry
//! stands at the earliest moment known when it was made; when it fires, what is due is done and it is set anew. That
//! saves a put and a delete an item, and it keeps the due index free of the deletion marks of all the leases that were
//! acknowledged in time.

pub(crate) mod ack;
pub(crate) mod bury;
pub(crate) mod cancel;
pub(crate) mod carry;
pub(crate) mod configure;
pub(crate) mod deduplication;
pub(crate) mod expire;
pub(crate) mod extend;
pub(crate) mod give_back;
pub(crate) mod header;
pub(crate) mod item;
pub(crate) mod lease;
pub(crate) mod place;
pub(crate) mod purge;
pub(crate) mod send;
pub(crate) mod settings;
pub(crate) mod story;

use conclave_types::{QueueName, Revision, RoomUid, Timestamp};

use crate::codec::{Reader, Record, Writer, damaged};
use crate::keys::{Due, QueueNumber, QueueTimer};
use crate::state::State;
use crate::{Effect, Refusal, TableError};

pub(crate) use header::QueueHeader;
pub use header::QueueTotals;
pub(crate) use item::{Acked, InFlight, Item};
pub use settings::{Overflow, QueueSettings, QueueState, SettingsPatch};
pub(crate) use story::Past;
pub use story::{DeadLetter, DeadReason, Failure, FailureKind};

/// Most queues of a room: a room's queues are listed in pages, and each costs a header. Queues of dead letters that are
/// made for others do not count.
pub const MAX_QUEUES_PER_ROOM: u32 = 10_000;

/// The value of a queue's directory entry.
impl Record for QueueNumber {
    const NAME: &'static str = "queue directory";

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.0.into());
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        reader.u32().map(QueueNumber)
    }
}

/// A queue that a command works on. Changes count once [`Queue::store`] is called.
pub(crate) struct Queue {
    pub room: RoomUid,
    pub number: QueueNumber,
    pub header: QueueHeader,
    /// This command makes the queue.
    pub is_new: bool,
    /// Something can be received that could not before.
    wakes: bool,
}

impl Queue {
    /// Finds a queue of an active room, or refuses.
    pub fn find(state: &mut State<'_>, room: RoomUid, name: &QueueName) -> Result<Result<Queue, Refusal>, TableError> {
        if state.active_room(room)?.is_none() {
            return Ok(Err(Refusal::RoomNotFound));
        }
        let Some(number) = state.queue_number(room, name)? else { return Ok(Err(Refusal::QueueNotFound)) };
        Queue::open(state, room, number).map(Ok)
    }

    /// A queue whose number is known.
    pub fn open(state: &mut State<'_>, room: RoomUid, number: QueueNumber) -> Result<Queue, TableError> {
        Ok(Queue { room, number, header: state.queue(room, number)?, is_new: false, wakes: false })
    }

    /// Finds a queue, or begins a new one of that name.
    pub fn find_or_begin(
        state: &mut State<'_>,
        room: RoomUid,
        name: &QueueName,
    ) -> Result<Result<Queue, Refusal>, TableError> {
        match Queue::find(state, room, name)? {
            Err(Refusal::QueueNotFound) => {}
            found => return Ok(found),
        }
        let queues = state.active_room(room)?.map_or(0, |header| header.queues);
        if queues >= MAX_QUEUES_PER_ROOM {
            return Ok(Err(Refusal::QueueLimit));
        }
        Ok(Ok(Queue::begin(state, room, name, queues)))
    }

    /// As the one or the other, for a command that says whether a missing queue is made.
    pub fn find_for(
        state: &mut State<'_>,
        room: RoomUid,
        name: &QueueName,
        create: bool,
    ) -> Result<Result<Queue, Refusal>, TableError> {
        if create { Queue::find_or_begin(state, room, name) } else { Queue::find(state, room, name) }
    }

    /// Begins a queue that is not there, in a room that has so many.
    pub fn begin(state: &State<'_>, room: RoomUid, name: &QueueName, queues: u32) -> Queue {
        let header = QueueHeader::new(name.clone(), state.clock());
        Queue { room, number: QueueNumber(queues + 1), header, is_new: true, wakes: false }
    }

    /// Whether a receive may take something.
    pub fn hands_out(&self) -> bool {
        self.header.settings.state == QueueState::Active && self.header.ready() > 0
    }

    /// Whoever waits for items of this queue, or at its limits, has to look again.
    pub fn wake(&mut self) {
        self.wakes = true;
    }

    /// Records the changes as one revision of the room.
    pub fn store(self, state: &mut State<'_>) -> Result<Revision, TableError> {
        let revision = state.next_revision(self.room)?;
        self.store_at(state, revision)?;
        Ok(revision)
    }

    /// Records the changes as part of a revision.
    pub fn store_at(mut self, state: &mut State<'_>, revision: Revision) -> Result<(), TableError> {
        self.header.changed = revision;
        if self.is_new {
            self.header.revision = revision;
            state.set_queue_number(self.room, self.header.name.clone(), self.number);
            if let Some(mut room) = state.room(self.room)? {
                room.queues = self.number.0;
                state.set_room(self.room, Some(room));
            }
        }
        state.queue_changed(self.room, self.number);
        self.store_unseen(state);
        Ok(())
    }

    /// Records changes that participants cannot see.
    pub fn store_unseen(self, state: &mut State<'_>) {
        if self.wakes && self.hands_out() {
            state.emit(Effect::QueueReady { room: self.room, queue: self.header.name.clone() });
        }
        state.set_queue(self.room, self.number, self.header);
    }

    /// Sees to it that the queue is looked at then, or before.
    pub fn watch(&mut self, state: &mut State<'_>, timer: QueueTimer, at: Timestamp) {
        let due = Due::Queue(timer, self.room, self.number);
        let scheduled = self.header.timer(timer);
        if scheduled.is_none_or(|scheduled| at < scheduled) {
            if let Some(scheduled) = scheduled.replace(at) {
                state.unschedule(scheduled, &due);
            }
            state.schedule(at, &due);
        }
    }

    /// A due entry of this queue is being handled: it is gone, and is set anew by whoever finds a reason.
    pub fn fired(&mut self, state: &mut State<'_>, timer: QueueTimer, deadline: Timestamp) -> Result<(), TableError> {
        if self.header.timer(timer).take() != Some(deadline) {
            return Err(damaged("due index", "a queue is due at another time"));
        }
        state.unschedule(deadline, &Due::Queue(timer, self.room, self.number));
        Ok(())
    }
}
