//! Drives the room state machine with a shard's committed entries.
//!
//! Between two entries of one `apply` the writes of the first are not in the engine yet, so the second reads through
//! them. Effects wait for `written`. Where the shard is not led they are dropped, but for what concerns this replica's own
//! form of documents: that is the compactor's everywhere.

use std::sync::Arc;

use conclave_faults::{Bug, planted};
use conclave_proto::log::decode_batch;
use conclave_raft::{Committed, Reply, StateMachine, StateMachineError};
use conclave_room::{Applied, Batch, Command, Effect, Operation, TableError, TableReads};
use conclave_storage::{Engine, EngineError, Family, WriteBatch};
use conclave_types::{GroupId, Timestamp};
use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::error;

use crate::compactor::Marks;
use crate::leadership::Leading;
use crate::queue_counts::{Deed, QueueCounts, Tally};
use crate::tables::EngineTables;

/// What the machine tells the rest of its shard.
pub struct MachineSignals {
    /// The present leadership, if the shard is led here.
    pub leading: RwLock<Option<Arc<Leading>>>,
    /// The earliest deadline in the shard's tables.
    pub next_due: watch::Sender<Option<Timestamp>>,
    /// What there is to compact and to sweep.
    pub marks: Marks,
    /// What happened to items while the shard was led here.
    pub queues: QueueCounts,
}

impl Default for MachineSignals {
    fn default() -> Self {
        MachineSignals {
            leading: RwLock::new(None),
            next_due: watch::channel(None).0,
            marks: Marks::default(),
            queues: QueueCounts::default(),
        }
    }
}

impl MachineSignals {
    /// Reads the head of the due index and tells the timer when it changed. Reads under the channel's lock: of two that
    /// tell at once the later has read later, so an old deadline never replaces a newer one.
    pub fn tell_next_due(&self, group: GroupId, engine: &dyn Engine) {
        self.next_due.send_if_modified(|present| match conclave_room::next_due(group, &EngineTables(engine)) {
            Ok(due) => std::mem::replace(present, due) != due,
            Err(reason) => {
                error!(group = group.0, %reason, "the due index cannot be read");
                false
            }
        });
    }
}

pub struct ShardMachine {
    group: GroupId,
    engine: Arc<dyn Engine>,
    signals: Arc<MachineSignals>,
    /// Effects of the entries applied last, not yet run.
    effects: Vec<Effect>,
    /// What they did to items, not yet counted.
    tally: Tally,
    /// Of the entry that is applied; kept for its memory.
    deeds: Vec<Deed>,
}

impl ShardMachine {
    pub fn new(group: GroupId, engine: Arc<dyn Engine>, signals: Arc<MachineSignals>) -> Self {
        ShardMachine { group, engine, signals, effects: Vec::new(), tally: Tally::default(), deeds: Vec::new() }
    }

    fn tell_next_due(&self) {
        self.signals.tell_next_due(self.group, &*self.engine);
    }
}

impl StateMachine for ShardMachine {
    fn apply(&mut self, entries: &[Committed], writes: &mut WriteBatch) -> Result<Vec<Reply>, StateMachineError> {
        let tables = EngineTables(&*self.engine);
        let mut batch = Batch::new(self.group, &tables).map_err(stopped)?;
        let mut replies = Vec::with_capacity(entries.len());
        let is_counted = self.signals.leading.read().is_some();
        for entry in entries {
            let (time, mut commands) = decode_batch(entry.payload.clone())
                .map_err(|error| StateMachineError::Entry { index: entry.index, reason: error.to_string() })?;
            if planted(Bug::IgnoreFence) {
                commands.iter_mut().try_for_each(|command| unfence(self.group, &tables, command)).map_err(stopped)?;
            }
            self.deeds.clear();
            if is_counted {
                self.deeds.extend(commands.iter().map(|command| Deed::of(&command.operation)));
            }
            let Applied { outcomes, effects, .. } = batch.apply(time, commands).map_err(stopped)?;
            self.deeds.iter().zip(&outcomes).for_each(|(deed, outcome)| self.tally.count(*deed, outcome));
            self.effects.extend(effects);
            replies.push(Box::new(outcomes) as Reply);
        }
        for (key, value) in batch.into_writes() {
            match value {
                Some(value) => writes.put(Family::State, key, value),
                None => writes.delete(Family::State, key),
            }
        }
        Ok(replies)
    }

    fn written(&mut self) {
        let (effects, tally) = (std::mem::take(&mut self.effects), std::mem::take(&mut self.tally));
        self.signals.marks.mark(&effects);
        let leading = self.signals.leading.read().clone();
        if let Some(leading) = leading {
            self.signals.queues.add(tally);
            leading.documents.follow(&effects);
            leading.run(effects);
            self.tell_next_due();
        }
    }

    fn replaced(&mut self) -> Result<(), StateMachineError> {
        self.effects.clear();
        self.tally = Tally::default();
        self.signals.marks.mark_all();
        Ok(())
    }
}

/// A planted bug's: whatever attempt is acknowledged, it is taken for the one that is out.
fn unfence(group: GroupId, tables: &impl TableReads, command: &mut Command) -> Result<(), TableError> {
    let Operation::AckDeliveries { room, queue, deliveries } = &mut command.operation else { return Ok(()) };
    for delivery in deliveries {
        let attempt = conclave_room::read::attempt_in_flight(tables, group, *room, queue, delivery.item)?;
        delivery.attempt = attempt.unwrap_or(delivery.attempt);
    }
    Ok(())
}

fn stopped(error: TableError) -> StateMachineError {
    StateMachineError::Engine(EngineError::Foreign(error.0))
}
