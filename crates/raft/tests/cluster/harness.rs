//! Hosts, the network between them, and a state machine that remembers what it applied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_raft::peers::PeerFuture;
use conclave_raft::{
    Committed, Group, LeaderTerm, Leadership, OpenError, PeerAddress, PeerCall, PeerError, PeerHandler, PeerTransport,
    ProposeError, RaftNode, RaftOptions, Reply, StateMachine, StateMachineError, Step,
};
use conclave_storage::{EngineView, Family, KeyRange, MemoryEngine, WriteBatch};
use conclave_types::{GroupId, ReplicaId};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

pub const GROUP: GroupId = GroupId(3);

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps each payload under its index, and replies with the index.
pub struct Ledger {
    group: GroupId,
}

impl Ledger {
    pub fn new(group: GroupId) -> Self {
        Ledger { group }
    }
}

/// A payload that no ledger understands.
pub const UNACCEPTABLE: &str = "unacceptable";

impl StateMachine for Ledger {
    fn apply(&mut self, entries: &[Committed], writes: &mut WriteBatch) -> Result<Vec<Reply>, StateMachineError> {
        if let Some(entry) = entries.iter().find(|entry| entry.payload == UNACCEPTABLE) {
            return Err(StateMachineError::Entry { index: entry.index, reason: "nobody understands it".into() });
        }
        let apply = |entry: &Committed| {
            writes.put(Family::State, ledger_key(self.group, entry.index), &entry.payload[..]);
            Box::new(entry.index) as Reply
        };
        Ok(entries.iter().map(apply).collect())
    }

    fn written(&mut self) {}

    fn replaced(&mut self) -> Result<(), StateMachineError> {
        Ok(())
    }
}

fn ledger_key(group: GroupId, index: u64) -> Vec<u8> {
    let mut key = group.0.to_be_bytes().to_vec();
    key.push(0x01);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Who answers at an address, and on which runtime.
type Listener = (Arc<dyn PeerHandler>, tokio::runtime::Handle);

/// What becomes of a call on its way: another one, or none if it is lost.
pub type Meddle = Box<dyn FnMut(PeerCall) -> Option<PeerCall> + Send>;

/// Carries calls between hosts in memory.
#[derive(Default)]
pub struct Network {
    meddle: Mutex<Option<Meddle>>,
    handlers: Mutex<HashMap<String, Listener>>,
    silenced: Mutex<HashSet<String>>,
    calls: Mutex<HashMap<u32, u64>>,
}

impl Network {
    /// Calls from and to this host get no answer, as if its cable were pulled.
    pub fn silence(&self, replica: u64) {
        self.silenced.lock().insert(address(replica));
    }

    pub fn restore(&self, replica: u64) {
        self.silenced.lock().remove(&address(replica));
    }

    /// Has every call pass here, until another takes its place.
    pub fn meddle(&self, meddle: Option<Meddle>) {
        *self.meddle.lock() = meddle;
    }

    fn meddled(&self, call: PeerCall) -> Option<PeerCall> {
        match &mut *self.meddle.lock() {
            Some(meddle) => meddle(call),
            None => Some(call),
        }
    }

    pub fn handler(&self, replica: u64) -> Arc<dyn PeerHandler> {
        self.handlers.lock()[&address(replica)].0.clone()
    }

    /// Calls of a kind since the beginning.
    pub fn calls(&self, kind: u32) -> u64 {
        self.calls.lock().get(&kind).copied().unwrap_or(0)
    }

    fn is_silenced(&self, one: &str, other: &str) -> bool {
        let silenced = self.silenced.lock();
        silenced.contains(one) || silenced.contains(other)
    }
}

struct Wire {
    network: Arc<Network>,
    from: String,
}

impl PeerTransport for Wire {
    fn call(&self, target: PeerAddress, _lane: conclave_raft::Lane, call: PeerCall, deadline: Duration) -> PeerFuture {
        let network = self.network.clone();
        let from = self.from.clone();
        *network.calls.lock().entry(call.kind).or_default() += 1;
        let call = network.meddled(call);
        Box::pin(async move {
            let call = call.filter(|_| !network.is_silenced(&from, &target.address));
            let Some(call) = call else {
                tokio::time::sleep(deadline).await;
                return Err(PeerError::Timeout(deadline));
            };
            let found = network.handlers.lock().get(&target.address).cloned();
            let Some((handler, runtime)) = found else { return Err(PeerError::Unreachable(target.address)) };
            let answer = runtime.spawn(handler.handle(call)).await;
            if network.is_silenced(&from, &target.address) {
                tokio::time::sleep(deadline).await;
                return Err(PeerError::Timeout(deadline));
            }
            answer.unwrap_or_else(|_| Err(PeerError::Unreachable("the host died".into())))
        })
    }
}

pub fn address(replica: u64) -> String {
    format!("host-{replica}")
}

pub fn peer(replica: u64) -> PeerAddress {
    PeerAddress { node: None, address: address(replica) }
}

/// One host: a process of its own, as far as a test can tell.
pub struct Host {
    pub engine: Arc<MemoryEngine>,
    pub groups: BTreeMap<GroupId, Group>,
    runtime: Option<Runtime>,
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub struct Cluster {
    pub network: Arc<Network>,
    pub options: RaftOptions,
    pub hosts: BTreeMap<u64, Host>,
    /// What every host has a replica of.
    groups: Vec<GroupId>,
}

impl Cluster {
    /// `size` hosts with one group of them all.
    pub async fn start(size: u64, options: RaftOptions) -> Cluster {
        Cluster::start_groups(size, vec![GROUP], options).await
    }

    /// `size` hosts, each with a replica of every group.
    pub async fn start_groups(size: u64, groups: Vec<GroupId>, options: RaftOptions) -> Cluster {
        let mut cluster = Cluster { network: Arc::default(), options, hosts: BTreeMap::new(), groups };
        for replica in 1..=size {
            cluster.open(replica, Arc::new(MemoryEngine::new())).await;
        }
        let members: BTreeMap<_, _> = (1..=size).map(|replica| (ReplicaId(replica), peer(replica))).collect();
        for group in cluster.hosts[&1].groups.values() {
            group.initialize(members.clone()).await.expect("a new group");
        }
        cluster
    }

    /// Starts a host on what its engine holds.
    pub async fn open(&mut self, replica: u64, engine: Arc<MemoryEngine>) {
        self.try_open(replica, engine).await.expect("a sound engine");
    }

    /// Starts a host, whose replicas may refuse to open.
    pub async fn try_open(&mut self, replica: u64, engine: Arc<MemoryEngine>) -> Result<(), OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let wire = Wire { network: self.network.clone(), from: address(replica) };
        let (node, mut writer, mut syncer) = RaftNode::new(self.options.clone(), engine.clone(), Arc::new(wire));
        runtime.spawn(async move { while let Step::Done = writer.step().await {} });
        runtime.spawn(async move { while let Step::Done = syncer.step().await {} });
        let handler = (node.handler(), runtime.handle().clone());
        let mut host = Host { engine, groups: BTreeMap::new(), runtime: Some(runtime) };
        for group in self.groups.clone() {
            let node = node.clone();
            let runtime = host.runtime.as_ref().expect("just made");
            let machine = Box::new(Ledger::new(group));
            let opened = runtime.spawn(async move { node.open(group, ReplicaId(replica), machine).await });
            host.groups.insert(group, opened.await.expect("no panic")?);
        }
        self.network.handlers.lock().insert(address(replica), handler);
        self.hosts.insert(replica, host);
        Ok(())
    }

    /// Kills a host between two instructions; what its operating system had to itself survives.
    pub async fn kill(&mut self, replica: u64) -> Arc<MemoryEngine> {
        self.network.handlers.lock().remove(&address(replica));
        let mut host = self.hosts.remove(&replica).expect("a running host");
        let runtime = host.runtime.take().expect("a running host");
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE));
        ended.await.expect("no panic");
        host.engine.clone()
    }

    /// Kills a host and takes from its engine what was not synced.
    pub async fn cut_power(&mut self, replica: u64) -> Arc<MemoryEngine> {
        let engine = self.kill(replica).await;
        engine.crash();
        engine
    }

    pub fn group(&self, replica: u64) -> Group {
        self.group_of(replica, GROUP)
    }

    pub fn group_of(&self, replica: u64, group: GroupId) -> Group {
        self.hosts[&replica].groups[&group].clone()
    }

    pub fn running(&self) -> Vec<u64> {
        self.hosts.keys().copied().collect()
    }

    /// Waits until one of these hosts leads and is ready.
    pub async fn leader_of(&self, replicas: &[u64]) -> (u64, LeaderTerm) {
        let begun = Instant::now();
        loop {
            for replica in replicas {
                if let Leadership::Leader { term } = *self.group(*replica).leadership().borrow() {
                    return (*replica, term);
                }
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads: {:?}", self.statuses());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn leader(&self) -> (u64, LeaderTerm) {
        self.leader_of(&self.running()).await
    }

    /// Proposes at whoever leads until it is acknowledged; returns the index.
    pub async fn propose(&self, payload: &str) -> u64 {
        let begun = Instant::now();
        loop {
            let (leader, _) = self.leader().await;
            match propose(&self.group(leader), payload).await {
                Ok(index) => return index,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}: {:?}", self.statuses()),
            }
        }
    }

    /// What a host has applied, by index.
    pub fn ledger(&self, replica: u64) -> Vec<(u64, Bytes)> {
        self.ledger_of(replica, GROUP)
    }

    pub fn ledger_of(&self, replica: u64, group: GroupId) -> Vec<(u64, Bytes)> {
        let engine = &self.hosts[&replica].engine;
        let range = KeyRange { from: ledger_key(group, 0), to: ledger_key(group, u64::MAX) };
        let pairs = engine.scan(Family::State, range).map(|pair| pair.expect("memory"));
        pairs.map(|(key, value)| (u64::from_be_bytes(key[3..].try_into().expect("eight bytes")), value)).collect()
    }

    /// Waits until the host has applied the entry at `index`.
    pub async fn applied(&self, replica: u64, index: u64) {
        self.until(&format!("replica {replica} applied {index}"), || {
            self.group(replica).status().applied.is_some_and(|applied| applied >= index)
        })
        .await;
    }

    pub async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < PATIENCE, "never came: {what}: {:?}", self.statuses());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn statuses(&self) -> Vec<conclave_raft::GroupStatus> {
        self.hosts.values().flat_map(|host| host.groups.values().map(Group::status)).collect()
    }
}

/// Proposes once; returns the index at which it was applied.
pub async fn propose(group: &Group, payload: &str) -> Result<u64, ProposeError> {
    let proposed = group.propose(Bytes::copy_from_slice(payload.as_bytes()), None);
    let reply = timeout(PATIENCE, proposed).await.expect("an answer");
    reply.map(|reply| *reply.downcast::<u64>().expect("the ledger replies with an index"))
}
