//! `AdminService`: what an operator asks this host.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use conclave_cluster::{Cluster, ClusterToken, proof};
use conclave_proto::internal::v1 as wire;
use conclave_proto::internal::v1::admin_service_server::AdminService;
use conclave_raft::{GroupStatus, Leadership};
use conclave_storage::Engine;
use conclave_types::NodeUuid;
use tonic::{Request, Response, Status};

use crate::queue_counts::QueueFigures;
use crate::service::Serving;

/// What a host shows of itself.
#[derive(Clone)]
pub struct Admin {
    pub node: NodeUuid,
    pub store: u32,
    pub token: ClusterToken,
    pub serving: Arc<Serving>,
    pub cluster: Arc<Cluster>,
    pub engine: Arc<dyn Engine>,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_host_status(
        &self,
        request: Request<wire::GetHostStatusRequest>,
    ) -> Result<Response<wire::GetHostStatusResponse>, Status> {
        proof::check(&self.token, request.metadata())?;
        Ok(Response::new(self.status()))
    }
}

impl Admin {
    pub fn status(&self) -> wire::GetHostStatusResponse {
        let metadata = self.cluster.meta_group().map(|group| {
            let status = group.status();
            let leading = matches!(status.leadership, Leadership::Leader { .. });
            wire::ShardStatus { leading, ..replica_status(&status) }
        });
        wire::GetHostStatusResponse {
            node_uuid: Bytes::copy_from_slice(&self.node.0),
            shards: self.shards(),
            engine: Some(engine_status(&*self.engine)),
            store: self.store,
            metadata,
            rebuilds: self.serving.rebuilds.load(Ordering::Relaxed),
        }
    }

    /// Of the replicas that are open here.
    pub fn queue_figures(&self) -> Vec<QueueFigures> {
        self.serving.shards.read().values().map(|shard| shard.queue_figures()).collect()
    }

    fn shards(&self) -> Vec<wire::ShardStatus> {
        let shards = self.serving.shards.read().values().cloned().collect::<Vec<_>>();
        let opened = shards.iter().map(|shard| wire::ShardStatus {
            shard: shard.id().0.into(),
            leading: shard.is_led_here(),
            ..replica_status(&shard.group().status())
        });
        let unopened = self.serving.unopened.read().clone();
        let unopened = unopened.into_iter().map(|(shard, unopened)| wire::ShardStatus {
            shard: shard.0.into(),
            replica_id: unopened.replica.0,
            stopped_reason: Some(unopened.reason),
            ..wire::ShardStatus::default()
        });
        let mut all: Vec<_> = opened.chain(unopened).collect();
        all.sort_by_key(|status| status.shard);
        all
    }
}

fn replica_status(status: &GroupStatus) -> wire::ShardStatus {
    wire::ShardStatus {
        replica_id: status.replica.0,
        term: status.term,
        last_index: status.last,
        applied_index: status.applied,
        purged_index: status.purged,
        stopped_reason: status.fatal.clone(),
        voters: status.voters.keys().map(|replica| replica.0).collect(),
        learners: status.learners.keys().map(|replica| replica.0).collect(),
        ..wire::ShardStatus::default()
    }
}

fn engine_status(engine: &dyn Engine) -> wire::EngineStatus {
    let stats = engine.stats();
    let families = stats.families.iter().map(|family| wire::FamilyStatus {
        name: family.family.name().into(),
        operations: family.operations,
        written_bytes: family.written_bytes,
        table_bytes: family.table_bytes,
    });
    wire::EngineStatus { syncs: stats.syncs, wal_bytes: stats.wal_bytes, families: families.collect() }
}
