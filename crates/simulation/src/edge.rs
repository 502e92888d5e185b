//! A simulated gateway.

use std::sync::Arc;

use conclave_cluster::{MetaClient, TableClient};
use conclave_gateway::{Gateway, GatewayOptions};
use tokio_util::sync::CancellationToken;

use crate::clock::MachineClock;
use crate::machine::Settings;
use crate::wire;

/// The process of a gateway. It keeps nothing: a crash is the end of what it held.
pub async fn run(settings: Arc<Settings>, clock: MachineClock, seed: u64) -> turmoil::Result {
    let client = MetaClient::over(settings.network.clone(), settings.token.clone());
    let table = TableClient::start_with(settings.hosts.clone(), client);
    let options = GatewayOptions { seed, network: settings.network.clone(), ..GatewayOptions::default() };
    let gateway = Gateway::new(options, table.table(), table.leaders(), Arc::new(clock));
    let incoming = wire::listen(settings.trace.clone()).await?;
    gateway.serve(incoming, CancellationToken::new()).await?;
    Ok(())
}
