//! Durability: one queue of log writes for all groups, written in order, synced together.
//!
//! Two step functions share the work. The writer takes what is queued, writes it as one batch without a sync, and marks
//! it as written: apply may follow. The syncer syncs whenever anything is written that was not, and only then
//! acknowledges it. What is written during one sync shares the next, so no timer is needed to gather batches.
//!
//! Invariants: requests are written in the order they were queued; nothing is acknowledged that was not written before
//! a sync that succeeded; after an engine error nothing is acknowledged at all.

use std::sync::Arc;

use conclave_faults::{Bug, Point, planted, reached};
use conclave_storage::{Engine, EngineError, WriteBatch};
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot, watch};

use crate::limits::{MAX_QUEUED_LOG_WRITES, MAX_UNSYNCED_BATCHES, MAX_WRITE_BATCH_BYTES, MAX_WRITE_BATCH_REQUESTS};
use crate::types::Raft;

/// What one step did.
#[derive(Debug)]
pub enum Step {
    /// There was work, and it is done: step again.
    Done,
    /// Nobody can bring more work: stop stepping.
    Closed,
    /// The engine failed. What is on disk is unknown: abort the process. Nothing of this step was acknowledged.
    Fatal(EngineError),
}

/// Writes what groups queue. Owns no thread: its owner steps it on one, a simulation as a task.
pub struct LogWriter {
    engine: Arc<dyn Engine>,
    requests: mpsc::Receiver<Request>,
    written: mpsc::Sender<Vec<Acknowledge>>,
    /// Once the engine failed, every further step says so.
    failed: Option<EngineError>,
}

/// Syncs what the writer wrote, and acknowledges it. Owns no thread.
pub struct LogSyncer {
    engine: Arc<dyn Engine>,
    written: mpsc::Receiver<Vec<Acknowledge>>,
    /// Who waits for the next sync.
    gathered: Vec<Acknowledge>,
    failed: Option<EngineError>,
}

/// The groups' end of the queue.
#[derive(Clone)]
pub(crate) struct LogQueue {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Write(LogWrite),
    /// A write outside the queue failed: the store must not be trusted any more.
    Failed(EngineError),
}

/// Writes of one group that belong together.
pub(crate) struct LogWrite {
    pub(crate) batch: WriteBatch,
    /// Where the group's log ends once this is written, and who is told.
    pub(crate) log_end: Option<(Arc<watch::Sender<u64>>, u64)>,
    /// Who waits for the sync. Without it this alone causes none.
    pub(crate) acknowledge: Option<Acknowledge>,
    /// Holds a vote. Written like the rest; crash points tell it apart.
    pub(crate) is_vote: bool,
}

pub(crate) enum Acknowledge {
    Append(IOFlushed<Raft>),
    Waiting(oneshot::Sender<()>),
}

/// The queue has no writer any more: the process is about to stop.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the log writer has stopped")]
pub(crate) struct WriterGone;

pub(crate) fn log_writer(engine: Arc<dyn Engine>) -> (LogQueue, LogWriter, LogSyncer) {
    let (queue, requests) = mpsc::channel(MAX_QUEUED_LOG_WRITES);
    let (written, unsynced) = mpsc::channel(MAX_UNSYNCED_BATCHES);
    let writer = LogWriter { engine: engine.clone(), requests, written, failed: None };
    let syncer = LogSyncer { engine, written: unsynced, gathered: Vec::new(), failed: None };
    (LogQueue { requests: queue }, writer, syncer)
}

impl LogWriter {
    /// Waits for queued writes and writes them as one batch of at most 1 MiB or 1,024 requests, unless one request alone
    /// is larger. Blocks in the engine. May be dropped at an await without losing a request.
    pub async fn step(&mut self) -> Step {
        if let Some(error) = &self.failed {
            return Step::Fatal(error.clone());
        }
        let Ok(permit) = self.written.reserve().await else { return Step::Closed };
        let Some(first) = self.requests.recv().await else { return Step::Closed };
        // From here to the end nothing is awaited.
        match write(&*self.engine, &mut self.requests, first) {
            Ok(acknowledges) => {
                if !acknowledges.is_empty() {
                    permit.send(acknowledges);
                }
                Step::Done
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Step::Fatal(error)
            }
        }
    }
}

fn write(
    engine: &dyn Engine,
    requests: &mut mpsc::Receiver<Request>,
    first: Request,
) -> Result<Vec<Acknowledge>, EngineError> {
    let mut batch = WriteBatch::new();
    let mut log_ends = Vec::new();
    let mut acknowledges = Vec::new();
    let mut holds_vote = false;
    let mut taken = 0;
    let mut next = Some(first);
    while let Some(request) = next.take() {
        let write = match request {
            Request::Write(write) => write,
            Request::Failed(error) => return Err(error),
        };
        batch.append(write.batch);
        log_ends.extend(write.log_end);
        acknowledges.extend(write.acknowledge);
        holds_vote |= write.is_vote;
        taken += 1;
        if taken < MAX_WRITE_BATCH_REQUESTS && batch.bytes() < MAX_WRITE_BATCH_BYTES {
            next = requests.try_recv().ok();
        }
    }
    if !batch.is_empty() {
        engine.write(batch)?;
        reached(if holds_vote { Point::VoteWritten } else { Point::LogWritten });
    }
    for (group, end) in log_ends {
        group.send_replace(end);
    }
    Ok(acknowledges)
}

impl LogSyncer {
    /// Waits until something is written but not synced, syncs, and acknowledges in order what was written before the
    /// sync. Blocks in the engine. May be dropped at an await without losing an acknowledgement.
    pub async fn step(&mut self) -> Step {
        if self.gather().await { self.sync() } else { Step::Closed }
    }

    /// Waits until something is written that is not synced; false if nothing ever will be. May be dropped at an await.
    pub async fn gather(&mut self) -> bool {
        if self.gathered.is_empty() && self.failed.is_none() {
            let Some(batch) = self.written.recv().await else { return false };
            self.gathered = batch;
        }
        true
    }

    /// The part of a step that blocks: syncs what was written until now. A simulated disk lets time pass before it.
    pub fn sync(&mut self) -> Step {
        if let Some(error) = &self.failed {
            return Step::Fatal(error.clone());
        }
        while let Ok(more) = self.written.try_recv() {
            self.gathered.extend(more);
        }
        if !planted(Bug::SkipSync)
            && let Err(error) = self.engine.sync()
        {
            self.failed = Some(error.clone());
            return Step::Fatal(error);
        }
        reached(Point::LogSynced);
        self.gathered.drain(..).for_each(Acknowledge::durable);
        Step::Done
    }
}

impl Acknowledge {
    fn durable(self) {
        match self {
            Acknowledge::Append(callback) => callback.io_completed(Ok(())),
            Acknowledge::Waiting(waiting) => {
                // Whoever waited has stopped; what it wrote is durable all the same.
                let _ = waiting.send(());
            }
        }
    }
}

impl LogQueue {
    /// Queues a write; returns before it is written. Waits only while the queue is full.
    pub(crate) async fn write(&self, write: LogWrite) -> Result<(), WriterGone> {
        self.requests.send(Request::Write(write)).await.map_err(|_| WriterGone)
    }

    /// Queues a write and waits until it is durable.
    pub(crate) async fn write_durably(
        &self,
        batch: WriteBatch,
        log_end: Option<(Arc<watch::Sender<u64>>, u64)>,
    ) -> Result<(), WriterGone> {
        self.waited_for(LogWrite { batch, log_end, acknowledge: None, is_vote: false }).await
    }

    /// Queues a vote and waits until it is durable.
    pub(crate) async fn write_vote(&self, batch: WriteBatch) -> Result<(), WriterGone> {
        self.waited_for(LogWrite { batch, log_end: None, acknowledge: None, is_vote: true }).await
    }

    async fn waited_for(&self, write: LogWrite) -> Result<(), WriterGone> {
        let (acknowledge, durable) = oneshot::channel();
        self.write(LogWrite { acknowledge: Some(Acknowledge::Waiting(acknowledge)), ..write }).await?;
        durable.await.map_err(|_| WriterGone)
    }

    /// Makes the writer's next step fatal.
    pub(crate) async fn fail(&self, error: EngineError) {
        // Without a writer the process is stopping already.
        let _ = self.requests.send(Request::Failed(error)).await;
    }

    /// Returns once nothing that is queued will be written any more.
    pub(crate) async fn closed(&self) {
        self.requests.closed().await;
    }
}
