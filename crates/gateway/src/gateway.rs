//! A gateway: built from the cluster's table, served on a listener.

use std::sync::Arc;
use std::time::Duration;

use conclave_cluster::ClusterTable;
use conclave_types::Clock;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::GatewayOptions;
use crate::auth::Authority;
use crate::core::Core;
use crate::edge::Edge;
use crate::pool::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// Streams that one client connection may hold: sessions and waiting receives share it.
const MAX_STREAMS: u32 = 4_096;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stopping gateway waits for calls in work after it has sent its sessions away.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

/// Why a gateway stopped serving.
#[derive(Debug, thiserror::Error)]
#[error("gateway stopped serving")]
pub struct ServeError(#[from] tonic::transport::Error);

/// A stateless edge of a cluster.
pub struct Gateway {
    core: Arc<Core>,
    authority: Arc<Authority>,
    table: watch::Receiver<Option<Arc<ClusterTable>>>,
}
