//! All groups of one process: they share an engine, a log queue and a transport.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use conclave_storage::{Engine, EngineError};
use conclave_types::{GroupId, ReplicaId};
use openraft::errors::Fatal;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::apply::{Applier, Opened};
use crate::apply_lane::ApplyLane;
use crate::group::{Heard, Keeper, Replica, Running};
use crate::group_log::GroupLog;
use crate::handler::Handler;
use crate::limits::{MAX_APPENDS_IN_WORK, MAX_SNAPSHOT_SENDS};
use crate::log_cache::CacheBudget;
use crate::log_scrub::LogScrub;
use crate::log_store::LogStore;
use crate::log_writer::{LogQueue, log_writer};
use crate::network::{Peers, TransferNumbers};
use crate::pace::Pace;
use crate::snapshot::incoming::Incoming;
use crate::types::Raft;
use crate::{Group, Leadership, LogSyncer, LogWriter, PeerHandler, PeerTransport, RaftOptions, StateMachine};

/// Why a replica could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The group is open, or has not stopped yet.
    #[error("the group is open already")]
    AlreadyOpen,
    #[error("the settings are not acceptable: {0}")]
    Options(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the replica cannot start: {0}")]
    Start(String),
}

/// One process's groups. Groups live until they are shut down, even if this is dropped.
pub struct RaftNode {
    shared: Arc<Shared>,
}

/// What groups, their peers and the handler have in common.
pub(crate) struct Shared {
    pub(crate) options: RaftOptions,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) snapshot_sends: Semaphore,
    pub(crate) incoming: Mutex<Incoming>,
    pub(crate) snapshot_pace: Pace,
    transfers: TransferNumbers,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) queue: LogQueue,
    /// The groups' logs are scrubbed one after the other.
    scrub_turn: Arc<Semaphore>,
    cache: Arc<CacheBudget>,
    /// None while a group is being opened.
    groups: RwLock<HashMap<GroupId, Option<Arc<Replica>>>>,
}

impl RaftNode {
    /// The node, and the two step functions its owner must drive for as long as a group is open.
    pub fn new(
        options: RaftOptions,
        engine: Arc<dyn Engine>,
        transport: Arc<dyn PeerTransport>,
    ) -> (Arc<RaftNode>, LogWriter, LogSyncer) {
        let (queue, writer, syncer) = log_writer(engine.clone());
        let shared = Shared {
            transport,
            snapshot_sends: Semaphore::new(MAX_SNAPSHOT_SENDS),
            incoming: Mutex::default(),
            snapshot_pace: Pace::new(options.snapshot_bytes_per_second),
            transfers: TransferNumbers::default(),
            engine,
            queue,
            scrub_turn: Arc::new(Semaphore::new(1)),
            cache: Arc::new(CacheBudget::new(options.log_cache_bytes)),
            groups: RwLock::default(),
            options,
        };
        (Arc::new(RaftNode { shared: Arc::new(shared) }), writer, syncer)
    }

    /// Answers peers' calls to the groups open here.
    pub fn handler(self: &Arc<Self>) -> Arc<dyn PeerHandler> {
        Arc::new(Handler(self.shared.clone()))
    }

    /// Opens a replica from what the engine holds of it; a new one starts empty. Runs on the caller's tokio runtime.
    /// Entries known as committed are applied again before this returns, so that may take a while.
    pub async fn open(
        &self,
        group: GroupId,
        replica: ReplicaId,
        machine: Box<dyn StateMachine>,
    ) -> Result<Group, OpenError> {
        let place = Place::take(&self.shared, group)?;
        let shared = &self.shared;
        if let Some(reason) = shared.engine.damage().reported() {
            return Err(EngineError::Damaged(reason.to_owned()).into());
        }
        let config = shared.options.openraft(group).map_err(|error| OpenError::Options(error.to_string()))?;
        let log = GroupLog::open(group, shared.engine.clone(), shared.queue.clone(), &shared.cache)?;
        let lane = ApplyLane::new(group, shared.engine.clone(), shared.queue.clone());
        let opened = Applier::open(group, &shared.options, shared.engine.clone(), log.clone(), lane.clone(), machine)?;
        let Opened { applier, progress, gone } = opened;
        let peers = Peers { node: shared.clone(), group, replica };
        let raft = openraft::Raft::build(replica.0, Arc::new(config), peers, LogStore(log.clone()), applier).await;
        let raft = raft.map_err(|fatal: Fatal<Raft>| OpenError::Start(fatal.to_string()))?;

        let (leadership, watched_leadership) = watch::channel(Leadership::Follower { term: 0, leader: None });
        let (leading, watched_leading) = watch::channel(None);
        let scrub = LogScrub::new(log.clone(), shared.scrub_turn.clone(), shared.options.scrub_bytes_per_second);
        let heard = Arc::new(Heard::default());
        let keeper = Keeper {
            replica,
            raft: raft.clone(),
            heard: heard.clone(),
            log,
            scrub,
            options: shared.options.clone(),
            applied: progress,
            leadership,
            leading,
            state: Default::default(),
        };
        let (stop_keeper, stopped) = oneshot::channel();
        let keeper = tokio::spawn(keeper.run(stopped));
        let replica = Arc::new(Replica {
            group,
            id: replica,
            raft,
            node: shared.clone(),
            lane,
            leadership: watched_leadership,
            leading: watched_leading,
            proposals: Arc::new(Semaphore::new(shared.options.core_queue as usize)),
            appends: Semaphore::new(MAX_APPENDS_IN_WORK),
            heard,
            handing_over: AtomicBool::new(false),
            running: Mutex::new(Some(Running { keeper, stop_keeper, applier_gone: gone })),
        });
        // Known before it runs: the first answer to its first call may come at once.
        place.fill(replica.clone());
        replica.raft.run();
        Ok(Group(replica))
    }
}

impl Shared {
    pub(crate) fn replica(&self, group: GroupId) -> Option<Arc<Replica>> {
        self.groups.read().get(&group).cloned().flatten()
    }

    pub(crate) fn forget(&self, group: GroupId) {
        self.incoming.lock().forget(group);
        self.groups.write().remove(&group);
    }

    /// Nothing of the store may be relied on any more.
    pub(crate) fn is_damaged(&self) -> bool {
        self.engine.damage().reported().is_some()
    }

    pub(crate) fn next_transfer(&self) -> u64 {
        self.transfers.next()
    }
}

/// A group's place in the registry, given back unless it is filled.
struct Place<'a> {
    shared: &'a Shared,
    group: GroupId,
    filled: bool,
}

impl<'a> Place<'a> {
    fn take(shared: &'a Shared, group: GroupId) -> Result<Self, OpenError> {
        match shared.groups.write().entry(group) {
            Entry::Occupied(_) => Err(OpenError::AlreadyOpen),
            Entry::Vacant(place) => {
                place.insert(None);
                Ok(Place { shared, group, filled: false })
            }
        }
    }

    fn fill(mut self, replica: Arc<Replica>) {
        self.filled = true;
        self.shared.groups.write().insert(self.group, Some(replica));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.shared.forget(self.group);
        }
    }
}
