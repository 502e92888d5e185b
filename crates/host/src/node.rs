//! One host: its store, its groups, its part in the cluster, and the listener that peers and gateways reach.
//!
//! Crash between any two lines: a replica is recorded durably before its group opens, so a restart finds every group
//! that may have voted; groups open from the record without waiting for the metadata group.

mod shards;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use conclave_cluster::{Cluster, ClusterError, ClusterOptions, ClusterToken, DataFolder, LeaderHints, StartError};
use conclave_network::Incoming;
use conclave_proto::internal::v1::admin_service_server::AdminServiceServer;
use conclave_proto::v1::document_service_server::DocumentServiceServer;
use conclave_proto::v1::messaging_service_server::MessagingServiceServer;
use conclave_proto::v1::participant_service_server::ParticipantServiceServer;
use conclave_proto::v1::queue_service_server::QueueServiceServer;
use conclave_proto::v1::room_service_server::RoomServiceServer;
use conclave_proto::v1::session_service_server::SessionServiceServer;
use conclave_raft::{Group, LogSyncer, LogWriter, RaftNode, RaftOptions};
use conclave_storage::{Engine, EngineError};
use conclave_transport::{GrpcTransport, LocalIdentity, PeerTransportOptions, peer_service};
use conclave_types::Clock;
use conclave_types::limits::{MAX_FRAME_BYTES, MAX_UNARY_BYTES};
use futures::stream::{self, StreamExt};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::{error, info, warn};

use crate::admin::Admin;
use crate::broken_off::BrokenOff;
use crate::cluster_time::ClusterTime;
use crate::service::{PublicApi, Serving};
use crate::shed::Shed;
use crate::workers::{Blocking, Workers};
use crate::{membership, metrics, scrub};
use shards::{HeardHosts, ShardKeeper};

/// Streams of one gateway connection: every session is one.
const MAX_STREAMS: u32 = 4_096;
/// Flow-control windows: one slow stream holds up neither the others nor much memory.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a message may have around a body at its limit.
const ENVELOPE_BYTES: usize = 64 << 10;
/// Unary calls that run at once; more are answered as overloaded.
const MAX_UNARY_CALLS: usize = 8_192;
/// Leaderships handed over at once during a drain. More would share the cores, and each would stand still for longer.
const DRAIN_AT_ONCE: usize = 4;
/// How long connections may take to end once the host stops; one that never speaks would hold it up for ever.
const CLOSING_PATIENCE: Duration = Duration::from_secs(3);
/// Groups stopped at once.
const STOP_AT_ONCE: usize = 64;
/// Between rounds of a drain.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long a drain tries before the host stops all the same.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// A host's own settings.
#[derive(Debug, Clone)]
pub struct HostOptions {
    pub cluster: ClusterOptions,
    pub raft: RaftOptions,
    pub token: ClusterToken,
}

/// What a host stands on.
pub struct HostParts {
    pub folder: DataFolder,
    pub engine: Arc<dyn Engine>,
    pub clock: Arc<dyn Clock>,
    /// Connections to the internal listener.
    pub incoming: Incoming,
    pub blocking: Blocking,
}

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("storage: {0}")]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the internal listener failed: {0}")]
    Serve(String),
}

/// A running host.
pub struct Host {
    cluster: Arc<Cluster>,
    serving: Arc<Serving>,
    transport: Arc<GrpcTransport>,
    tasks: TaskTracker,
    /// Opens replicas as the table lists them.
    keeper: JoinHandle<()>,
    serve: CancellationToken,
    keep: CancellationToken,
}

impl Host {
    /// Starts a host. `drive` gets the two halves of the log writer and must step them until they are closed, each where
    /// it may block; it is called before anything is written.
    pub async fn start(
        options: HostOptions,
        parts: HostParts,
        drive: impl FnOnce(LogWriter, LogSyncer),
    ) -> Result<Host, HostError> {
        let HostParts { folder, engine, clock, incoming, blocking } = parts;
        let (node, store) = (folder.node(), folder.store());
        let identity = LocalIdentity::new(node, options.token.peer_proof(), folder.cluster());
        let lanes = PeerTransportOptions { network: options.cluster.network.clone(), ..Default::default() };
        let transport = GrpcTransport::new(lanes, identity.clone(), clock.clone());
        let (raft, writer, syncer) = RaftNode::new(options.raft, engine.clone(), transport.clone());
        drive(writer, syncer);

        let (led, led_here) = watch::channel(LeaderHints::default());
        let advertise = options.cluster.advertise.clone();
        let cluster =
            Cluster::start(options.cluster, options.token.clone(), folder, raft.clone(), engine.clone(), led_here)
                .await?;
        let cluster = Arc::new(cluster);
        let serving = Arc::new(Serving {
            shards: RwLock::default(),
            table: cluster.table(),
            time: ClusterTime::new(clock.clone(), Box::new(HeardHosts::new(transport.clocks(), clock.clone()))),
            leadership_changed: watch::channel(()).0,
            unopened: RwLock::default(),
            rebuilds: AtomicU64::new(0),
        });
        let (tasks, serve, keep) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());

        let keeper = ShardKeeper {
            node,
            store,
            engine: engine.clone(),
            workers: Arc::new(Workers::new(blocking)),
            raft: raft.clone(),
            transport: transport.clone(),
            identity,
            clock,
            serving: serving.clone(),
            founding: Mutex::default(),
        };
        keeper.open_recorded().await?;
        let following = keeper.follow(cluster.table(), keep.clone());
        let keeper = tasks.spawn(following);
        let host = Host { cluster, serving, transport, tasks, keeper, serve, keep };
        let (serving, cluster, reading) = (host.serving.clone(), host.cluster.clone(), engine.clone());
        host.spawn_server(incoming, &raft, Admin { node, store, token: options.token, serving, cluster, engine });
        host.tasks.spawn(shards::publish_leaders(host.serving.clone(), advertise, led, host.keep.clone()));
        host.tasks.spawn(scrub::run(reading, blocking, host.keep.clone()));
        host.tasks.spawn(membership::keep_members(host.serving.clone(), host.keep.clone()));
        host.tasks.spawn(shards::activate_shards(host.serving.clone(), host.cluster.clone(), host.keep.clone()));
        Ok(host)
    }

    /// Set once the host cannot take part in the cluster; the process should stop with its message.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<ClusterError>>> {
        self.cluster.failure()
    }

    /// The cluster's table, as this host knows it.
    pub fn table(&self) -> conclave_cluster::TableWatch {
        self.cluster.table()
    }

    /// The replicas that run here, the metadata group's among them.
    pub fn groups(&self) -> Vec<Group> {
        let shards = self.serving.shards.read();
        self.cluster.meta_group().into_iter().chain(shards.values().map(|shard| shard.group())).cloned().collect()
    }

    /// Hands every leadership to another replica, as far as one is ready, and hands on what comes back meanwhile.
    /// Sessions go on at the new leaders.
    pub async fn drain(&self) {
        let meta = async {
            if let Some(group) = self.cluster.meta_group() {
                // Not leading it, or nobody to give it to, is fine.
                let _ = group.transfer_leader().await;
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, async { tokio::join!(self.drain_shards(), meta) }).await.is_err() {
            warn!("not every leadership could be handed over in time");
        }
    }

    /// Goes round until nothing is led here but what nobody takes: an election may bring back what was given away.
    async fn drain_shards(&self) {
        let kept = Mutex::new(BTreeSet::new());
        loop {
            let shards = self.serving.shards.read().values().cloned().collect::<Vec<_>>();
            let led = shards.into_iter().filter(|shard| shard.is_led_here() && !kept.lock().contains(&shard.id()));
            let led: Vec<_> = led.collect();
            if led.is_empty() {
                return;
            }
            let kept = &kept;
            stream::iter(led)
                .for_each_concurrent(DRAIN_AT_ONCE, |shard| async move {
                    if let Err(reason) = shard.transfer().await {
                        info!(shard = shard.id().0, %reason, "leadership stays: no other replica takes it");
                        kept.lock().insert(shard.id());
                    }
                })
                .await;
            // The shards learn of it a moment after their groups do.
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Stops serving, then the groups. Call [`Host::drain`] first.
    pub async fn stop(self) {
        self.keep.cancel();
        self.serve.cancel();
        // First whoever opens replicas: it would open again what is stopped here. It ends by itself, or has panicked.
        let _ = self.keeper.await;
        let shards: Vec<_> = std::mem::take(&mut *self.serving.shards.write()).into_values().collect();
        stream::iter(shards).for_each_concurrent(STOP_AT_ONCE, |shard| async move { shard.stop().await }).await;
        self.cluster.shutdown().await;
        // Only now: until then a replica could still come.
        if let Some(meta) = self.cluster.meta_group().cloned() {
            meta.shutdown().await;
        }
        self.transport.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn_server(&self, incoming: Incoming, raft: &Arc<RaftNode>, admin: Admin) {
        let api = PublicApi { serving: self.serving.clone() };
        let unary_bytes = MAX_UNARY_BYTES + ENVELOPE_BYTES;
        let rooms = RoomServiceServer::new(api.clone()).max_decoding_message_size(unary_bytes);
        let queues = QueueServiceServer::new(api.clone()).max_decoding_message_size(unary_bytes);
        let documents = DocumentServiceServer::new(api.clone()).max_decoding_message_size(unary_bytes);
        let messaging = MessagingServiceServer::new(api.clone()).max_decoding_message_size(unary_bytes);
        let participants = ParticipantServiceServer::new(api.clone()).max_decoding_message_size(unary_bytes);
        let sessions = SessionServiceServer::new(api).max_decoding_message_size(MAX_FRAME_BYTES + ENVELOPE_BYTES);
        let page = metrics::add_page(Routes::default(), admin.clone());
        // Peers, the table and the operator get no limit that client load could use up.
        let router = Server::builder()
            // For the page of metrics, which is fetched without HTTP/2.
            .accept_http1(true)
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .add_routes(page)
            .add_service(peer_service(&self.transport, raft.handler()))
            .add_service(self.cluster.meta_service())
            .add_service(AdminServiceServer::new(admin))
            .add_service(Shed::new(rooms, MAX_UNARY_CALLS))
            .add_service(Shed::new(queues, MAX_UNARY_CALLS))
            .add_service(Shed::new(documents, MAX_UNARY_CALLS))
            .add_service(Shed::new(messaging, MAX_UNARY_CALLS))
            .add_service(Shed::new(participants, MAX_UNARY_CALLS))
            .add_service(BrokenOff(sessions));
        let serve = self.serve.clone();
        self.tasks.spawn(async move {
            let patience = async {
                serve.cancelled().await;
                tokio::time::sleep(CLOSING_PATIENCE).await;
            };
            tokio::select! {
                served = router.serve_with_incoming_shutdown(incoming, serve.cancelled()) => {
                    if let Err(reason) = served {
                        error!(%reason, "the internal listener failed");
                    }
                }
                () = patience => info!("connections that did not end by themselves are cut"),
            }
        });
    }
}
