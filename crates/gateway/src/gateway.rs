//! A gateway: built from the cluster's table, served on a listener.

use std::sync::Arc;
use std::time::Duration;

use conclave_cluster::{LeaderHints, TableWatch};
use conclave_network::Incoming;
use conclave_types::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::GatewayOptions;
use crate::auth::Authority;
use crate::core::Core;
use crate::edge::Edge;
use crate::pool::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use crate::routing::{LeaderHint, ShardMap};

/// Streams that one client connection may hold: sessions, server streams and waiting receives share it.
const MAX_STREAMS: u32 = 4_096;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stopping gateway waits for calls in work after it has sent sessions and streams away.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

/// Why a gateway stopped serving.
#[derive(Debug, thiserror::Error)]
#[error("gateway stopped serving")]
pub struct ServeError(#[from] tonic::transport::Error);

/// A stateless edge of a cluster.
pub struct Gateway {
    core: Arc<Core>,
    authority: Arc<Authority>,
    table: TableWatch,
    leaders: watch::Receiver<Arc<LeaderHints>>,
}

impl Gateway {
    /// `table` and `leaders` are followed for as long as the gateway serves.
    pub fn new(
        options: GatewayOptions,
        table: TableWatch,
        leaders: watch::Receiver<Arc<LeaderHints>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let authority = Arc::new(Authority::new(table.clone(), clock.clone()));
        Gateway { core: Core::new(options, clock), authority, table, leaders }
    }

    /// Serves until `cancel`, then sends sessions and streams away and lets calls in work finish for a while.
    pub async fn serve(self, incoming: impl Into<Incoming>, cancel: CancellationToken) -> Result<(), ServeError> {
        let Gateway { core, authority, table, leaders } = self;
        let edge = Edge::new(core.clone(), authority, beside(&core.options).await);
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .serve_with_incoming_shutdown(edge, incoming.into(), cancel.clone().cancelled_owned());
        let closing = async {
            cancel.cancelled().await;
            core.sessions.close();
            core.streams.close();
            core.closing.cancel();
            tokio::time::sleep(CLOSING_PATIENCE).await;
        };
        tokio::select! {
            served = server => served.map_err(ServeError::from),
            () = closing => Ok(()),
            () = follow(&core, table, leaders) => Ok(()),
        }
    }
}

/// Health always, reflection where wanted.
async fn beside(options: &GatewayOptions) -> Routes {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let routes = Routes::new(health);
    if !options.reflection {
        return routes;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(conclave_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were made by this build");
    routes.add_service(reflection)
}

/// Keeps the shard map as new as the table and the hints as new as the hosts' own words. The gateway goes on with what
/// it knows when nobody tells more.
async fn follow(core: &Core, mut table: TableWatch, mut leaders: watch::Receiver<Arc<LeaderHints>>) {
    loop {
        if let Some(table) = &*table.borrow_and_update() {
            core.router.replace_map(ShardMap::from(&**table));
        }
        // All hints again, since a new map may have made a host known that was hinted at before.
        let hints = leaders.borrow_and_update().clone();
        for hint in hints.iter() {
            if let Some(host) = core.router.host_named(hint.shard, &hint.address) {
                core.router.learn(hint.shard, LeaderHint { node: host.node, term: hint.term });
            }
        }
        let news = tokio::select! {
            news = table.changed() => news,
            news = leaders.changed() => news,
        };
        if news.is_err() {
            // Whoever told us has stopped, as it does when the process ends.
            return std::future::pending().await;
        }
    }
}
