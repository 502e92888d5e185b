//! The metadata group's state machine. The whole table is one value: it is small, and readers want all of it.

use std::sync::Arc;

use conclave_raft::{Committed, Reply, StateMachine, StateMachineError};
use conclave_storage::{Engine, EngineError, Family, WriteBatch};
use tokio::sync::watch;

use crate::TableWatch;
use crate::apply::{Applied, MetaRefusal, apply};
use crate::command::MetaCommand;
use crate::table::{ClusterTable, TableRevision};

/// Group 0, class 0x01.
const TABLE_KEY: [u8; 3] = [0, 0, 1];

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaOutcome {
    /// Revision of the table after the command.
    pub revision: TableRevision,
    /// False: the table already was as the command asked.
    pub changed: bool,
}

/// The type of every reply.
pub(crate) type MetaReply = Result<MetaOutcome, MetaRefusal>;

pub struct MetaMachine {
    engine: Arc<dyn Engine>,
    /// After the last `apply`; may be ahead of what is published.
    table: Option<Arc<ClusterTable>>,
    published: watch::Sender<Option<Arc<ClusterTable>>>,
}

impl MetaMachine {
    /// The machine on what the engine holds, and the table it publishes.
    pub fn open(engine: Arc<dyn Engine>) -> Result<(MetaMachine, TableWatch), EngineError> {
        let table = load(engine.as_ref())?;
        let (published, watch) = watch::channel(table.clone());
        Ok((MetaMachine { engine, table, published }, watch))
    }

    fn apply_one(&mut self, command: &MetaCommand) -> MetaReply {
        let revision = |table: &Option<Arc<ClusterTable>>| table.as_ref().map(|table| table.revision);
        match apply(self.table.as_deref(), command)? {
            Applied::Changed(table) => {
                let revision = table.revision;
                self.table = Some(Arc::new(table));
                Ok(MetaOutcome { revision, changed: true })
            }
            Applied::Unchanged => {
                Ok(MetaOutcome { revision: revision(&self.table).unwrap_or_default(), changed: false })
            }
        }
    }
}

impl StateMachine for MetaMachine {
    fn apply(&mut self, entries: &[Committed], writes: &mut WriteBatch) -> Result<Vec<Reply>, StateMachineError> {
        let before = self.table.clone();
        let mut replies: Vec<Reply> = Vec::with_capacity(entries.len());
        for entry in entries {
            let command = MetaCommand::decode(&entry.payload)
                .map_err(|error| StateMachineError::Entry { index: entry.index, reason: error.to_string() })?;
            let reply = self.apply_one(&command);
            if let Err(refusal) = &reply {
                tracing::info!(index = entry.index, %refusal, "a metadata command was refused");
            }
            replies.push(Box::new(reply));
        }
        if let Some(table) = &self.table
            && before.as_ref().is_none_or(|before| before.revision != table.revision)
        {
            writes.put(Family::State, TABLE_KEY, table.encode());
        }
        Ok(replies)
    }

    fn written(&mut self) {
        publish(&self.published, self.table.clone());
    }

    fn replaced(&mut self) -> Result<(), StateMachineError> {
        self.table = load(self.engine.as_ref())?;
        publish(&self.published, self.table.clone());
        Ok(())
    }
}

/// Wakes readers only when there is something new.
fn publish(published: &watch::Sender<Option<Arc<ClusterTable>>>, table: Option<Arc<ClusterTable>>) {
    published.send_if_modified(|current| {
        let is_new = revision_of(current) != revision_of(&table);
        *current = table;
        is_new
    });
}

fn revision_of(table: &Option<Arc<ClusterTable>>) -> TableRevision {
    table.as_ref().map(|table| table.revision).unwrap_or_default()
}

fn load(engine: &dyn Engine) -> Result<Option<Arc<ClusterTable>>, EngineError> {
    let Some(bytes) = engine.get(Family::State, &TABLE_KEY)? else { return Ok(None) };
    let table =
        ClusterTable::decode(&bytes).map_err(|error| EngineError::Foreign(format!("the cluster table: {error}")))?;
    Ok(Some(Arc::new(table)))
}

#[cfg(test)]
mod tests {
    use conclave_storage::MemoryEngine;

    use super::*;
    use crate::apply::tests::commands;

    fn entries(commands: &[MetaCommand]) -> Vec<Committed> {
        (1..)
            .zip(commands)
            .map(|(index, command)| Committed { index, payload: command.encode(), awaited: true })
            .collect()
    }

    fn run(machine: &mut MetaMachine, commands: &[MetaCommand]) -> Vec<MetaReply> {
        let mut writes = WriteBatch::new();
        let replies = machine.apply(&entries(commands), &mut writes).unwrap();
        machine.engine.write(writes).unwrap();
        machine.written();
        replies.into_iter().map(|reply| *reply.downcast().unwrap()).collect()
    }

    #[test]
    fn the_table_is_published_after_it_is_written_and_found_again() {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let (mut machine, watch) = MetaMachine::open(engine.clone()).unwrap();
        let mut writes = WriteBatch::new();
        machine.apply(&entries(&commands()), &mut writes).unwrap();
        assert!(watch.borrow().is_none(), "published before it was written");
        engine.write(writes).unwrap();
        machine.written();
        let table = watch.borrow().clone().unwrap();
        assert_eq!(table.revision, TableRevision(5));

        let (_, again) = MetaMachine::open(engine).unwrap();
        assert_eq!(*again.borrow(), Some(table));
    }

    #[test]
    fn refusals_are_replies_and_write_nothing() {
        let (mut machine, mut watch) = MetaMachine::open(Arc::new(MemoryEngine::new())).unwrap();
        let later = &commands()[1..2];
        assert_eq!(run(&mut machine, later), vec![Err(MetaRefusal::NotBootstrapped)]);
        assert!(!watch.has_changed().unwrap());
        let all = commands();
        run(&mut machine, &all);
        watch.mark_unchanged();
        let again = run(&mut machine, &all[..1]);
        assert_eq!(again, vec![Ok(MetaOutcome { revision: TableRevision(5), changed: false })]);
        assert!(!watch.has_changed().unwrap());
    }

    #[test]
    fn batches_split_anywhere_come_to_the_same_bytes() {
        let dump = |splits: &[usize]| {
            let (mut machine, _) = MetaMachine::open(Arc::new(MemoryEngine::new())).unwrap();
            let mut rest = commands();
            for split in splits {
                let tail = rest.split_off(*split);
                run(&mut machine, &rest);
                rest = tail;
            }
            run(&mut machine, &rest);
            machine.engine.get(Family::State, &TABLE_KEY).unwrap()
        };
        assert_eq!(dump(&[]), dump(&[1, 1, 1, 1]));
        assert_eq!(dump(&[]), dump(&[3]));
    }

    #[test]
    fn an_entry_nobody_understands_stops_the_replica() {
        let (mut machine, _) = MetaMachine::open(Arc::new(MemoryEngine::new())).unwrap();
        let entry = Committed { index: 7, payload: vec![0xff].into(), awaited: false };
        let stopped = machine.apply(&[entry], &mut WriteBatch::new());
        assert!(matches!(stopped, Err(StateMachineError::Entry { index: 7, .. })));
    }

    #[test]
    fn a_snapshot_replaces_the_table() {
        let (mut source, _) = MetaMachine::open(Arc::new(MemoryEngine::new())).unwrap();
        run(&mut source, &commands());
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let (mut machine, watch) = MetaMachine::open(engine.clone()).unwrap();
        let mut writes = WriteBatch::new();
        writes.put(Family::State, TABLE_KEY, source.table.as_ref().unwrap().encode());
        engine.write(writes).unwrap();
        machine.replaced().unwrap();
        assert_eq!(*watch.borrow(), source.table);
    }
}
