//! Work on documents that would hold up the threads that serve: decoding, merging and compacting large ones.
//!
//! It runs where the runtime lets blocking work run, and no more of it at once than the machine has cores: more would
//! only share them. What loads a document has places of its own: it takes many times the document's bytes, so a large
//! document has the machine's memory for itself.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};
use tracing::error;

use crate::faults::Fault;

/// Loaded, a document takes up to 24 times its bytes; above this one is loaded at a time.
const LARGE_BYTES: u64 = 2 << 20;

/// Where work runs that would hold up the threads that serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blocking {
    /// On threads that the runtime keeps for it.
    #[default]
    Threads,
    /// Where it is asked for, in no time: a simulation's clock knows of no other thread.
    Inline,
}

impl Blocking {
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        match self {
            Blocking::Threads => spawn_blocking(work).await,
            Blocking::Inline => Ok(work()),
        }
    }
}

/// The places of one host.
#[derive(Debug)]
pub struct Workers {
    requests: Arc<Semaphore>,
    loads: Arc<Semaphore>,
    cores: u32,
    blocking: Blocking,
}

impl Workers {
    pub fn new(blocking: Blocking) -> Self {
        let cores = match blocking {
            Blocking::Threads => available_parallelism().map_or(1, |cores| cores.get()),
            Blocking::Inline => 1,
        };
        let places = || Arc::new(Semaphore::new(cores));
        Workers { requests: places(), loads: places(), cores: cores as u32, blocking }
    }

    /// Runs work on bytes as they are.
    pub async fn request<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        run(&self.requests, 1, self.blocking, work).await
    }

    /// Runs work that loads a document of so many bytes.
    pub async fn load<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let places = if bytes > LARGE_BYTES { self.cores } else { 1 };
        run(&self.loads, places, self.blocking, work).await
    }
}

/// Dropped at the await the work goes on to its end, and keeps its places until then.
async fn run<T: Send + 'static>(
    semaphore: &Arc<Semaphore>,
    places: u32,
    blocking: Blocking,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let places = semaphore.clone().acquire_many_owned(places).await.map_err(|_| Fault::internal("workers"))?;
    let done = blocking.run(move || {
        let done = work();
        drop(places);
        done
    });
    done.await.map_err(|reason| {
        error!(%reason, "work on a document broke off");
        Fault::internal("document")
    })
}
