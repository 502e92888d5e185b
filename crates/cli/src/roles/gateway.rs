//! The role `gateway`.

use std::sync::Arc;

use anyhow::Result;
use conclave_cluster::{ClusterToken, TableClient};
use conclave_gateway::{Gateway, GatewayOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{bind, start_logging, told_to_stop};
use crate::config::{Address, GatewayConfig};
use crate::system_clock::SystemClock;

/// Runs a gateway until it is told to stop; then sends its sessions away and ends.
pub async fn run(config: GatewayConfig) -> Result<()> {
    start_logging(&config.log)?;
    let listener = bind(&config.listen).await?;
    let hosts = config.hosts.iter().map(Address::to_string).collect();
    let stop = CancellationToken::new();
    let serving = serve(hosts, config.token, config.reflection, listener, stop.clone());
    let stopping = async {
        let told = told_to_stop().await;
        stop.cancel();
        told
    };
    let (served, told) = tokio::join!(serving, stopping);
    told.and(served)
}

/// Serves a gateway until `stop`; `dev` has one beside its hosts.
pub(super) async fn serve(
    hosts: Vec<String>,
    token: ClusterToken,
    reflection: bool,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<()> {
    let table = TableClient::start(hosts, token);
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    let options = GatewayOptions { reflection, seed: u64::from_le_bytes(seed), ..GatewayOptions::default() };
    let gateway = Gateway::new(options, table.table(), table.leaders(), Arc::new(SystemClock::new()));
    let served = gateway.serve(listener, stop).await;
    table.shutdown().await;
    Ok(served?)
}
