//! The operator's verbs: they speak to hosts, by the cluster token.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use conclave_auth::{OpenRooms, Queues, Rights, SyncPath, SyncRights, TokenSpec};
use conclave_cluster::{ClusterTable, LeaderHints, TableClient};
use conclave_types::{Clock, ProjectId};

use crate::config::Address;
use crate::flags::{CreateToken, LeaderArgs, OperatorFlags};
use crate::system_clock::SystemClock;

/// How long hosts may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Runs `conclave token create`.
#[expect(clippy::print_stdout, reason = "the token is what this command is for")]
pub async fn create_token(create: CreateToken) -> Result<()> {
    let rooms = create.room.map_or(OpenRooms::All, OpenRooms::One);
    let rights = rights(&create.scopes)?;
    let spec = TokenSpec { participant: create.name, role: create.role, rooms, rights, lifetime: create.expires };
    let client = table_client(&create.operator)?;
    let table = table(&client).await?;
    println!("{}", mint_for(&table, &create.project, &spec)?);
    client.shutdown().await;
    Ok(())
}

/// Runs `conclave leader`.
#[expect(clippy::print_stdout, reason = "the address is what this command is for")]
pub async fn print_leader(leader: LeaderArgs) -> Result<()> {
    let client = table_client(&leader.operator)?;
    let table = table(&client).await?;
    let slot = conclave_placement::slot(&leader.project, &leader.room);
    let shard = conclave_placement::shard_of(slot, table.shard_count());
    let mut leaders = client.leaders();
    let found = leaders.wait_for(|hints: &Arc<LeaderHints>| hints.get(shard).is_some());
    let hints = tokio::time::timeout(ANSWER_WITHIN, found).await.context("no host says that it leads this shard")??;
    let address = hints.get(shard).map(|hint| hint.address.clone()).unwrap_or_default();
    drop(hints);
    println!("{address}");
    client.shutdown().await;
    Ok(())
}

/// Makes a token with a key that the cluster has for the project.
pub fn mint_for(table: &ClusterTable, project: &ProjectId, spec: &TokenSpec) -> Result<String> {
    let key = table.token_keys.values().find(|key| key.project == *project);
    let key = key.with_context(|| format!("the cluster has no token key for project {project}"))?;
    let key = conclave_auth::TokenKey {
        kid: key.kid.as_str().to_owned(),
        project: key.project.clone(),
        secret: key.secret.bytes().into(),
    };
    Ok(conclave_auth::mint(&key, spec, SystemClock::new().wall()))
}

pub(super) fn table_client(flags: &OperatorFlags) -> Result<TableClient> {
    let hosts = flags.hosts()?.iter().map(Address::to_string).collect();
    Ok(TableClient::start(hosts, flags.token()?))
}

pub(super) async fn table(client: &TableClient) -> Result<Arc<ClusterTable>> {
    let mut table = client.table();
    let found = tokio::time::timeout(ANSWER_WITHIN, table.wait_for(Option::is_some)).await;
    let found =
        found.context("no host answered with the cluster's table: are --hosts and the cluster token right?")??;
    found.clone().context("the table went away")
}

/// The scopes that can be given, as the refusal of others lists them.
const SCOPES: &str = "admin, rooms.read, rooms.write, rooms.list, queues.send, queues.receive, queues.list, \
                      messaging.broadcast, messaging.send, messaging.read, messaging.list, sync, sync=PATH, \
                      sync.read=PATH";

/// No scope given means all.
fn rights(scopes: &[String]) -> Result<Rights> {
    if scopes.is_empty() {
        return Ok(Rights::admin());
    }
    let mut rights = Rights::default();
    for scope in scopes {
        match scope.as_str() {
            "admin" => rights.admin = true,
            "rooms.read" => rights.rooms.read = true,
            "rooms.write" => rights.rooms.write = true,
            "rooms.list" => rights.rooms.list = true,
            "queues.send" => rights.queues.send = Queues::All,
            "queues.receive" => rights.queues.receive = Queues::All,
            "queues.list" => rights.queues.list = true,
            "messaging.broadcast" => rights.messaging.broadcast = true,
            "messaging.send" => rights.messaging.send = true,
            "messaging.read" => rights.messaging.read = true,
            "messaging.list" => rights.messaging.list = true,
            "sync" => rights.sync = SyncRights::All,
            other => match other.split_once('=') {
                Some(("sync", path)) => grant(&mut rights.sync, path, false),
                Some(("sync.read", path)) => grant(&mut rights.sync, path, true),
                _ => bail!("scope {other:?} is not one of {SCOPES}"),
            },
        }
    }
    Ok(rights)
}

/// Adds paths to those that may be opened; the first that matches decides, so the order is that of the flags.
fn grant(sync: &mut SyncRights, path: &str, read_only: bool) {
    let path = SyncPath { pattern: path.into(), read_only };
    match sync {
        SyncRights::All => {}
        SyncRights::None => *sync = SyncRights::Paths(vec![path]),
        SyncRights::Paths(paths) => paths.push(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(scopes: &[&str]) -> Result<Rights> {
        rights(&scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn scopes_grant_what_they_name_and_nothing_else() {
        assert_eq!(given(&[]).expect("all"), Rights::admin());
        let some = given(&["messaging.read", "sync.read=notes/*", "sync=drafts/a"]).expect("scopes");
        let messaging = conclave_auth::MessagingRights { read: true, ..Default::default() };
        let path = |text: &str, read_only| SyncPath { pattern: text.into(), read_only };
        let sync = SyncRights::Paths(vec![path("notes/*", true), path("drafts/a", false)]);
        assert_eq!(some, Rights { messaging, sync, ..Default::default() });
        assert_eq!(given(&["sync", "sync.read=a"]).expect("scopes").sync, SyncRights::All);
    }

    #[test]
    fn an_unknown_scope_is_refused_with_those_that_exist() {
        for scope in ["message.read", "sync.write=a", "queues.send=a"] {
            let refused = given(&[scope]).expect_err(scope).to_string();
            assert!(refused.contains(scope) && refused.ends_with(SCOPES), "{refused}");
        }
    }
}
