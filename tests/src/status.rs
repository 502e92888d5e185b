//! What hosts say of their replicas, asked as an operator would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use conclave_cluster::{ClusterToken, Replica, proof};
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

/// Whether every replica that the table lists is there under its id, is well, has a vote and has applied what any other
/// had applied when it was asked, the metadata group's too; whether nobody else has a vote; and whether every group is
/// led. The error says what is not.
pub async fn whole(cluster: &Cluster) -> Result<()> {
    // How far each group had come somewhere, then how far each replica is now: none may be behind what was there before.
    let reached = furthest(&groups(cluster).await?);
    let now = groups(cluster).await?;
    let table = cluster.table().await?;
    for (id, shard) in table.shards() {
        let group = Some(u32::from(id.0));
        agree(&shard.replicas, group, &now, &reached).with_context(|| format!("shard {}", id.0))?;
    }
    agree(&table.meta_replicas, None, &now, &reached).context("the metadata group")
}

/// Where the log of the only shard ends, by the host that has most of it.
pub async fn log_end(cluster: &Cluster) -> Result<u64> {
    let mut end = 0;
    for host in 0..cluster.hosts() {
        let last = only_shard(cluster, host).await?.last_index.unwrap_or_default();
        end = end.max(last);
    }
    Ok(end)
}

/// Whether these hosts have purged their log of the only shard past an index: who ends there needs a snapshot.
pub async fn have_purged_past(cluster: &Cluster, hosts: &[usize], index: u64) -> Result<bool> {
    for host in hosts {
        if only_shard(cluster, *host).await?.purged_index.is_none_or(|purged| purged <= index) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn only_shard(cluster: &Cluster, host: usize) -> Result<ShardStatus> {
    let status = of_host(cluster, host).await.with_context(|| format!("host {host}"))?;
    let [shard]: [ShardStatus; 1] = status.shards.try_into().map_err(|_| anyhow!("a cluster of one shard"))?;
    Ok(shard)
}

/// The replicas of each group by node; none is the metadata group.
type Groups = BTreeMap<Option<u32>, BTreeMap<NodeUuid, ShardStatus>>;

async fn groups(cluster: &Cluster) -> Result<Groups> {
    let mut groups = Groups::new();
    for host in 0..cluster.hosts() {
        let status = of_host(cluster, host).await.with_context(|| format!("host {host}"))?;
        let node = NodeUuid(status.node_uuid.as_ref().try_into().context("a node's uuid")?);
        let shards = status.shards.into_iter().map(|shard| (Some(shard.shard), shard));
        for (group, replica) in shards.chain(status.metadata.map(|metadata| (None, metadata))) {
            groups.entry(group).or_default().insert(node, replica);
        }
    }
    Ok(groups)
}

fn furthest(groups: &Groups) -> BTreeMap<Option<u32>, u64> {
    let applied = |replicas: &BTreeMap<NodeUuid, ShardStatus>| {
        replicas.values().filter_map(|replica| replica.applied_index).max().unwrap_or_default()
    };
    groups.iter().map(|(group, replicas)| (*group, applied(replicas))).collect()
}

fn agree(listed: &[Replica], group: Option<u32>, now: &Groups, reached: &BTreeMap<Option<u32>, u64>) -> Result<()> {
    let replicas = now.get(&group).context("nobody has a replica")?;
    let reached = reached.get(&group).copied().unwrap_or_default();
    let voters: BTreeSet<u64> = listed.iter().map(|replica| replica.replica.0).collect();
    for Replica { replica, node, .. } in listed {
        let status = replicas.get(node).with_context(|| format!("no replica on {node:?}"))?;
        ensure!(status.replica_id == replica.0, "the replica on {node:?} is {}, not {replica:?}", status.replica_id);
        if let Some(reason) = &status.stopped_reason {
            bail!("the replica on {node:?} has stopped: {reason}");
        }
        let its_voters: BTreeSet<u64> = status.voters.iter().copied().collect();
        ensure!(its_voters == voters && status.learners.is_empty(), "the replica on {node:?} knows {its_voters:?}");
        let applied = status.applied_index.unwrap_or_default();
        ensure!(applied >= reached, "the replica on {node:?} has applied {applied} of {reached}");
    }
    ensure!(replicas.values().any(|replica| replica.leading), "nobody leads");
    Ok(())
}
