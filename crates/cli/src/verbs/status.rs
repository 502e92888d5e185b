//! `conclave status`: the hosts with their stores, or the shards with their leaders; what is stopped, and why.

use anyhow::Result;
use conclave_cluster::{ClusterTable, MetaClient};
use conclave_proto::internal::v1::{GetHostStatusResponse, ShardStatus};
use conclave_types::ShardId;
use futures::future::join_all;
use serde_json::{Value, json};

use super::operator::{table, table_client};
use super::print;
use crate::flags::StatusArgs;

const HOST_COLUMNS: [&str; 7] = ["host", "store", "replicas", "leading", "metadata", "stopped", "state"];
const SHARD_COLUMNS: [&str; 6] = ["shard", "epoch", "leader", "voters", "learners", "stopped"];

/// A host of the table, and what it says of itself.
struct Asked {
    address: String,
    status: Result<GetHostStatusResponse, String>,
}

/// Runs `conclave status`.
pub async fn print_status(arguments: StatusArgs) -> Result<()> {
    let client = table_client(&arguments.operator)?;
    let table = table(&client).await?;
    let hosts = MetaClient::new(arguments.operator.token()?);
    let asked = join_all(table.nodes.values().map(|node| async {
        let status = hosts.host_status(&node.address).await.map_err(|error| error.to_string());
        Asked { address: node.address.clone(), status }
    }));
    let asked = asked.await;
    client.shutdown().await;
    match arguments.shards {
        true => {
            let shards: Vec<_> = table.shards().map(|(id, _)| shard(&table, id, &asked)).collect();
            print::records(arguments.output, &SHARD_COLUMNS, &shards)
        }
        false => print::records(arguments.output, &HOST_COLUMNS, &asked.iter().map(host).collect::<Vec<_>>()),
    }
}

fn host(asked: &Asked) -> Vec<Value> {
    let status = match &asked.status {
        Ok(status) => status,
        Err(reason) => {
            let unknown = vec![Value::Null; HOST_COLUMNS.len() - 2];
            return [vec![json!(asked.address)], unknown, vec![json!(format!("no answer: {reason}"))]].concat();
        }
    };
    let leading = status.shards.iter().filter(|replica| replica.leading).count();
    let stopped: Vec<&ShardStatus> = status.shards.iter().filter(|replica| replica.stopped_reason.is_some()).collect();
    let reasons = stopped
        .iter()
        .map(|replica| format!("shard {}: {}", replica.shard, replica.stopped_reason.as_deref().unwrap_or_default()));
    let state = match stopped.is_empty() {
        true => "serving".to_owned(),
        false => reasons.collect::<Vec<_>>().join("; "),
    };
    vec![
        json!(asked.address),
        json!(status.store),
        json!(status.shards.len()),
        json!(leading),
        json!(metadata_part(status.metadata.as_ref())),
        json!(stopped.len()),
        json!(state),
    ]
}

/// A host's part in the metadata group.
fn metadata_part(replica: Option<&ShardStatus>) -> Option<&'static str> {
    let replica = replica?;
    Some(match (replica.stopped_reason.is_some(), replica.leading) {
        (true, _) => "stopped",
        (false, true) => "leads",
        (false, false) if replica.voters.contains(&replica.replica_id) => "votes",
        (false, false) => "learns",
    })
}

fn shard(table: &ClusterTable, id: ShardId, asked: &[Asked]) -> Vec<Value> {
    let replicas: Vec<(&str, &ShardStatus)> = asked
        .iter()
        .filter_map(|asked| {
            let status = asked.status.as_ref().ok()?;
            let replica = status.shards.iter().find(|replica| replica.shard == u32::from(id.0))?;
            Some((asked.address.as_str(), replica))
        })
        .collect();
    // Of two that say so, the older leadership has not heard of its end yet.
    let leader = replicas.iter().filter(|(_, replica)| replica.leading).max_by_key(|(_, replica)| replica.term);
    let stopped: Vec<&str> =
        replicas.iter().filter(|(_, replica)| replica.stopped_reason.is_some()).map(|(address, _)| *address).collect();
    vec![
        json!(id.0),
        json!(table.shard(id).map(|shard| shard.epoch.0)),
        json!(leader.map(|(address, _)| address)),
        json!(leader.map(|(_, replica)| replica.voters.len())),
        json!(leader.map(|(_, replica)| replica.learners.len())),
        json!(Some(stopped.join(",")).filter(|stopped| !stopped.is_empty())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_shows_what_it_has_stopped_and_one_that_is_silent_says_why() {
        let replica = |shard, leading, reason: Option<&str>| ShardStatus {
            shard,
            leading,
            stopped_reason: reason.map(str::to_owned),
            ..ShardStatus::default()
        };
        let shards = vec![replica(0, true, None), replica(5, false, Some("it broke"))];
        let metadata = Some(ShardStatus { replica_id: 7, voters: vec![1, 2], ..ShardStatus::default() });
        let status = GetHostStatusResponse { shards, store: 2, metadata, ..GetHostStatusResponse::default() };
        let well = host(&Asked { address: "a:1".into(), status: Ok(status) });
        assert_eq!(
            well,
            [json!("a:1"), json!(2), json!(2), json!(1), json!("learns"), json!(1), json!("shard 5: it broke")]
        );
        let silent = host(&Asked { address: "b:1".into(), status: Err("refused".into()) });
        assert_eq!(silent.len(), HOST_COLUMNS.len());
        assert_eq!(silent[6], json!("no answer: refused"));
    }
}
