//! One host of a test cluster: memory engine, real transport, real gRPC.

use std::sync::Arc;
use std::time::Duration;

use conclave_cluster::{
    Cluster, ClusterError, ClusterOptions, ClusterTable, ClusterToken, DataFolder, FoundingOptions, LeaderHints,
    Origin, TableWatch,
};
use conclave_network::Network;
use conclave_raft::{RaftNode, RaftOptions, Step};
use conclave_storage::{Engine, MemoryEngine};
use conclave_transport::{GrpcTransport, LocalIdentity, PeerTransportOptions, peer_service};
use conclave_types::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::PATIENCE;

pub const SHARDS: u16 = 8;

pub fn token() -> ClusterToken {
    "the token of the tests".parse().unwrap()
}

struct NoClock;

impl Clock for NoClock {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// What survives a host's restart.
pub struct HostSeed {
    pub address: String,
    pub token: ClusterToken,
    pub origin: Origin,
    pub join: Vec<String>,
    folder: Arc<tempfile::TempDir>,
    engine: Arc<MemoryEngine>,
    /// Bound from the start, since hosts know each other's addresses before any of them serves; the first start takes it.
    listener: Mutex<Option<std::net::TcpListener>>,
}

/// Seeds of hosts that found a cluster together.
pub fn founders(count: usize) -> Vec<HostSeed> {
    let mut seeds: Vec<HostSeed> = (0..count).map(|_| HostSeed::new(Origin::Joined)).collect();
    let hosts: Vec<String> = seeds.iter().map(|seed| seed.address.clone()).collect();
    for seed in &mut seeds {
        seed.origin = Origin::founder(hosts.clone(), &seed.address).unwrap();
    }
    seeds
}

impl HostSeed {
    pub fn new(origin: Origin) -> HostSeed {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        HostSeed {
            address: listener.local_addr().unwrap().to_string(),
            token: token(),
            origin,
            join: Vec::new(),
            folder: Arc::new(tempfile::tempdir().unwrap()),
            engine: Arc::new(MemoryEngine::new()),
            listener: Mutex::new(Some(listener)),
        }
    }

    pub fn hosts(&self) -> Vec<String> {
        match &self.origin {
            Origin::Founder { hosts, .. } => hosts.clone(),
            Origin::Joined => Vec::new(),
        }
    }

    /// The same host with nothing on its disk.
    pub fn emptied(&self) -> HostSeed {
        HostSeed {
            address: self.address.clone(),
            listener: Mutex::default(),
            join: self.join.clone(),
            ..HostSeed::new(self.origin.clone())
        }
    }

    /// The same host at another address.
    pub fn moved(&self) -> HostSeed {
        HostSeed {
            join: self.join.clone(),
            folder: self.folder.clone(),
            engine: self.engine.clone(),
            ..HostSeed::new(self.origin.clone())
        }
    }

    pub async fn start(&self) -> Host {
        let folder = DataFolder::open(self.folder.path(), &self.token, self.origin.clone()).unwrap();
        let identity = LocalIdentity::new(folder.node(), self.token.peer_proof(), folder.cluster());
        let transport = GrpcTransport::new(PeerTransportOptions::default(), identity, Arc::new(NoClock));
        let engine: Arc<dyn Engine> = self.engine.clone();
        let (raft, mut writer, mut syncer) = RaftNode::new(RaftOptions::for_tests(), engine.clone(), transport.clone());
        let steps = vec![
            tokio::spawn(async move { while matches!(writer.step().await, Step::Done) {} }),
            tokio::spawn(async move { while matches!(syncer.step().await, Step::Done) {} }),
        ];
        let options = ClusterOptions {
            advertise: self.address.clone(),
            zone: String::new(),
            founding: FoundingOptions { shard_count: SHARDS, ..FoundingOptions::default() },
            join: self.join.clone(),
            network: Network::System,
        };
        let (led, told) = watch::channel(LeaderHints::default());
        let cluster = Cluster::start(options, self.token.clone(), folder, raft.clone(), engine, told).await.unwrap();
        let stop = CancellationToken::new();
        let bound = self.listener.lock().take();
        let listener = match bound {
            Some(listener) => TcpListener::from_std(listener).unwrap(),
            None => TcpListener::bind(&self.address).await.unwrap(),
        };
        let served = tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(peer_service(&transport, raft.handler()))
                .add_service(cluster.meta_service())
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned()),
        );
        Host { cluster, led, transport, raft, steps, stop, served }
    }
}

pub struct Host {
    pub cluster: Cluster,
    /// What the host says that it leads.
    pub led: watch::Sender<LeaderHints>,
    transport: Arc<GrpcTransport>,
    raft: Arc<RaftNode>,
    steps: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Host {
    pub async fn failure(&self) -> Arc<ClusterError> {
        let mut failure = self.cluster.failure();
        let failed = tokio::time::timeout(PATIENCE, failure.wait_for(Option::is_some)).await;
        failed.expect("the host should have failed").unwrap().clone().unwrap()
    }

    pub async fn stop(self) {
        let meta = self.cluster.meta_group().cloned();
        self.stop.cancel();
        self.cluster.shutdown().await;
        if let Some(meta) = meta {
            meta.shutdown().await;
        }
        self.transport.shutdown().await;
        self.served.await.unwrap().unwrap();
        // The log queue closes once nobody holds a group.
        drop((self.raft, self.cluster));
        for step in self.steps {
            step.await.unwrap();
        }
    }
}

pub async fn table_where(mut watch: TableWatch, holds: impl Fn(&ClusterTable) -> bool) -> Arc<ClusterTable> {
    let found = watch.wait_for(|table| table.as_deref().is_some_and(&holds));
    let found = tokio::time::timeout(PATIENCE, found).await.expect("the table never came to this");
    found.unwrap().clone().unwrap()
}
