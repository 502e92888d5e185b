//! This host's replica of the metadata group: opened at the start, or once the table lists a new one for it.
//!
//! A founder's first store holds the replica that the host was born with. A later store is empty: it must not found a
//! cluster nor vote under the lost id, so the host follows the table from others until the table lists a replica for this
//! store. That id is recorded before the replica opens; crash between the two: the next start opens it from the record.

use std::sync::Arc;
use std::time::Duration;

use conclave_raft::{Group, Leadership, RaftNode};
use conclave_storage::{Engine, EngineError, Family, WriteBatch};
use conclave_types::{GroupId, ReplicaId};

use crate::TableWatch;
use crate::cluster::StartError;
use crate::identity::DataFolder;
use crate::identity::store::FIRST_STORE;
use crate::machine::MetaMachine;
use crate::membership::{Reconciled, Step, listed, next_step, reconcile};
use crate::service::MetaEndpoint;
use crate::table_client::TableClient;

/// Where a store names the replica that was handed out for it.
const RECORD: &[u8] = b"M";
/// How long one attempt to bring the members in line may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before the next attempt.
const AGAIN: Duration = Duration::from_secs(1);

/// The replica that this store holds, as far as it knows.
pub(crate) fn known(folder: &DataFolder, engine: &dyn Engine) -> Result<Option<ReplicaId>, EngineError> {
    match folder.store() {
        FIRST_STORE => Ok(folder.origin().meta_replica()),
        _ => recorded(engine),
    }
}

fn recorded(engine: &dyn Engine) -> Result<Option<ReplicaId>, EngineError> {
    let Some(value) = engine.get(Family::Node, RECORD)? else { return Ok(None) };
    let foreign = || EngineError::Foreign("the record of the metadata replica has another form".into());
    Ok(Some(ReplicaId(u64::from_be_bytes(value.as_ref().try_into().map_err(|_| foreign())?))))
}

fn record(engine: &dyn Engine, replica: ReplicaId) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.put(Family::Node, RECORD, replica.0.to_be_bytes());
    engine.write(batch)?;
    engine.sync()
}

pub(crate) async fn open(
    replica: ReplicaId,
    raft: &Arc<RaftNode>,
    engine: Arc<dyn Engine>,
) -> Result<(Group, TableWatch), StartError> {
    let (machine, table) = MetaMachine::open(engine)?;
    Ok((raft.open(GroupId::META, replica, Box::new(machine)).await?, table))
}

/// Hands what a replica of this host knows to everybody here who follows the table from outside.
pub(crate) async fn offer_tables(mut own: TableWatch, follower: Arc<TableClient>) {
    loop {
        let table = own.borrow_and_update().clone();
        if let Some(table) = table {
            follower.offer(table);
        }
        if own.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until the table lists a replica for this store of a host that has none, and opens it.
pub(crate) async fn adopt(
    endpoint: &MetaEndpoint,
    store: u32,
    raft: &Arc<RaftNode>,
    engine: Arc<dyn Engine>,
) -> Result<TableWatch, StartError> {
    let replica = handed_out(endpoint, store).await;
    record(&*engine, replica)?;
    let (group, table) = open(replica, raft, engine).await?;
    tracing::info!(replica = replica.0, store, "a new replica of the metadata group is rebuilt here");
    endpoint.group.get_or_init(|| group);
    Ok(table)
}

async fn handed_out(endpoint: &MetaEndpoint, store: u32) -> ReplicaId {
    let mut table = endpoint.table.clone();
    loop {
        let listed = table.borrow_and_update().as_ref().and_then(|table| table.meta_replica_of(endpoint.node));
        if let Some(listed) = listed.filter(|listed| listed.store == store) {
            return listed.replica;
        }
        if table.changed().await.is_err() {
            // Nobody follows the table any more: the host is stopping.
            std::future::pending::<()>().await;
        }
    }
}

/// Makes the metadata group's members those of the table, whenever this host leads it.
pub(crate) async fn keep_members(group: Group, mut table: TableWatch) {
    let mut leadership = group.leadership();
    loop {
        let leads = matches!(*leadership.borrow_and_update(), Leadership::Leader { .. });
        let wanted = table.borrow_and_update().as_deref().map(|table| listed(table, group.id()));
        let is_due = leads && wanted.is_some_and(|wanted| next_step(&group.status(), &wanted) != Step::Done);
        if is_due {
            match reconcile(&group, &table, PATIENCE).await {
                Reconciled::Equal { .. } | Reconciled::NotLeading => {}
                Reconciled::NotYet => tracing::warn!("the metadata group's new member does not answer yet"),
                Reconciled::Refused(reason) => {
                    tracing::info!(%reason, "the metadata group's members could not be changed yet");
                }
            }
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            changed = table.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if is_due => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use conclave_storage::MemoryEngine;

    use super::*;

    #[test]
    fn the_record_is_found_again_after_a_crash() {
        let engine = MemoryEngine::new();
        assert_eq!(recorded(&engine).expect("readable"), None);
        record(&engine, ReplicaId(1_012)).expect("recorded");
        engine.crash();
        assert_eq!(recorded(&engine).expect("readable"), Some(ReplicaId(1_012)));
    }
}
