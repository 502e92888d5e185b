//! All groups of one process: they share an engine, a log queue and a transport.

use std::sync::Arc;

use conclave_storage::{Engine, EngineError};
use conclave_types::{GroupId, ReplicaId};

use crate::{Group, LogSyncer, LogWriter, PeerHandler, PeerTransport, RaftOptions, StateMachine};

/// Why a replica could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the group is open already")]
    AlreadyOpen,
    #[error("setting {0} is not acceptable")]
    Options(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the replica cannot start: {0}")]
    Start(String),
}

pub struct RaftNode {}

impl RaftNode {
    /// The node, and the two step functions its owner must drive for as long as a group is open.
    pub fn new(
        _options: RaftOptions,
        _engine: Arc<dyn Engine>,
        _transport: Arc<dyn PeerTransport>,
    ) -> (Arc<RaftNode>, LogWriter, LogSyncer) {
        unreachable!()
    }

    /// Answers peers' calls to the groups open here.
    pub fn handler(self: &Arc<Self>) -> Arc<dyn PeerHandler> {
        unreachable!()
    }

    /// Opens a replica from what the engine holds of it; a new one starts empty.
    pub async fn open(
        self: &Arc<Self>,
        _group: GroupId,
        _replica: ReplicaId,
        _machine: Box<dyn StateMachine>,
    ) -> Result<Group, OpenError> {
        unreachable!()
    }
}
