//! A simulated disk: memory that loses what was not synced, behind syncs that take their time.

use std::sync::Arc;
use std::time::Duration;

use conclave_raft::{LogSyncer, LogWriter, Step};
use conclave_storage::{Engine, MemoryEngine};
use conclave_workload::dice::Dice;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

/// One machine's disk. It outlives the processes that use it.
pub struct Disk {
    engine: Arc<MemoryEngine>,
    dice: Mutex<Dice>,
    pace: watch::Sender<Pace>,
}

/// How fast the disk is at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A sync takes up to so long.
    pub sync: Duration,
    /// Nothing is synced until it is not.
    pub hangs: bool,
}

impl Disk {
    pub fn new(pace: Pace, dice: Dice) -> Disk {
        Disk { engine: Arc::default(), dice: Mutex::new(dice), pace: watch::channel(pace).0 }
    }

    pub fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    pub fn set_pace(&self, change: impl FnOnce(&mut Pace)) {
        self.pace.send_modify(change);
    }

    /// The power is cut: of what was not synced some beginning survives, often nothing.
    pub fn lose_power(&self) {
        let unsynced = self.engine.unsynced_batches();
        let mut dice = self.dice.lock();
        let kept = if dice.roll(2) == 0 { 0 } else { dice.roll(unsynced + 1) };
        self.engine.crash_keeping(kept);
    }

    /// Only the process is killed: the system writes out all that it was given.
    pub fn lose_process(&self) {
        self.engine.crash_keeping(usize::MAX);
    }

    /// Runs both halves of a log writer as tasks, which end with their process.
    pub fn drive(self: Arc<Self>, mut writer: LogWriter, mut syncer: LogSyncer) {
        tokio::spawn(async move { while goes_on(writer.step().await) {} });
        tokio::spawn(async move {
            while syncer.gather().await {
                self.spin().await;
                if !goes_on(syncer.sync()) {
                    return;
                }
            }
        });
    }

    async fn spin(&self) {
        let mut pace = self.pace.subscribe();
        let longest = pace.borrow_and_update().sync;
        let takes = self.dice.lock().time(longest);
        sleep(takes).await;
        // The sender is this disk, which is still here.
        let _ = pace.wait_for(|pace| !pace.hangs).await;
    }
}

fn goes_on(step: Step) -> bool {
    match step {
        Step::Done => true,
        Step::Closed => false,
        Step::Fatal(reason) => panic!("a memory engine failed: {reason}"),
    }
}
