//! The public services, as a host serves them to gateways.
//!
//! A call carries the gateway's signed claims; nothing else is trusted. The room comes from the request's own bytes.

mod documents;
mod messaging;
mod participants;
mod queues;
mod rooms;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use conclave_auth::{CLAIMS_HEADER, Claims};
use conclave_cluster::{ClusterTable, ShardState};
use conclave_proto::resource::{QueuePath, RoomPath};
use conclave_proto::v1::ErrorReason;
use conclave_room::{Command, Operation, Origin, Outcome};
use conclave_types::{QueueName, ReplicaId, RoomName, RoomUid, ShardId, Slot};
use parking_lot::RwLock;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;

use crate::admit;
use crate::cluster_time::ClusterTime;
use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::scope;
use crate::secrets::Secrets;
use crate::shard::Shard;

/// What the services of one host share.
pub struct Serving {
    pub shards: RwLock<BTreeMap<ShardId, Arc<Shard>>>,
    pub table: watch::Receiver<Option<Arc<ClusterTable>>>,
    pub time: ClusterTime,
    /// Told whenever a shard begins or ends to be led here.
    pub leadership_changed: watch::Sender<()>,
    /// Replicas that are here and could not be opened, and why: the shard is served by its others.
    pub unopened: RwLock<BTreeMap<ShardId, Unopened>>,
    /// How often a group that this host leads got the voters that the table lists.
    pub rebuilds: AtomicU64,
}

/// A replica that could not be opened.
#[derive(Debug, Clone)]
pub struct Unopened {
    pub replica: ReplicaId,
    pub reason: String,
}

/// The public services over one host's shards.
#[derive(Clone)]
pub struct PublicApi {
    pub(crate) serving: Arc<Serving>,
}

/// A room that this host leads.
pub(crate) struct Located {
    pub shard: Arc<Shard>,
    pub leading: Arc<Leading>,
    pub name: RoomName,
    pub uid: RoomUid,
}

impl Serving {
    pub fn secrets(&self) -> Result<Secrets, Fault> {
        let table = self.table.borrow().clone().ok_or_else(Fault::no_leader)?;
        let secret = table.secret.bytes().try_into().map_err(|_| Fault::internal("cluster secret"))?;
        Ok(Secrets::new(secret))
    }

    /// The shard of a room's name, if it is hosted here and serves.
    pub fn shard_of(&self, claims: &Claims, room: &RoomName) -> Result<(Arc<Shard>, Slot), Fault> {
        let slot = conclave_placement::slot(&claims.project, room);
        let count = self.shard_count()?;
        Ok((self.shard(conclave_placement::shard_of(slot, count))?, slot))
    }

    pub fn shard_count(&self) -> Result<u16, Fault> {
        Ok(self.table.borrow().as_ref().ok_or_else(Fault::no_leader)?.shards.len() as u16)
    }

    /// A shard that is hosted here. One that the table does not call active yet serves nobody: until then a replica that
    /// lost its disk could be founded anew.
    pub fn shard(&self, id: ShardId) -> Result<Arc<Shard>, Fault> {
        let state = self.table.borrow().as_ref().and_then(|table| table.shard(id)).map(|shard| shard.state);
        match state {
            Some(ShardState::Active) => match self.shards.read().get(&id).cloned() {
                Some(shard) => Ok(shard),
                None if self.unopened.read().contains_key(&id) => Err(Fault::no_leader()),
                None => Err(Fault::stale_epoch()),
            },
            Some(ShardState::Creating) | None => Err(Fault::no_leader()),
        }
    }

    pub fn claims(&self, metadata: &MetadataMap) -> Result<Claims, Fault> {
        let header = metadata.get_bin(CLAIMS_HEADER).ok_or_else(Fault::token_missing)?;
        let bytes = header.to_bytes().map_err(|_| Fault::token_invalid())?;
        let secrets = self.secrets()?;
        let [earlier, later] = self.time.middle();
        let opened = secrets.open_claims(&bytes, earlier).or_else(|_| secrets.open_claims(&bytes, later));
        let hosts = self.table.borrow().as_ref().map_or(0, |table| table.nodes.len());
        opened.map_err(|fault| match fault.reason {
            ErrorReason::TokenExpired if !self.time.may_judge(hosts) => Fault::no_leader(),
            _ => fault,
        })
    }
}

impl PublicApi {
    async fn locate(&self, claims: &Claims, name: RoomName) -> Result<Located, Fault> {
        scope::in_room(claims, &name)?;
        let (shard, slot) = self.serving.shard_of(claims, &name)?;
        let leading = shard.leading()?;
        let uid = shard.find_room(slot, &claims.project, &name).await?;
        Ok(Located { shard, leading, name, uid })
    }

    async fn locate_room(&self, claims: &Claims, resource: &str) -> Result<Located, Fault> {
        let RoomPath { room } = resource.parse::<RoomPath>()?;
        self.locate(claims, room).await
    }

    async fn locate_queue(&self, claims: &Claims, resource: &str) -> Result<(Located, QueueName), Fault> {
        let QueuePath { room, queue } = resource.parse::<QueuePath>()?;
        Ok((self.locate(claims, room).await?, queue))
    }
}

/// Proposes a unary call's operation. A refusal is the leader's own word: apply has decided it.
async fn propose(
    shard: &Shard,
    leading: &Leading,
    claims: &Claims,
    request_id: &str,
    operation: Operation,
) -> Result<Outcome, Fault> {
    let participant = claims.participant.clone();
    let origin = match admit::request_id(request_id)? {
        Some(request_id) => Origin::Request { project: claims.project.clone(), participant, request_id },
        None => Origin::Call { participant },
    };
    match leading.proposer.propose(Command { origin, operation }).await {
        Ok(Outcome::Refused(refusal)) => Err(refusal.into()),
        Ok(outcome) => Ok(outcome),
        Err(unproposed) => Err(shard.unproposed(unproposed)),
    }
}

pub(crate) fn other_outcome<T>(operation: &'static str, outcome: &Outcome) -> Result<T, Fault> {
    Err(faults::other_outcome(operation, outcome))
}
