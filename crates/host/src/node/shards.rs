//! Keeps the shards of this node in step with the cluster's table.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conclave_cluster::membership::listed as listed_members;
use conclave_cluster::{Cluster, ClusterTable, LeaderHint, LeaderHints, MetaCommand, Replica, ShardState, TableWatch};
use conclave_raft::{Group, InitializeError, PeerAddress, RaftNode};
use conclave_storage::{Engine, EngineError};
use conclave_transport::{ClockReading, GrpcTransport, LocalIdentity, PeerClocks};
use conclave_types::{Clock, NodeUuid, ReplicaId, ShardId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::registry;
use crate::service::{Serving, Unopened};
use crate::shard::{Shard, ShardSeed, VoterClocksOf};
use crate::shard_time::VoterClocks;
use crate::workers::Workers;

/// How long the preferred leader of a new shard has to give it its members before another replica does.
const FOUND_AFTER: Duration = Duration::from_secs(3);

/// Before the metadata group is told again of a new shard that it could not note.
const ACTIVATE_AGAIN: Duration = Duration::from_secs(1);

pub struct ShardKeeper {
    pub node: NodeUuid,
    /// Number of this host's store; replicas that the table lists for another are not here.
    pub store: u32,
    pub engine: Arc<dyn Engine>,
    pub workers: Arc<Workers>,
    pub raft: Arc<RaftNode>,
    pub transport: Arc<GrpcTransport>,
    pub identity: Arc<LocalIdentity>,
    pub clock: Arc<dyn Clock>,
    pub serving: Arc<Serving>,
    /// Shards whose founding this process has begun.
    pub founding: Mutex<BTreeSet<ShardId>>,
}

impl ShardKeeper {
    /// Opens every replica that this node has recorded.
    pub async fn open_recorded(&self) -> Result<(), EngineError> {
        for (shard, replica) in registry::hosted(&*self.engine)? {
            self.open(shard, replica).await;
        }
        Ok(())
    }

    /// Follows the table until `keep` is cancelled. A replica that is being opened then is opened to the end: nobody
    /// would stop one that was left half-way.
    pub async fn follow(self, mut table: TableWatch, keep: CancellationToken) {
        while !keep.is_cancelled() {
            let present = table.borrow_and_update().clone();
            if let Some(present) = present
                && let Err(reason) = self.take(&present, &keep).await
            {
                error!(%reason, "a replica cannot be recorded; new shards are not opened");
                return;
            }
            match keep.run_until_cancelled(table.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }

    async fn take(&self, table: &ClusterTable, keep: &CancellationToken) -> Result<(), EngineError> {
        if let Err(reason) = self.identity.learn_cluster(table.cluster) {
            error!(?reason, "the table is another cluster's");
            return Ok(());
        }
        self.transport.set_addresses(table.nodes.values().map(|node| (node.node, node.address.clone())));
        for (id, shard, listed) in table.shards_of(self.node) {
            if keep.is_cancelled() {
                return Ok(());
            }
            let Some(hosted) = self.host(id, listed).await? else { continue };
            // Also a replica that an earlier process opened: all may have crashed before the first gave the group its
            // members. Never once the shard is active: then it has members, and an empty log is only behind theirs. The
            // row of a shard that is being created never changes, so all who give it members give the same.
            if shard.state == ShardState::Creating && self.founding.lock().insert(id) {
                let members = listed_members(table, id.group());
                let group = hosted.group().clone();
                hosted.spawn_until_stopped(found(group, members, shard.preferred_leader == listed.replica));
            }
        }
        Ok(())
    }

    /// The replica that the table lists for this node, opened if it was not; none where it is not in this store.
    async fn host(&self, id: ShardId, listed: Replica) -> Result<Option<Arc<Shard>>, EngineError> {
        let hosted = self.serving.shards.read().get(&id).cloned();
        match (listed.store.cmp(&self.store), hosted) {
            // Of a store that this node lost: a new id comes once the table knows of the present one.
            (Ordering::Less, _) => Ok(None),
            (Ordering::Equal, Some(hosted)) if hosted.group().replica() == listed.replica => Ok(Some(hosted)),
            (Ordering::Equal, None) if self.serving.unopened.read().contains_key(&id) => Ok(None),
            (Ordering::Equal, None) => {
                registry::record(&*self.engine, id, listed.replica)?;
                Ok(self.open(id, listed.replica).await)
            }
            (Ordering::Equal | Ordering::Greater, Some(replaced)) => {
                warn!(
                    shard = id.0,
                    replica = replaced.group().replica().0,
                    by = listed.replica.0,
                    store = listed.store,
                    "this replica was replaced by another; it is stopped"
                );
                self.serving.shards.write().remove(&id);
                replaced.stop().await;
                registry::forget(&*self.engine, id)?;
                Ok(None)
            }
            (Ordering::Greater, None) => Ok(None),
        }
    }

    async fn open(&self, id: ShardId, replica: ReplicaId) -> Option<Arc<Shard>> {
        let seed = ShardSeed::new(self.engine.clone(), self.workers.clone(), self.serving.leadership_changed.clone());
        match self.raft.open(id.group(), replica, seed.machine(id.group())).await {
            Ok(group) => {
                let shard = seed.start(id, group, self.clock.clone(), self.voter_clocks());
                self.serving.shards.write().insert(id, shard.clone());
                Some(shard)
            }
            Err(reason) => {
                error!(shard = id.0, %reason, "a replica cannot be opened; the shard is not served here");
                self.serving.unopened.write().insert(id, Unopened { replica, reason: reason.to_string() });
                None
            }
        }
    }

    fn voter_clocks(&self) -> VoterClocksOf {
        let (own, clocks, clock) = (self.node, self.transport.clocks(), self.clock.clone());
        Arc::new(move |group: &Group| {
            let voters = group.status().voters;
            let voters = voters.values().filter_map(|peer| peer.node).filter(|node| *node != own).collect();
            Box::new(HeardClocks { voters, clocks: clocks.clone(), clock: clock.clone() }) as Box<dyn VoterClocks>
        })
    }
}

/// Gives a new group its members: the preferred leader at once, so that leaders are spread from the start, the others
/// only if it does not come. All give the same set, so it does not matter who is first.
async fn found(group: Group, members: BTreeMap<ReplicaId, PeerAddress>, preferred: bool) {
    if !preferred {
        tokio::time::sleep(FOUND_AFTER).await;
    }
    if group.is_initialized().await {
        return;
    }
    match group.initialize(members).await {
        Ok(()) | Err(InitializeError::AlreadyInitialized) => {}
        Err(reason) => warn!(group = group.id().0, %reason, "a new shard could not be given its members"),
    }
}

/// The other voters' clocks, carried on by this node's monotonic clock since they were heard.
struct HeardClocks {
    voters: Vec<NodeUuid>,
    clocks: Arc<PeerClocks>,
    clock: Arc<dyn Clock>,
}

impl VoterClocks for HeardClocks {
    fn others(&self) -> Vec<Timestamp> {
        let now = self.clock.monotonic();
        let heard = self.voters.iter().filter_map(|node| self.clocks.reading(*node));
        heard.map(|reading| carried(reading, now)).collect()
    }
}

/// The clocks of all hosts that talk to this one, carried on in the same way.
pub struct HeardHosts {
    clocks: Arc<PeerClocks>,
    clock: Arc<dyn Clock>,
}

impl HeardHosts {
    pub fn new(clocks: Arc<PeerClocks>, clock: Arc<dyn Clock>) -> Self {
        HeardHosts { clocks, clock }
    }
}

impl VoterClocks for HeardHosts {
    fn others(&self) -> Vec<Timestamp> {
        let now = self.clock.monotonic();
        self.clocks.readings().into_iter().map(|(_, reading)| carried(reading, now)).collect()
    }
}

/// What a clock shows now that showed this when it was heard.
fn carried(reading: ClockReading, now: Duration) -> Timestamp {
    reading.wall.plus_ms(now.saturating_sub(reading.heard).as_millis() as u64)
}

/// Tells who asks which shards are led here, after each change.
pub async fn publish_leaders(
    serving: Arc<Serving>,
    advertise: String,
    led: watch::Sender<LeaderHints>,
    keep: CancellationToken,
) {
    let mut leadership = serving.leadership_changed.subscribe();
    loop {
        leadership.borrow_and_update();
        let shards: Vec<_> = serving.shards.read().values().cloned().collect();
        let hints = shards.iter().filter_map(|shard| {
            let term = shard.leading().ok()?.term;
            let address = advertise.clone();
            Some(LeaderHint { shard: shard.id(), term: term.term, replica: term.leader, address })
        });
        led.send_replace(hints.collect());
        tokio::select! {
            () = keep.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// Tells the metadata group of each new shard that this host is the first to lead; only then does the shard serve.
pub async fn activate_shards(serving: Arc<Serving>, cluster: Arc<Cluster>, keep: CancellationToken) {
    let mut leadership = serving.leadership_changed.subscribe();
    let mut table = serving.table.clone();
    loop {
        leadership.borrow_and_update();
        let present = table.borrow_and_update().clone();
        let mut failed = false;
        let new =
            present.iter().flat_map(|table| table.shards()).filter(|(_, shard)| shard.state == ShardState::Creating);
        for (id, _) in new {
            let led = serving.shards.read().get(&id).is_some_and(|shard| shard.is_led_here());
            if !led {
                continue;
            }
            let activate = cluster.propose(MetaCommand::ActivateShard { shard: id });
            match keep.run_until_cancelled(activate).await {
                Some(Ok(_)) => {}
                Some(Err(reason)) => {
                    warn!(shard = id.0, %reason, "a new shard is not active yet");
                    failed = true;
                }
                None => return,
            }
        }
        tokio::select! {
            () = keep.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            changed = table.changed() => if changed.is_err() { return },
            // Nothing else need ever change: then this is all that brings the shard into service.
            () = tokio::time::sleep(ACTIVATE_AGAIN), if failed => {}
        }
    }
}
