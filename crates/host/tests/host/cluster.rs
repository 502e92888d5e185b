//! Hosts of a test cluster. Each has a runtime of its own, so that killing it stops everything it was doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conclave_auth::{Claims, OpenRooms, Rights, Role};
use conclave_cluster::{
    ClusterOptions, ClusterTable, ClusterToken, DataFolder, FoundingOptions, LeaderHint, MetaClient, Origin,
    ShardState, TableClient, TableWatch,
};
use conclave_host::{Blocking, Host, HostOptions, HostParts};
use conclave_network::Network;
use conclave_proto::internal::v1::GetHostStatusResponse;
use conclave_raft::{LogSyncer, LogWriter, RaftOptions, Step};
use conclave_storage::MemoryEngine;
use conclave_types::{Clock, RoomName, ShardId, Timestamp};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::calls::Caller;

/// Longest any test waits for a condition.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Before a call is tried again, if no leader announces itself earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at what nobody is told of.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// What every wall clock shows when its cluster is made.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// A clock that runs with the real one and can be moved.
pub struct TestClock {
    began: Instant,
    passed_ms: AtomicU64,
    jumped_ms: AtomicU64,
}

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(TestClock { began: Instant::now(), passed_ms: 0.into(), jumped_ms: 0.into() })
    }

    /// Time passes, at once.
    pub fn advance(&self, by: Duration) {
        self.passed_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// The wall clock alone is set forward, and is wrong from then on.
    pub fn jump(&self, by: Duration) {
        self.jumped_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// What the wall clock would show if it had never jumped.
    pub fn right(&self) -> Timestamp {
        Timestamp(EPOCH_MS).plus_ms(self.monotonic().as_millis() as u64)
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        self.right().plus_ms(self.jumped_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed() + Duration::from_millis(self.passed_ms.load(Ordering::SeqCst))
    }
}

/// What a cluster is born with.
pub struct Founding {
    pub hosts: usize,
    pub shards: u16,
    pub replication: usize,
    /// How far each host's wall clock is ahead from the start; the rest is right.
    pub ahead: Vec<Duration>,
}

pub const ONE_HOST: Founding = Founding { hosts: 1, shards: 2, replication: 1, ahead: Vec::new() };
/// One shard, so that one host leads all there is.
pub const THREE_HOSTS: Founding = Founding { hosts: 3, shards: 1, replication: 3, ahead: Vec::new() };

fn cluster_token() -> ClusterToken {
    "the token of the host tests".parse().expect("a valid token")
}

/// What survives a host's death.
struct Seed {
    address: String,
    hosts: Vec<String>,
    founding: FoundingOptions,
    folder: tempfile::TempDir,
    engine: Arc<MemoryEngine>,
    clock: Arc<TestClock>,
    /// Bound from the start, because hosts know each other's addresses before any of them serves.
    listener: Option<std::net::TcpListener>,
}

struct Running {
    host: Host,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub struct Cluster {
    seeds: Vec<Seed>,
    running: Vec<Option<Running>>,
    /// What a gateway would know.
    client: TableClient,
}

impl Cluster {
    /// A cluster whose shards all serve.
    pub async fn start(founding: Founding) -> Cluster {
        let mut cluster = Cluster::unborn(founding);
        for host in 0..cluster.seeds.len() {
            cluster.start_host(host).await;
        }
        for host in 0..cluster.seeds.len() {
            cluster.active(host).await;
        }
        cluster
    }

    /// Hosts that know of each other and do not run.
    pub fn unborn(founding: Founding) -> Cluster {
        let bind = |_| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.set_nonblocking(true).expect("a socket that does not block");
            listener
        };
        let listeners: Vec<_> = (0..founding.hosts).map(bind).collect();
        let address = |listener: &std::net::TcpListener| listener.local_addr().expect("bound").to_string();
        let hosts: Vec<String> = listeners.iter().map(address).collect();
        let options = FoundingOptions {
            shard_count: founding.shards,
            replication: founding.replication,
            ..FoundingOptions::default()
        };
        let seed = |(index, listener): (usize, _)| {
            let clock = TestClock::new();
            clock.jump(founding.ahead.get(index).copied().unwrap_or_default());
            Seed {
                address: hosts[index].clone(),
                hosts: hosts.clone(),
                founding: options.clone(),
                folder: tempfile::tempdir().expect("a folder"),
                engine: Arc::new(MemoryEngine::new()),
                clock,
                listener: Some(listener),
            }
        };
        let seeds: Vec<Seed> = listeners.into_iter().enumerate().map(seed).collect();
        let running = seeds.iter().map(|_| None).collect();
        Cluster { seeds, running, client: TableClient::start(hosts, cluster_token()) }
    }

    pub async fn start_host(&mut self, host: usize) {
        self.running[host] = Some(self.seeds[host].start().await);
    }

    /// Waits until this host knows that every shard serves.
    pub async fn active(&self, host: usize) -> Arc<ClusterTable> {
        let table = self.running[host].as_ref().expect("a running host").host.table();
        table_where(table, |table| table.shards.iter().all(|shard| shard.state == ShardState::Active)).await
    }

    /// Kills a host as a power cut does: what it had not synced is gone.
    pub async fn kill(&mut self, host: usize) {
        let mut running = self.running[host].take().expect("a running host");
        let runtime = running.runtime.take().expect("a runtime");
        spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.expect("the runtime stops");
        drop(running);
        self.seeds[host].engine.crash();
    }

    /// Kills a host and takes its store away: it will come back with an empty one of the next number.
    pub async fn lose_store(&mut self, host: usize) {
        self.kill(host).await;
        let seed = &mut self.seeds[host];
        let folder = seed.open_folder();
        folder.verdict().condemn("lost in a test").expect("the verdict is written");
        folder.succeed().expect("there are others").expect("it is condemned");
        seed.engine = Arc::new(MemoryEngine::new());
    }

    /// What this host says of itself.
    pub async fn status(&self, host: usize) -> GetHostStatusResponse {
        let client = MetaClient::new(cluster_token());
        client.host_status(&self.seeds[host].address).await.expect("the host answers")
    }

    /// What this host knows of the table.
    pub fn table_of(&self, host: usize) -> Option<Arc<ClusterTable>> {
        self.running[host].as_ref().expect("a running host").host.table().borrow().clone()
    }

    /// Hands this host's leaderships over, as before a planned stop.
    pub async fn drain(&self, host: usize) {
        self.running[host].as_ref().expect("a running host").host.drain().await;
    }

    pub fn clock(&self, host: usize) -> &TestClock {
        &self.seeds[host].clock
    }

    pub fn shared_clock(&self, host: usize) -> Arc<TestClock> {
        self.seeds[host].clock.clone()
    }

    /// What this host has stored, synced or not.
    pub fn engine(&self, host: usize) -> &MemoryEngine {
        &self.seeds[host].engine
    }

    pub fn address(&self, host: usize) -> &str {
        &self.seeds[host].address
    }

    pub fn table(&self) -> TableWatch {
        self.client.table()
    }

    pub fn shard_of(&self, room: &str) -> ShardId {
        let room: RoomName = room.parse().expect("a room name");
        let slot = conclave_placement::slot(&self.seeds[0].founding.project, &room);
        conclave_placement::shard_of(slot, self.seeds[0].founding.shard_count)
    }

    /// The newest hint about a room's leader whose term is above `term`.
    async fn leader_after(&self, room: &str, term: u64) -> LeaderHint {
        let shard = self.shard_of(room);
        let mut leaders = self.client.leaders();
        let newer = leaders.wait_for(|hints| hints.get(shard).is_some_and(|hint| hint.term > term));
        let hints = timeout(PATIENCE, newer).await.expect("the shard got no leader").expect("hints are watched");
        hints.get(shard).expect("just seen").clone()
    }

    fn index_of(&self, address: &str) -> usize {
        self.seeds.iter().position(|seed| seed.address == address).expect("a host of this cluster")
    }

    /// The host that leads a room's shard, and in which term.
    pub async fn leader(&self, room: &str) -> (usize, u64) {
        let hint = self.leader_after(room, 0).await;
        (self.index_of(&hint.address), hint.term)
    }

    /// The host that leads after this term.
    pub async fn next_leader(&self, room: &str, term: u64) -> (usize, u64) {
        let hint = self.leader_after(room, term).await;
        (self.index_of(&hint.address), hint.term)
    }

    /// Tries a call at whoever leads until it gets an answer other than "not here" or "not now", as a gateway does.
    /// Returns the answer with the caller that got it.
    pub async fn at_any_leader<T>(
        &self,
        room: &str,
        participant: &str,
        call: impl AsyncFn(&Caller) -> Result<T, Status>,
    ) -> (Caller, Result<T, Status>) {
        let mut leaders = self.client.leaders();
        let tries = async {
            loop {
                leaders.borrow_and_update();
                let caller = self.at_leader(room, participant).await;
                match call(&caller).await {
                    Err(status) if status.code() == Code::Unavailable => {}
                    answer => return (caller, answer),
                }
                // The same leader may only need a moment more.
                let _ = timeout(RETRY_PAUSE, leaders.changed()).await;
            }
        };
        timeout(PATIENCE, tries).await.expect("no leader serves")
    }

    /// Makes a room if there is none: the host that leads it, its term, and a caller there.
    pub async fn with_room(&self, room: &str, participant: &str) -> (usize, u64, Caller) {
        let (caller, _) = self.at_any_leader(room, participant, async |caller| caller.create_room(room).await).await;
        let (leader, term) = self.leader(room).await;
        (leader, term, caller)
    }

    /// Claims of a participant who may do everything.
    pub fn claims(&self, participant: &str) -> Claims {
        Claims {
            project: self.seeds[0].founding.project.clone(),
            participant: participant.parse().expect("a participant name"),
            role: Role::User,
            rooms: OpenRooms::All,
            rights: Rights::admin(),
            expires: Timestamp(u64::MAX),
        }
    }

    /// Speaks to one host as a gateway, for a participant who may do everything.
    pub async fn caller(&self, host: usize, participant: &str) -> Caller {
        let table = table_where(self.table(), |_| true).await;
        let secret = table.secret.bytes().try_into().expect("32 bytes");
        let seed = &self.seeds[host];
        Caller::connect(&seed.address, secret, self.claims(participant), seed.clock.clone())
    }

    /// Speaks to the host that leads a room's shard.
    pub async fn at_leader(&self, room: &str, participant: &str) -> Caller {
        let (leader, _) = self.leader(room).await;
        self.caller(leader, participant).await
    }
}

/// Looks until it holds; for what nobody is told of.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let looks = async {
        while !holds() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

async fn table_where(mut table: TableWatch, holds: impl Fn(&ClusterTable) -> bool) -> Arc<ClusterTable> {
    let found = table.wait_for(|table| table.as_deref().is_some_and(&holds));
    let found = timeout(PATIENCE, found).await.expect("the table never came to this");
    found.expect("the table is watched").clone().expect("just seen")
}

impl Seed {
    fn open_folder(&self) -> DataFolder {
        let origin = Origin::founder(self.hosts.clone(), &self.address).expect("a founder");
        DataFolder::open(self.folder.path(), &cluster_token(), origin).expect("a folder")
    }

    async fn start(&mut self) -> Running {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let folder = self.open_folder();
        let options = HostOptions {
            cluster: ClusterOptions {
                advertise: self.address.clone(),
                zone: String::new(),
                founding: self.founding.clone(),
                join: Vec::new(),
                network: Network::System,
            },
            raft: RaftOptions::for_tests(),
            token: cluster_token(),
        };
        let (engine, clock) = (self.engine.clone(), self.clock.clone());
        let (bound, address) = (self.listener.take(), self.address.clone());
        let started = runtime.spawn(async move {
            let listener = match bound {
                Some(bound) => TcpListener::from_std(bound),
                None => TcpListener::bind(address).await,
            };
            let incoming = listener.expect("the host's own port").into();
            let parts = HostParts { folder, engine, clock, incoming, blocking: Blocking::Threads };
            Host::start(options, parts, step_log).await
        });
        let host = started.await.expect("the start does not panic").expect("the host starts");
        Running { host, runtime: Some(runtime) }
    }
}

fn step_log(mut writer: LogWriter, mut syncer: LogSyncer) {
    tokio::spawn(async move { while goes_on(writer.step().await) {} });
    tokio::spawn(async move { while goes_on(syncer.step().await) {} });
}

fn goes_on(step: Step) -> bool {
    match step {
        Step::Done => true,
        Step::Closed => false,
        Step::Fatal(reason) => panic!("a memory engine failed: {reason}"),
    }
}
