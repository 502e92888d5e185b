//! The threads of the log writer: its two halves block in the engine, so each gets one.

use std::process;
use std::thread;

use conclave_raft::{LogSyncer, LogWriter, Step};
use futures::executor::block_on;
use tracing::error;

/// Steps both halves on threads of their own until the node has closed the queue.
pub fn drive(writer: LogWriter, syncer: LogSyncer) {
    let mut writer = writer;
    spawn("log-writer", move || block_on(writer.step()));
    let mut syncer = syncer;
    spawn("log-syncer", move || block_on(syncer.step()));
}

fn spawn(name: &'static str, mut step: impl FnMut() -> Step + Send + 'static) {
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
    if let Err(reason) = thread::Builder::new().name(name.into()).spawn(run) {
        error!(%reason, name, "a thread cannot be started: the process stops");
        process::abort();
    }
}
