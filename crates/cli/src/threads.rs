//! The threads of the log writer: its two halves block in the engine, so each gets one.

use std::process;
use std::thread::{self, JoinHandle};

use conclave_raft::{LogSyncer, LogWriter, Step};
use futures::executor::block_on;
use tracing::error;

/// The threads of one host's log writer.
#[derive(Default)]
pub struct LogThreads(Vec<JoinHandle<()>>);

impl LogThreads {
    /// Steps both halves on threads of their own until the node has closed the queue.
    pub fn drive(&mut self, writer: LogWriter, syncer: LogSyncer) {
        let mut writer = writer;
        self.0.push(spawn("log-writer", move || block_on(writer.step())));
        let mut syncer = syncer;
        self.0.push(spawn("log-syncer", move || block_on(syncer.step())));
    }

    /// Waits for the threads to end, which they do once the host has stopped. The process must not end before: the
    /// store would be torn down under them.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                error!("a log thread ended with a panic");
            }
        }
    }
}

fn spawn(name: &'static str, mut step: impl FnMut() -> Step + Send + 'static) -> JoinHandle<()> {
    let run = move || {
        loop {
            match step() {
                Step::Done => {}
                Step::Closed => return,
                // What is on disk is unknown; going on could acknowledge what is lost.
                Step::Fatal(reason) => {
                    error!(%reason, "the store failed: the process stops");
                    process::abort();
                }
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "this is the one place where threads are made")]
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    match spawned {
        Ok(thread) => thread,
        Err(reason) => {
            error!(%reason, name, "a thread cannot be started: the process stops");
            process::abort();
        }
    }
}
