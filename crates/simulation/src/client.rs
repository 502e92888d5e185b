//! The node of the load: participants with tokens, who reach the cluster through its gateways.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use conclave_auth::{OpenRooms, Rights, Role, TokenSpec};
use conclave_client::Client;
use conclave_cluster::{ClusterTable, MetaClient, TableClient};
use conclave_types::Clock;
use conclave_workload::history::History;
use conclave_workload::load::expiries::{Expiries, Forced};
use conclave_workload::load::{self, Workload};
use conclave_workload::patience::eventually;

use crate::clock::MachineClock;
use crate::machine::Settings;
use crate::plan::Plan;
use crate::run::Stage;
use crate::wire;

const PARTICIPANTS: usize = 4;
/// Above what a shard queues, which is 1,024.
const FLOOD_POSTS: u32 = 1_600;
const TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub struct Load {
    pub plan: Plan,
    pub settings: Arc<Settings>,
    pub gateways: Vec<String>,
    pub clock: MachineClock,
}

pub async fn run(load: Load, stage: Arc<Stage>) -> turmoil::Result {
    let history = played(&load, &stage).await;
    *stage.history.lock() = Some(history);
    // The node stays: what it holds is the driver's to look at.
    std::future::pending().await
}

async fn played(load: &Load, stage: &Stage) -> Result<History> {
    let settings = &load.settings;
    let meta = MetaClient::over(settings.network.clone(), settings.token.clone());
    let table = TableClient::start_with(settings.hosts.clone(), meta);
    let mut watch = table.table();
    let born = watch.wait_for(Option::is_some).await?.clone().context("a table")?;
    table.shutdown().await;
    let mut clients = Vec::new();
    for participant in 0..PARTICIPANTS {
        let token = mint(&born, participant, &load.clock)?;
        let address = wire::address(&load.gateways[participant % load.gateways.len()]);
        let connected = eventually("a connection", || async {
            Client::connect_over(&settings.network, &address, &token).await.map_err(anyhow::Error::from)
        });
        clients.push(connected.await?);
    }
    let plan = &load.plan;
    let what =
        load::Load { pace: plan.pace, clock: Arc::new(load.clock.clone()), ..load::Load::new(plan.rooms, plan.seed) };
    if let Some(expiries) = plan.expiries {
        return let_leases_end(clients, what, expiries, stage).await;
    }
    let mut workload = Workload::start(clients, what).await?;
    *stage.faults.lock() = Some(workload.faults());
    let (mut stop, mut flood) = (stage.stop.subscribe(), stage.flood.subscribe());
    loop {
        tokio::select! {
            stopped = stop.wait_for(|stop| *stop) => break drop(stopped?),
            flooded = flood.wait_for(|flood| *flood) => drop(flooded?),
        }
        stage.flood.send_replace(false);
        workload.flood(0, FLOOD_POSTS);
    }
    workload.finish().await
}

/// The load of a run that lets leases end: harm goes on until enough have.
async fn let_leases_end(clients: Vec<Client>, what: load::Load, wanted: u64, stage: &Stage) -> Result<History> {
    let expiries = Expiries::start(clients, what, wanted).await?;
    *stage.faults.lock() = Some(expiries.faults());
    let ended = expiries.ended();
    let mut stop = stage.stop.subscribe();
    let enough = async {
        ended.enough().await;
        stage.harmed_enough.store(true, Ordering::Relaxed);
        std::future::pending().await
    };
    tokio::select! {
        stopped = stop.wait_for(|stop| *stop) => drop(stopped?),
        () = enough => {}
    }
    let Forced { history, ended, counted } = expiries.finish().await?;
    *stage.expired.lock() = Some((ended, counted));
    Ok(history)
}

fn mint(table: &ClusterTable, participant: usize, clock: &MachineClock) -> Result<String> {
    let key = table.token_keys.values().next().context("a cluster is born with a token key")?;
    let key = conclave_auth::TokenKey {
        kid: key.kid.as_str().to_owned(),
        project: key.project.clone(),
        secret: key.secret.bytes().into(),
    };
    let spec = TokenSpec {
        participant: format!("participant-{participant}").parse()?,
        role: Role::default(),
        rooms: OpenRooms::All,
        rights: Rights::admin(),
        lifetime: TOKEN_LIFETIME,
    };
    Ok(conclave_auth::mint(&key, &spec, clock.wall()))
}
