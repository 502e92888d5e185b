//! A gateway as clients see it, before hosts that the test runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use conclave_auth::{OpenRooms, Rights, Role, TokenSpec, mint};
use conclave_cluster::{
    ClusterTable, KeyId, LeaderHint, LeaderHints, Node, NodeState, Replica, Secret, Shard, ShardState, TableRevision,
    TokenKey,
};
use conclave_gateway::{Gateway, GatewayOptions};
use conclave_proto::v1::ClientFrame;
use conclave_proto::v1::ServerFrame;
use conclave_proto::v1::session_service_client::SessionServiceClient;
use conclave_types::{Clock, ClusterUuid, Epoch, NodeUuid, ReplicaId, ShardId, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{CancellationHandle, Request, Streaming};

use crate::in_time;

pub const SHARDS: u64 = 4;

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        Timestamp(now.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

pub struct Front {
    pub address: String,
    pub stop: CancellationToken,
    pub served: JoinHandle<()>,
    hosts: Vec<String>,
    // Followed by the gateway.
    _table: watch::Sender<Option<Arc<ClusterTable>>>,
    leaders: watch::Sender<Arc<LeaderHints>>,
}

impl Front {
    /// A gateway before the hosts at these addresses; each holds every shard, and the first should lead.
    pub async fn start(hosts: Vec<String>, options: GatewayOptions) -> Front {
        let (table, watched) = watch::channel(Some(Arc::new(table(&hosts))));
        let (leaders, hints) = watch::channel(Arc::default());
        let clock = Arc::new(SystemClock(Instant::now()));
        let gateway = Gateway::new(options, watched, hints, clock);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let serving = gateway.serve(listener, stop.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Front { address, stop, served, hosts, _table: table, leaders }
    }

    /// Host `number` tells everybody that it leads all shards since this term.
    pub fn announce(&self, number: usize, term: u64) {
        let hint = |shard: u16| LeaderHint {
            shard: ShardId(shard),
            term,
            replica: ReplicaId(u64::from(shard) * 10 + number as u64 + 1),
            address: self.hosts[number].clone(),
        };
        self.leaders.send_replace(Arc::new((0..SHARDS as u16).map(hint).collect()));
    }

    pub async fn channel(&self) -> Channel {
        channel_to(&self.address).await
    }

    /// A stream without a client behind it, to see each frame.
    pub async fn stream(&self, first: ClientFrame) -> (mpsc::Sender<ClientFrame>, Streaming<ServerFrame>) {
        let (frames, stream, _) = stream_over(self.channel().await, first).await;
        (frames, stream)
    }
}

pub async fn channel_to(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// As [`Front::stream`], over any channel, and with what cancels the call.
pub async fn stream_over(
    channel: Channel,
    first: ClientFrame,
) -> (mpsc::Sender<ClientFrame>, Streaming<ServerFrame>, CancellationHandle) {
    let (frames, waiting) = mpsc::channel(64);
    frames.send(first).await.unwrap();
    let mut request = signed_request(ReceiverStream::new(waiting));
    let cancel = request.cancellation_handle();
    let mut service = SessionServiceClient::new(channel);
    (frames, in_time(service.connect(request)).await.unwrap().into_inner(), cancel)
}

/// A request with a token.
pub fn signed_request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", token()).parse().unwrap());
    request
}

pub fn token() -> String {
    signed(6, Duration::from_secs(3_600))
}

pub fn signed(secret: u8, lifetime: Duration) -> String {
    let project = "demo".parse().unwrap();
    let key = conclave_auth::TokenKey { kid: "first".to_owned(), project, secret: Arc::from([secret; 32]) };
    let participant = "ada".parse().unwrap();
    let (rooms, rights) = (OpenRooms::All, Rights::admin());
    let spec = TokenSpec { participant, role: Role::User, rooms, rights, lifetime };
    // Signed in the past, so that a token of no lifetime is over.
    let signed_at = Timestamp(SystemClock(Instant::now()).wall().0 - 10_000);
    mint(&key, &spec, signed_at)
}

fn table(hosts: &[String]) -> ClusterTable {
    let node = |number: usize| NodeUuid([number as u8 + 1; 16]);
    let project: conclave_types::ProjectId = "demo".parse().unwrap();
    let kid: KeyId = "first".parse().unwrap();
    let shard = |shard: u64| {
        let replica = |number: usize| Replica {
            replica: ReplicaId(shard * 10 + number as u64 + 1),
            node: node(number),
            store: 1,
        };
        Shard {
            epoch: Epoch(1),
            state: ShardState::Active,
            replicas: (0..hosts.len()).map(replica).collect(),
            preferred_leader: ReplicaId(shard * 10 + 1),
        }
    };
    let nodes = hosts.iter().enumerate().map(|(number, address)| {
        let address = address.clone();
        (node(number), Node { node: node(number), address, zone: String::new(), state: NodeState::Up, store: 1 })
    });
    ClusterTable {
        cluster: ClusterUuid([9; 16]),
        revision: TableRevision(1),
        replication: 3,
        secret: Secret::new([5; 32]),
        feature_level: 1,
        next_replica: ReplicaId(1_000),
        nodes: nodes.collect(),
        meta_replicas: vec![Replica { replica: ReplicaId(1), node: node(0), store: 1 }],
        shards: (0..SHARDS).map(shard).collect(),
        projects: BTreeSet::from([project.clone()]),
        token_keys: BTreeMap::from([(kid.clone(), TokenKey { kid, project, secret: Secret::new([6; 32]) })]),
    }
}
