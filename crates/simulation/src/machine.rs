//! One simulated machine: a disk, a clock and a folder that outlive the host process which runs on them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conclave_cluster::{ClusterOptions, ClusterToken, DataFolder, FoundingOptions, Origin};
use conclave_host::{Blocking, Host, HostOptions, HostParts};
use conclave_network::Network;
use conclave_raft::{Group, GroupStatus, Leadership, RaftOptions};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::clock::MachineClock;
use crate::disk::Disk;
use crate::trace::Trace;
use crate::wire;

/// Orders that wait for a host.
const MAX_ORDERS: usize = 16;

/// What a running host is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Give away the leadership of one of the groups that it leads, the n-th of them.
    Transfer(usize),
    /// Hand everything over and end, as SIGTERM asks for.
    Drain,
}

/// What all hosts of a cluster were started with.
pub struct Settings {
    pub hosts: Vec<String>,
    pub token: ClusterToken,
    pub shards: u16,
    pub raft: RaftOptions,
    pub network: Network,
    pub trace: Arc<Trace>,
}

pub struct Machine {
    pub name: String,
    pub clock: MachineClock,
    pub disk: Arc<Disk>,
    pub folder: PathBuf,
    pub settings: Arc<Settings>,
    /// To the host that runs here, if one does.
    orders: Mutex<Option<mpsc::Sender<Order>>>,
    running: Mutex<Option<Arc<Running>>>,
    lives: AtomicU64,
}

/// What the process shows to whoever looks from outside.
struct Running {
    host: Mutex<Option<Host>>,
}

impl Machine {
    pub fn new(
        name: String,
        clock: MachineClock,
        disk: Arc<Disk>,
        folder: PathBuf,
        settings: Arc<Settings>,
    ) -> Arc<Machine> {
        Arc::new(Machine {
            name,
            clock,
            disk,
            folder,
            settings,
            orders: Mutex::default(),
            running: Mutex::default(),
            lives: AtomicU64::new(0),
        })
    }

    /// The process: runs a host until it is told to end. Dropped at any await, as a crash drops it.
    pub async fn run(self: Arc<Self>) -> turmoil::Result {
        self.lives.fetch_add(1, Ordering::Relaxed);
        let (sender, mut orders) = mpsc::channel(MAX_ORDERS);
        *self.orders.lock() = Some(sender);
        let host = self.start().await?;
        let mut failure = host.failure();
        let running = Arc::new(Running { host: Mutex::new(Some(host)) });
        *self.running.lock() = Some(running.clone());
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                failed = failure.wait_for(Option::is_some) => {
                    let failed = failed.ok().and_then(|failed| failed.clone());
                    return Err(format!("{} ends itself: {failed:?}", self.name).into());
                }
            };
            match order {
                Some(Order::Transfer(which)) => {
                    let groups = running.host.lock().as_ref().map(Host::groups).unwrap_or_default();
                    let led: Vec<_> = groups.into_iter().filter(is_led).collect();
                    if let Some(group) = led.get(which % led.len().max(1)).cloned() {
                        // Nobody may be ready to take it; that is an outcome like any other.
                        tokio::spawn(async move { group.transfer_leader().await });
                    }
                }
                Some(Order::Drain) | None => {
                    let host = running.host.lock().take();
                    self.forget_process();
                    if let Some(host) = host {
                        host.drain().await;
                        host.stop().await;
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn start(&self) -> turmoil::Result<Host> {
        let settings = &self.settings;
        let advertise = wire::address(&self.name);
        let origin = Origin::founder(settings.hosts.clone(), &advertise)?;
        let options = HostOptions {
            cluster: ClusterOptions {
                advertise,
                zone: String::new(),
                founding: FoundingOptions { shard_count: settings.shards, ..FoundingOptions::default() },
                join: Vec::new(),
                network: settings.network.clone(),
            },
            raft: settings.raft.clone(),
            token: settings.token.clone(),
        };
        let parts = HostParts {
            folder: DataFolder::open(&self.folder, &settings.token, origin)?,
            engine: self.disk.engine(),
            clock: Arc::new(self.clock.clone()),
            incoming: wire::listen(settings.trace.clone()).await?,
            blocking: Blocking::Inline,
        };
        let disk = self.disk.clone();
        Ok(Host::start(options, parts, |writer, syncer| disk.drive(writer, syncer)).await?)
    }

    /// Tells the host that runs here; nothing happens where none does.
    pub fn order(&self, order: Order) {
        if let Some(orders) = &*self.orders.lock() {
            // A host that has just ended, or is busy ending, hears nothing any more.
            let _ = orders.try_send(order);
        }
    }

    /// The replicas of the host that runs here, as they show themselves.
    pub fn replicas(&self) -> Vec<GroupStatus> {
        let running = self.running.lock().clone();
        let Some(running) = running else { return Vec::new() };
        let host = running.host.lock();
        host.as_ref().map(Host::groups).unwrap_or_default().iter().map(|group| group.status()).collect()
    }

    /// How many processes have run here.
    pub fn life(&self) -> u64 {
        self.lives.load(Ordering::Relaxed)
    }

    /// Whether the host that runs here leads anything.
    pub fn leads(&self) -> bool {
        self.replicas().iter().any(|replica| matches!(replica.leadership, Leadership::Leader { .. }))
    }

    /// The process is gone; what held on to it lets go.
    pub fn forget_process(&self) {
        *self.orders.lock() = None;
        *self.running.lock() = None;
    }
}

fn is_led(group: &Group) -> bool {
    matches!(group.status().leadership, Leadership::Leader { .. })
}
