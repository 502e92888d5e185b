//! What hosts say of their replicas, asked as an operator would.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conclave_cluster::{ClusterTable, ClusterToken, proof};
use conclave_proto::internal::v1::admin_service_client::AdminServiceClient;
use conclave_proto::internal::v1::{GetHostStatusRequest, GetHostStatusResponse, ShardStatus};
use conclave_types::NodeUuid;
use tonic::Request;
use tonic::transport::Endpoint;

use crate::cluster::{CLUSTER_TOKEN, Cluster};

/// One answer of a host that runs.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

pub async fn of_host(cluster: &Cluster, host: usize) -> Result<GetHostStatusResponse> {
    let token: ClusterToken = CLUSTER_TOKEN.parse().context("the cluster token")?;
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.host_address(host)))?;
    let ask = async {
        let channel = endpoint.connect().await?;
        let mut request = Request::new(GetHostStatusRequest {});
        request.metadata_mut().insert(proof::METADATA_KEY, proof::metadata_value(&token));
        Ok(AdminServiceClient::new(channel).get_host_status(request).await?.into_inner())
    };
    tokio::time::timeout(ANSWER_WITHIN, ask).await.context("no answer")?
}

/// Whether every replica that the table lists is there under its id and has applied what any other had applied when it
/// was asked, and every shard is led. The error says what is not.
pub async fn whole(cluster: &Cluster) -> Result<()> {
    let mut hosts = BTreeMap::new();
    for host in 0..cluster.hosts() {
        let status = of_host(cluster, host).await.with_context(|| format!("host {host}"))?;
        let node: [u8; 16] = status.node_uuid.as_ref().try_into().context("a node's uuid")?;
        hosts.insert(NodeUuid(node), status.shards);
    }
    // How far each shard had come somewhere, then how far each replica is now: none may be behind what was there before.
    let reached = furthest(&hosts);
    for host in 0..cluster.hosts() {
        let status = of_host(cluster, host).await?;
        let node: [u8; 16] = status.node_uuid.as_ref().try_into().context("a node's uuid")?;
        hosts.insert(NodeUuid(node), status.shards);
    }
    let table = cluster.table().await?;
    agrees(&table, &hosts, &reached)
}

fn furthest(hosts: &BTreeMap<NodeUuid, Vec<ShardStatus>>) -> BTreeMap<u32, u64> {
    let mut furthest = BTreeMap::new();
    for shard in hosts.values().flatten() {
        let reached: &mut u64 = furthest.entry(shard.shard).or_default();
        *reached = (*reached).max(shard.applied_index.unwrap_or_default());
    }
    furthest
}

fn agrees(
    table: &ClusterTable,
    hosts: &BTreeMap<NodeUuid, Vec<ShardStatus>>,
    reached: &BTreeMap<u32, u64>,
) -> Result<()> {
    for (id, shard) in table.shards() {
        let number = u32::from(id.0);
        let mut leaders = 0;
        for replica in &shard.replicas {
            let held = hosts.get(&replica.node).with_context(|| format!("node {:?} is none of ours", replica.node))?;
            let status = held.iter().find(|status| status.shard == number);
            let Some(status) = status else { bail!("shard {number} is not on {:?}", replica.node) };
            ensure!(status.replica_id == replica.replica.0, "shard {number} has another replica than the table says");
            let applied = status.applied_index.unwrap_or_default();
            let reached = reached.get(&number).copied().unwrap_or_default();
            ensure!(applied >= reached, "shard {number} has applied {applied} of {reached} on {:?}", replica.node);
            leaders += u64::from(status.leading);
        }
        ensure!(leaders > 0, "shard {number} is not led");
    }
    Ok(())
}
