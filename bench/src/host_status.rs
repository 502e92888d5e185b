//! What a host counts in its store, asked as an operator would.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use conclave_cluster::{ClusterToken, proof};
use conclave_proto::internal::v1::GetHostStatusRequest;
use conclave_proto::internal::v1::admin_service_client::AdminServiceClient;
use conclave_tests::cluster::CLUSTER_TOKEN;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// One host's operator service.
pub struct HostStatus {
    channel: Channel,
    proof: MetadataValue<Ascii>,
}

/// Counters since the host opened its store, or their growth.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Shards that are led and served there now.
    pub leading: usize,
    pub syncs: u64,
    pub wal_bytes: u64,
    pub families: BTreeMap<String, Family>,
    /// Last applied index of each shard held there.
    pub applied: BTreeMap<u32, Option<u64>>,
    /// The log of each shard held there, now.
    pub logs: BTreeMap<u32, Log>,
}

/// Which entries of a shard's log there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log {
    /// All that were ever appended, kept or not.
    pub appended: u64,
    pub kept: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Family {
    pub operations: u64,
    pub written_bytes: u64,
    /// Live tables on disk, now.
    pub table_bytes: u64,
}

impl HostStatus {
    /// `address` is `host:port`.
    pub fn of(address: &str) -> Result<HostStatus> {
        let token: ClusterToken = CLUSTER_TOKEN.parse().context("the cluster token")?;
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
        Ok(HostStatus { channel, proof: proof::metadata_value(&token) })
    }

    pub async fn read(&self) -> Result<Counters> {
        let mut request = Request::new(GetHostStatusRequest {});
        request.metadata_mut().insert(proof::METADATA_KEY, self.proof.clone());
        let status = AdminServiceClient::new(self.channel.clone()).get_host_status(request).await?.into_inner();
        let engine = status.engine.context("the host tells nothing of its store")?;
        let family = |family: conclave_proto::internal::v1::FamilyStatus| {
            let counted = Family {
                operations: family.operations,
                written_bytes: family.written_bytes,
                table_bytes: family.table_bytes,
            };
            (family.name, counted)
        };
        // Indexes begin at 0.
        let log = |last: Option<u64>, purged: Option<u64>| {
            let end = |index: Option<u64>| index.map_or(0, |index| index + 1);
            Log { appended: end(last), kept: end(last).saturating_sub(end(purged)) }
        };
        let logs = status.shards.iter().map(|shard| (shard.shard, log(shard.last_index, shard.purged_index)));
        Ok(Counters {
            logs: logs.collect(),
            leading: status.shards.iter().filter(|shard| shard.leading).count(),
            syncs: engine.syncs,
            wal_bytes: engine.wal_bytes,
            families: engine.families.into_iter().map(family).collect(),
            applied: status.shards.iter().map(|shard| (shard.shard, shard.applied_index)).collect(),
        })
    }
}

impl Counters {
    pub fn since(&self, before: &Counters) -> Counters {
        let family = |(name, now): (&String, &Family)| {
            let before = before.families.get(name).copied().unwrap_or_default();
            let grown = Family {
                operations: now.operations - before.operations,
                written_bytes: now.written_bytes - before.written_bytes,
                table_bytes: now.table_bytes,
            };
            (name.clone(), grown)
        };
        let log = |(shard, now): (&u32, &Log)| {
            let before = before.logs.get(shard).copied().unwrap_or_default();
            (*shard, Log { appended: now.appended - before.appended, kept: now.kept })
        };
        Counters {
            leading: self.leading,
            syncs: self.syncs - before.syncs,
            wal_bytes: self.wal_bytes - before.wal_bytes,
            families: self.families.iter().map(family).collect(),
            applied: self.applied.clone(),
            logs: self.logs.iter().map(log).collect(),
        }
    }

    /// Puts and deletes in all families.
    pub fn operations(&self) -> u64 {
        self.families.values().map(|family| family.operations).sum()
    }
}

/// The hosts together.
pub fn sum(hosts: &[Counters]) -> Counters {
    let mut total = Counters::default();
    for host in hosts {
        total.leading += host.leading;
        total.syncs += host.syncs;
        total.wal_bytes += host.wal_bytes;
        for (name, family) in &host.families {
            let into = total.families.entry(name.clone()).or_default();
            into.operations += family.operations;
            into.written_bytes += family.written_bytes;
            into.table_bytes += family.table_bytes;
        }
    }
    total
}
