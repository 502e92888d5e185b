//! `AdminService`: what an operator asks this host.

use std::sync::Arc;

use bytes::Bytes;
use conclave_cluster::{ClusterToken, proof};
use conclave_proto::internal::v1 as wire;
use conclave_proto::internal::v1::admin_service_server::AdminService;
use conclave_storage::Engine;
use conclave_types::NodeUuid;
use tonic::{Request, Response, Status};

use crate::service::Serving;

pub struct Admin {
    pub node: NodeUuid,
    pub token: ClusterToken,
    pub serving: Arc<Serving>,
    pub engine: Arc<dyn Engine>,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_host_status(
        &self,
        request: Request<wire::GetHostStatusRequest>,
    ) -> Result<Response<wire::GetHostStatusResponse>, Status> {
        proof::check(&self.token, request.metadata())?;
        let shards = self.serving.shards.read();
        let shards = shards.values().map(|shard| {
            let status = shard.group().status();
            wire::ShardStatus {
                shard: shard.id().0.into(),
                replica_id: status.replica.0,
                leading: shard.is_led_here(),
                term: status.term,
                last_index: status.last,
                applied_index: status.applied,
            }
        });
        Ok(Response::new(wire::GetHostStatusResponse {
            node_uuid: Bytes::copy_from_slice(&self.node.0),
            shards: shards.collect(),
            engine: Some(engine_status(&*self.engine)),
        }))
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
