//! A site: a cluster of real processes, and the disks, wires and clocks that it stands on, each of which can fail.
//!
//! [`Cluster`] is the processes and what can be done to them; a site puts them on images, in network namespaces and
//! under clocks of their own, as its [`Layout`] says. A test whose site has any of these runs [`enclosed()`], so that
//! nothing of it is left behind. [`damage`] is for the files of a host that does not run. [`supervision`] is who starts
//! a host again when it has ended by itself.

pub mod clock;
pub mod damage;
pub mod disk;
pub mod enclosed;
pub mod network;
pub mod supervision;
mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use self::clock::Clock;
use self::damage::{Damage, Kind, Part};
use self::disk::{Disk, shut_down};
use self::network::{EDGE, Network};
use self::supervision::{Ending, Supervisor};
use crate::cluster::{Cluster, Place, faults_binary, free_address};
use crate::status;
use conclave_workload::dice::Dice;
use conclave_workload::patience::POLL;

pub use self::enclosed::{Need, enclosed};

/// What hosts keep their data on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// Folders of the machine's own disk.
    Shared,
    /// An image of this size each.
    Images { mib: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wires {
    Loopback,
    /// A network namespace a host.
    Namespaces,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clocks {
    /// The machine's.
    Shared,
    /// A clock a host that can be set.
    OfTheirOwn,
}

/// Of what a site is built.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub hosts: usize,
    pub shards: u16,
    pub disks: Disks,
    pub wires: Wires,
    pub clocks: Clocks,
}

/// Enough for what a suite writes, and for the log and tables that the store keeps of it.
pub const IMAGE_MIB: u64 = 512;

impl Layout {
    /// Everything shared: processes alone can be killed and paused, and files damaged.
    pub fn plain(hosts: usize, shards: u16) -> Layout {
        Layout { hosts, shards, disks: Disks::Shared, wires: Wires::Loopback, clocks: Clocks::Shared }
    }

    /// All that can fail can be made to fail.
    pub fn full(hosts: usize, shards: u16) -> Layout {
        let disks = Disks::Images { mib: IMAGE_MIB };
        Layout { hosts, shards, disks, wires: Wires::Namespaces, clocks: Clocks::OfTheirOwn }
    }

    /// What the machine must allow for it.
    pub fn needs(&self) -> Vec<Need> {
        let disks = matches!(self.disks, Disks::Images { .. }).then_some(Need::Images);
        let wires = matches!(self.wires, Wires::Namespaces).then_some(Need::Wires);
        let clocks = matches!(self.clocks, Clocks::OfTheirOwn).then_some(Need::Clocks);
        [disks, wires, clocks].into_iter().flatten().collect()
    }
}

/// Fields are dropped in this order: processes end before what they stand on.
pub struct Site {
    cluster: Cluster,
    supervisor: Supervisor,
    disks: Vec<Disk>,
    network: Option<Network>,
    clocks: Vec<Clock>,
    data: Vec<PathBuf>,
    /// What was damaged on which host, as long as it may be there unnoticed.
    damages: Vec<(usize, Damage)>,
    _folder: TempDir,
}

impl Site {
    /// Builds the site and starts hosts and gateway; the cluster may not serve yet.
    pub fn start(layout: Layout) -> Result<Site> {
        Site::start_with(layout, &[])
    }

    /// The same, with hosts that find this in their environment: options that a test needs at other values.
    pub fn start_with(layout: Layout, environment: &[(&str, &str)]) -> Result<Site> {
        Site::start_on(layout, |_, mut place| {
            place.environment.extend(owned(environment));
            Ok(place)
        })
    }

    /// The same with hosts that can be made to fail from inside, see [`crate::faults`]. They find this in their
    /// environment.
    pub fn start_with_faults(layout: Layout, environment: &[(&str, &str)]) -> Result<Site> {
        let binary = faults_binary()?;
        Site::start_on(layout, |_, mut place| {
            place.environment.extend(owned(environment));
            Ok(Place { binary: Some(binary.clone()), ..place })
        })
    }

    /// The same with hosts in the places that `furnish` makes of those that the layout gives them.
    pub fn start_on(layout: Layout, furnish: impl Fn(usize, Place) -> Result<Place>) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let each = || (0..layout.hosts).map(|index| (index, format!("host-{index}")));
        let disks = match layout.disks {
            Disks::Shared => Vec::new(),
            Disks::Images { mib } => {
                each().map(|(_, name)| Disk::new(folder.path(), &name, mib)).collect::<Result<_>>()?
            }
        };
        let network = match layout.wires {
            Wires::Loopback => None,
            Wires::Namespaces => Some(Network::new(layout.hosts)?),
        };
        let clocks = match layout.clocks {
            Clocks::Shared => Vec::new(),
            Clocks::OfTheirOwn => each().map(|(_, name)| Clock::new(folder.path(), &name)).collect::<Result<_>>()?,
        };
        let data = |(index, name): (usize, String)| match disks.get(index) {
            Some(disk) => disk.path().join("data"),
            None => folder.path().join(name),
        };
        let data: Vec<PathBuf> = each().map(data).collect();
        let place = |(index, _)| furnish(index, place_of(index, &data[index], network.as_ref(), clocks.get(index))?);
        let hosts = each().map(place).collect::<Result<Vec<Place>>>()?;
        let edge = match network {
            Some(_) => Place { address: format!("{EDGE}:7080"), environment: insecure("GATEWAY"), ..Place::default() },
            None => Place { address: free_address()?, ..Place::default() },
        };
        let cluster = Cluster::start_at(tempfile::tempdir()?, hosts, edge, layout.shards)?;
        let supervisor = Supervisor::new(layout.hosts);
        Ok(Site { cluster, supervisor, disks, network, clocks, data, damages: Vec::new(), _folder: folder })
    }

    /// The processes: addresses, tokens, clients, leaders, logs, SIGKILL and SIGSTOP.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    pub fn hosts(&self) -> usize {
        self.cluster.hosts()
    }

    pub fn start_host(&mut self, host: usize) -> Result<()> {
        self.supervisor.leave(host);
        self.cluster.start_host(host)
    }

    /// SIGKILL. One that has ended by itself in the meantime is as dead, and stays so.
    pub fn kill_host(&mut self, host: usize) -> Result<()> {
        self.kill_running(&[host])
    }

    /// Starts again what has ended by itself since the last call, as an orchestrator would, and says what that was.
    pub fn supervise(&mut self) -> Result<Vec<Ending>> {
        self.supervisor.look(&mut self.cluster)
    }

    /// Every end of a host that nobody caused by a signal of ours.
    pub fn endings(&self) -> &[Ending] {
        self.supervisor.endings()
    }

    /// Waits until every replica is there and has what the others have, and starts hosts again meanwhile. Returns how
    /// long that took.
    pub async fn become_whole(&mut self, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            self.supervise()?;
            match status::whole(&self.cluster).await {
                Ok(()) => return Ok(began.elapsed()),
                Err(error) if began.elapsed() > within => {
                    return Err(error.context(format!("not all replicas were whole within {within:?}")));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Cuts the power of these hosts: what they had not synced is gone. Their disks are whole and mounted afterwards, and
    /// the hosts are not started.
    pub fn cut_power(&mut self, hosts: &[usize]) -> Result<()> {
        shut_down(&self.disks_of(hosts)?)?;
        self.kill_running(hosts)?;
        self.disks_of(hosts)?.into_iter().try_for_each(Disk::mount_again)
    }

    /// From now on every call of the host to its disk fails with EIO. The host goes on, if it can.
    pub fn fail_disk(&mut self, host: usize) -> Result<()> {
        shut_down(&self.disks_of(&[host])?)
    }

    /// Makes a failed disk whole again, with what was synced on it. The host is killed if it runs, and not started.
    pub fn mend_disk(&mut self, host: usize) -> Result<()> {
        self.kill_running(&[host])?;
        self.disk(host)?.mount_again()
    }

    /// Takes all room on the host's disk that is left. What the host gives back is taken by the next call.
    pub fn fill_disk(&self, host: usize) -> Result<()> {
        self.disk(host)?.fill()
    }

    pub fn free_disk(&self, host: usize) -> Result<()> {
        self.disk(host)?.free()
    }

    /// Damages a file of a host that does not run; none when it has no such file. A flipped bit that another host has not
    /// read by now is flipped back first: two hosts damaged at once are not what three replicas promise to survive.
    pub fn damage(&mut self, host: usize, part: Part, kind: Kind, dice: &mut Dice) -> Result<Option<Damage>> {
        ensure!(!self.cluster.is_host_running(host), "host {host} runs: its files are not to be touched");
        for (_, hidden) in self.damages.extract_if(.., |(damaged, _)| *damaged != host) {
            hidden.take_back()?;
        }
        let damage = damage::damage(&self.data[host], part, kind, dice)?;
        self.damages.extend(damage.clone().map(|damage| (host, damage)));
        Ok(damage)
    }

    /// The data folder of a host.
    pub fn data(&self, host: usize) -> &Path {
        &self.data[host]
    }

    /// The wires between the hosts, to be cut.
    pub fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("this site has no network of its own")
    }

    /// Ends all cuts of the network.
    pub fn heal(&self) -> Result<()> {
        self.network()?.heal()
    }

    /// Sets one host's wall clock to so many seconds before or after the right time.
    pub fn jump_clock(&self, host: usize, seconds: i64) -> Result<()> {
        self.clocks.get(host).context("this host has no clock of its own")?.set(seconds)
    }

    fn kill_running(&mut self, hosts: &[usize]) -> Result<()> {
        hosts.iter().for_each(|host| self.supervisor.leave(*host));
        let running: Vec<usize> = hosts.iter().copied().filter(|host| self.cluster.is_host_running(*host)).collect();
        self.cluster.kill_hosts(&running)
    }

    fn disk(&self, host: usize) -> Result<&Disk> {
        self.disks.get(host).context("this host has no disk of its own")
    }

    fn disks_of(&self, hosts: &[usize]) -> Result<Vec<&Disk>> {
        hosts.iter().map(|host| self.disk(*host)).collect()
    }
}

fn owned<'a>(environment: &'a [(&str, &str)]) -> impl Iterator<Item = (String, String)> + 'a {
    environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
}

fn place_of(index: usize, data: &Path, network: Option<&Network>, clock: Option<&Clock>) -> Result<Place> {
    let (address, inside, mut environment) = match network {
        Some(network) => (network.address(index), network.inside(index), insecure("HOST")),
        None => (free_address()?, Vec::new(), Vec::new()),
    };
    if let Some(clock) = clock {
        environment.extend(clock.environment()?);
    }
    Ok(Place { address, data: data.to_owned(), inside, environment, ..Place::default() })
}

/// Beyond loopback a node wants to be told that nobody else listens on that network.
fn insecure(role: &str) -> Vec<(String, String)> {
    vec![(format!("CONCLAVE_{role}_INSECURE"), "true".to_owned())]
}
