//! One shard's replica on this host: its group, its tables, and its leadership while it has one.

use std::sync::Arc;
use std::time::Duration;

use conclave_faults::{Bug, planted};
use conclave_proto::v1::Consistency;
use conclave_raft::{BarrierError, Group, Leadership, PeerAddress, StateMachine, TransferError};
use conclave_room::{RoomRecord, RoomState, TableError};
use conclave_storage::{Engine, EngineView};
use conclave_types::{Clock, GroupId, ProjectId, Revision, RoomName, RoomUid, ShardId, Slot, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::compactor::{self, Marks};
use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::machine::{MachineSignals, ShardMachine};
use crate::proposer::Unproposed;
use crate::queue_counts::{QueueFigures, Takers};
use crate::shard_time::{ShardTime, VoterClocks, skewed_ms};
use crate::tables::EngineTables;
use crate::workers::Workers;

#[cfg(test)]
mod tests;

/// Makes the clocks of a group's other voters; called at the start of each leadership.
pub type VoterClocksOf = Arc<dyn Fn(&Group) -> Box<dyn VoterClocks> + Send + Sync>;

pub struct Shard {
    id: ShardId,
    group: Group,
    engine: Arc<dyn Engine>,
    workers: Arc<Workers>,
    signals: Arc<MachineSignals>,
    leadership_changed: watch::Sender<()>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// What a shard is made with, before its group exists.
pub struct ShardSeed {
    signals: Arc<MachineSignals>,
    engine: Arc<dyn Engine>,
    workers: Arc<Workers>,
    leadership_changed: watch::Sender<()>,
}

impl ShardSeed {
    /// `leadership_changed` is told whenever the shard begins or ends to be led here.
    pub fn new(engine: Arc<dyn Engine>, workers: Arc<Workers>, leadership_changed: watch::Sender<()>) -> Self {
        ShardSeed { signals: Arc::default(), engine, workers, leadership_changed }
    }

    /// The state machine to open the group with.
    pub fn machine(&self, group: GroupId) -> Box<dyn StateMachine> {
        Box::new(ShardMachine::new(group, self.engine.clone(), self.signals.clone()))
    }

    /// The shard of an open group; follows its leadership and compacts its documents from now on.
    pub fn start(self, id: ShardId, group: Group, clock: Arc<dyn Clock>, voters: VoterClocksOf) -> Arc<Shard> {
        let shard = Arc::new(Shard {
            id,
            group,
            engine: self.engine,
            workers: self.workers,
            signals: self.signals,
            leadership_changed: self.leadership_changed,
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
        });
        shard.spawn_until_stopped(compactor::run(shard.clone(), clock.clone()));
        shard.tasks.spawn(follow_leadership(shard.clone(), clock, voters));
        shard
    }
}

impl Shard {
    pub fn id(&self) -> ShardId {
        self.id
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    pub fn group_id(&self) -> GroupId {
        self.id.group()
    }

    pub fn tables(&self) -> EngineTables<'_, dyn Engine> {
        EngineTables(&*self.engine)
    }

    /// The store as it is now, whatever is written later.
    pub fn snapshot(&self) -> Arc<dyn EngineView> {
        self.engine.clone().snapshot()
    }

    /// Where work on large documents runs.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What this replica's compactor has to do.
    pub fn marks(&self) -> &Marks {
        &self.signals.marks
    }

    /// What happened to the items of its queues while it was led here, and who takes them now.
    pub fn queue_figures(&self) -> QueueFigures {
        let takers = self.signals.leading.read().as_deref().map(Takers::of).unwrap_or_default();
        QueueFigures { shard: self.id.0.into(), tally: self.signals.queues.tally(), takers }
    }

    /// The leadership, or the fault that sends the caller to the leader.
    pub fn leading(&self) -> Result<Arc<Leading>, Fault> {
        self.signals.leading.read().clone().ok_or_else(|| self.not_leader())
    }

    pub fn is_led_here(&self) -> bool {
        self.signals.leading.read().is_some()
    }

    /// The fault that names the leader as this replica knows it.
    pub fn not_leader(&self) -> Fault {
        match &*self.group.leadership().borrow() {
            Leadership::Follower { term, leader: Some((_, PeerAddress { address, .. })) } => {
                Fault::not_leader(Some(address), *term)
            }
            Leadership::Follower { term, leader: None } => Fault::not_leader(None, *term),
            Leadership::Leader { term } => Fault::not_leader(None, term.term),
            Leadership::Stopped => Fault::not_leader(None, 0),
        }
    }

    pub fn unproposed(&self, unproposed: Unproposed) -> Fault {
        match unproposed {
            Unproposed::NotLeader => self.not_leader(),
            other => faults::unproposed(other),
        }
    }

    /// Confirms that this replica leads and has applied everything acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<(), Fault> {
        if planted(Bug::ReadWithoutBarrier) {
            return Ok(());
        }
        self.group.read_barrier().await.map_err(|error| match error {
            BarrierError::NotLeader { .. } | BarrierError::Stopped => self.not_leader(),
            BarrierError::NoQuorum => Fault::no_leader(),
        })
    }

    /// Makes ready for a read as fresh as it asks for; any read needs this replica to lead.
    pub async fn ready_to_read(&self, consistency: i32) -> Result<(), Fault> {
        match Consistency::try_from(consistency) {
            Ok(Consistency::Stale) => self.leading().map(drop),
            Ok(Consistency::Unspecified | Consistency::Linearizable) => self.read_barrier().await,
            Err(_) => Err(Fault::field_invalid("consistency", "is not a value of Consistency")),
        }
    }

    /// A room by name. That there is none is said only after a read barrier, because a deposed leader may be behind.
    pub async fn find_room(&self, slot: Slot, project: &ProjectId, name: &RoomName) -> Result<RoomUid, Fault> {
        if let Some(room) = self.look_up(slot, project, name)? {
            return Ok(room);
        }
        self.read_barrier().await?;
        self.look_up(slot, project, name)?.ok_or_else(|| faults::room_not_found(name))
    }

    fn look_up(&self, slot: Slot, project: &ProjectId, name: &RoomName) -> Result<Option<RoomUid>, Fault> {
        conclave_room::read::find_room(&self.tables(), self.group_id(), slot, project, name).map_err(broken)
    }

    /// The room's record; none once it is deleted.
    pub fn room(&self, room: RoomUid) -> Result<Option<RoomRecord>, Fault> {
        let record = conclave_room::read::room(&self.tables(), self.group_id(), room).map_err(broken)?;
        Ok(record.filter(|record| record.state == RoomState::Active))
    }

    pub fn room_revision(&self, room: RoomUid) -> Result<Revision, Fault> {
        let revision = conclave_room::read::revision(&self.tables(), self.group_id(), room).map_err(broken)?;
        Ok(revision.unwrap_or_default())
    }

    /// Hands leadership to another voter, if it is led here and one is ready.
    pub async fn transfer(&self) -> Result<(), TransferError> {
        match self.group.transfer_leader().await {
            Ok(_) | Err(TransferError::NotLeader) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Runs a task that is dropped when the shard stops; its owner is the shard.
    pub fn spawn_until_stopped(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            cancel.run_until_cancelled(task).await;
        });
    }

    /// Runs a task that ends with the shard's leadership; its owner is the shard.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends the replica: its leadership, its tasks, its group.
    pub async fn stop(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.group.clone().shutdown().await;
    }

    /// A node whose wall clock is far from the others' gives a leadership away before it stamps anything. When nobody
    /// takes it, it leads all the same: its time starts within bounds.
    async fn gave_away_skewed(&self, clock: &dyn Clock, voters: &VoterClocksOf) -> bool {
        // A state that cannot be read is told of where the leadership begins.
        let applied = self.applied_clock().unwrap_or_default();
        let Some(skewed_ms) = skewed_ms(applied, clock, &*voters(&self.group)) else { return false };
        warn!(shard = self.id.0, skewed_ms, "this node's wall clock is far from its peers'; leadership is given away");
        self.group.transfer_leader().await.is_ok()
    }

    fn applied_clock(&self) -> Result<Timestamp, TableError> {
        conclave_room::read::clock(&self.tables(), self.group_id())
    }

    fn begin(&self, term: conclave_raft::LeaderTerm, clock: &Arc<dyn Clock>, voters: &VoterClocksOf) {
        let applied = match self.applied_clock() {
            Ok(applied) => applied,
            Err(reason) => {
                error!(shard = self.id.0, %reason, "the applied clock cannot be read; the shard is not served");
                return;
            }
        };
        let time = ShardTime::start(applied, clock.clone(), voters(&self.group));
        let due = self.signals.next_due.subscribe();
        let leading = Leading::begin(self.group.clone(), term, time, due, &self.tasks);
        *self.signals.leading.write() = Some(leading);
        self.signals.tell_next_due(self.group_id(), &*self.engine);
        self.leadership_changed.send_replace(());
        info!(shard = self.id.0, term = term.term, "leading");
    }

    fn end(&self) {
        let ended = self.signals.leading.write().take();
        if let Some(leading) = ended {
            leading.ended.cancel();
            self.leadership_changed.send_replace(());
            info!(shard = self.id.0, term = leading.term.term, "leadership ended");
        }
    }
}

/// Before a leadership that ended by itself begins anew: what refused its entry, a lease that ran out or a hand-over that
/// failed, takes about so long to pass.
const RETAKE_PAUSE: Duration = Duration::from_millis(50);

/// Begins and ends the shard's leadership with its group's.
///
/// A proposer whose entry was refused ends the leadership, though the group may go on leading in the same term; then it
/// begins anew, or the shard would refuse everybody until the next election.
async fn follow_leadership(shard: Arc<Shard>, clock: Arc<dyn Clock>, voters: VoterClocksOf) {
    let mut leadership: watch::Receiver<Leadership> = shard.group.leadership();
    loop {
        let present = leadership.borrow_and_update().clone();
        let led = shard.signals.leading.read().clone().filter(|leading| !leading.ended.is_cancelled());
        match present {
            Leadership::Leader { term } if led.as_ref().is_some_and(|leading| leading.term == term) => {}
            Leadership::Leader { term } => {
                shard.end();
                if !shard.gave_away_skewed(&*clock, &voters).await {
                    shard.begin(term, &clock, &voters);
                }
            }
            Leadership::Follower { .. } | Leadership::Stopped => shard.end(),
        }
        let ended_by_itself = shard.signals.leading.read().as_ref().map(|leading| leading.ended.clone());
        let ended_by_itself = async {
            match ended_by_itself {
                Some(ended) => ended.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shard.cancel.cancelled() => break,
            changed = leadership.changed() => if changed.is_err() { break },
            () = ended_by_itself => {
                shard.end();
                tokio::select! {
                    () = shard.cancel.cancelled() => break,
                    () = tokio::time::sleep(RETAKE_PAUSE) => {}
                }
            }
        }
    }
    shard.end();
}

/// A store that cannot be read is a fault of this host, not of the request.
pub fn broken(reason: TableError) -> Fault {
    error!(%reason, "tables cannot be read");
    faults::storage()
}
