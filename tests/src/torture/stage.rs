//! Makes faults happen at a site and heals them, and starts again what has ended, as an orchestrator would.

use std::time::Duration;

use anyhow::{Result, anyhow};
use futures::future::join_all;
use tokio::process::Command;
use tokio::time::Instant;

use super::kind::Kind;
use super::schedule::{Choice, Situation};
use crate::cluster::{CLUSTER_TOKEN, binary};
use crate::site::Site;
use crate::site::damage::{Kind as Harm, Part};
use crate::site::supervision::Ending;
use crate::status;
use conclave_workload::dice::Dice;
use conclave_workload::load::{Begun, Faults};

/// A shard without a leader does not say who leads; it is asked no longer than this.
const LEADER_WITHIN: Duration = Duration::from_secs(1);
/// A host that hands over and ends takes less.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// To ask every host for its replicas.
const WHOLE_WITHIN: Duration = Duration::from_secs(3);
/// How far a clock jumps.
const JUMP_SECONDS: i64 = 2 * 60 * 60;
/// After a fault that ends hosts was healed, how long a host may still end because of it.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Lines of each log that a failed run shows.
const LOG_LINES: usize = 40;

pub struct Stage {
    site: Site,
    faults: Faults,
    rooms: Vec<String>,
    active: Vec<Active>,
    dice: Dice,
    /// Until when each host is right to end by itself.
    excused: Vec<Option<Instant>>,
    /// Hosts whose store was damaged: what is wrong with it may be found at any time later.
    damaged: Vec<bool>,
    unexplained: Vec<Ending>,
}

struct Active {
    choice: Choice,
    begun: Begun,
    heal_at: Instant,
}

impl Stage {
    pub fn new(site: Site, faults: Faults, rooms: Vec<String>, seed: u64) -> Stage {
        let hosts = site.hosts();
        Stage {
            site,
            faults,
            rooms,
            active: Vec::new(),
            dice: Dice::new(seed),
            excused: vec![None; hosts],
            damaged: vec![false; hosts],
            unexplained: Vec::new(),
        }
    }

    /// Starts what has ended, and heals what has lasted long enough.
    pub async fn look(&mut self) -> Result<()> {
        for ending in self.site.supervise()? {
            let now = Instant::now();
            let is_excused = self.excused[ending.host].is_some_and(|until| now < until) || self.damaged[ending.host];
            if !is_excused {
                self.unexplained.push(ending);
            }
        }
        for full in self.active.iter().filter(|active| active.choice.kind == Kind::DiskFull) {
            self.site.fill_disk(full.choice.hosts[0])?;
        }
        let now = Instant::now();
        while let Some(index) = self.active.iter().position(|active| active.heal_at <= now) {
            let active = self.active.swap_remove(index);
            self.heal(active)?;
        }
        Ok(())
    }

    pub fn situation(&self, leaders: &[Option<usize>], is_whole: bool) -> Situation {
        let active = self.active.iter().map(|active| active.choice.clone()).collect();
        Situation { active, leaders: leaders.iter().flatten().copied().collect(), is_whole }
    }

    /// The host that leads each room, where one says so in time.
    pub async fn leaders(&self) -> Vec<Option<usize>> {
        join_all(self.rooms.iter().map(|room| self.leader_of(room))).await
    }

    async fn leader_of(&self, room: &str) -> Option<usize> {
        let cluster = self.site.cluster();
        let addresses: Vec<&str> = (0..self.site.hosts()).map(|host| cluster.host_address(host)).collect();
        let hosts = addresses.join(",");
        let mut command = Command::new(binary().ok()?);
        command.args(["leader", "--hosts", &hosts, "--cluster-token", CLUSTER_TOKEN, "--room", room]);
        let output = tokio::time::timeout(LEADER_WITHIN, command.kill_on_drop(true).output()).await.ok()?.ok()?;
        let address = String::from_utf8(output.stdout).ok()?;
        addresses.iter().position(|host| *host == address.trim())
    }

    /// No fault runs.
    pub fn is_calm(&self) -> bool {
        self.active.is_empty()
    }

    /// Every replica is there and has caught up.
    pub async fn is_whole(&self) -> bool {
        let whole = tokio::time::timeout(WHOLE_WITHIN, status::whole(self.site.cluster())).await;
        whole.is_ok_and(|whole| whole.is_ok())
    }

    pub async fn inflict(&mut self, choice: Choice, leaders: &[Option<usize>]) -> Result<()> {
        let is_hit = |leader: &Option<usize>| leader.is_some_and(|leader| choice.hosts.contains(&leader));
        let rooms = leaders.iter().enumerate().filter(|(_, leader)| is_hit(leader)).map(|(room, _)| room).collect();
        let detail = format!("hosts {:?} for {:.1?}", choice.hosts, choice.lasts);
        eprintln!("{}: {detail}", choice.kind);
        for host in choice.hosts.iter().filter(|_| choice.kind.ends_hosts()) {
            self.excused[*host] = Some(Instant::now() + choice.lasts + AFTERMATH);
        }
        let begun = self.faults.begin(&choice.kind.to_string(), detail, rooms);
        self.begin(&choice).await?;
        self.active.push(Active { heal_at: Instant::now() + choice.lasts, choice, begun });
        Ok(())
    }

    async fn begin(&mut self, Choice { kind, hosts, .. }: &Choice) -> Result<()> {
        let first = hosts.first().copied().unwrap_or_default();
        match kind {
            Kind::KillLeader | Kind::Kill | Kind::KillMajority | Kind::KillAll => {
                hosts.iter().try_for_each(|host| self.site.kill_host(*host))
            }
            Kind::Stop => self.stop(first).await,
            Kind::Pause | Kind::PauseMajority => {
                let running = hosts.iter().filter(|host| self.site.cluster().is_host_running(**host));
                running.into_iter().try_for_each(|host| self.site.cluster().pause_host(*host))
            }
            Kind::RestartGateway => self.site.cluster_mut().restart_gateway(),
            Kind::Isolate => self.site.network()?.isolate(first),
            Kind::CutFromPeers => self.site.network()?.isolate_from_peers(first),
            Kind::OneWay => self.site.network()?.cut_one_way(hosts[0], hosts[1]),
            Kind::PowerCut | Kind::PowerCutMajority | Kind::PowerCutAll => self.site.cut_power(hosts),
            Kind::DiskError => self.site.fail_disk(first),
            Kind::DiskFull => self.site.fill_disk(first),
            Kind::ClockJump => {
                let sign = if self.dice.roll(2) == 0 { 1 } else { -1 };
                self.site.jump_clock(first, sign * JUMP_SECONDS)
            }
            Kind::Damage => self.damage(first),
        }
    }

    /// A planned stop. In the middle of other faults nobody may be there to take over: then it is killed.
    async fn stop(&mut self, host: usize) -> Result<()> {
        if !self.site.cluster().is_host_running(host) {
            return Ok(());
        }
        match tokio::time::timeout(STOP_WITHIN, self.site.cluster_mut().stop_host(host)).await {
            Ok(Ok(())) => Ok(()),
            _ => self.site.kill_host(host),
        }
    }

    fn damage(&mut self, host: usize) -> Result<()> {
        self.site.kill_host(host)?;
        self.damaged[host] = true;
        let part = *self.dice.pick(&[Part::Log, Part::Table, Part::Manifest, Part::Synced]);
        let harm = *self.dice.pick(&[Harm::FlipBit, Harm::Truncate, Harm::Remove]);
        match self.site.damage(host, part, harm, &mut self.dice)? {
            Some(damage) => eprintln!("  {damage}"),
            // A store has a log from its first write.
            None => eprintln!("  {:?}", self.site.damage(host, Part::Log, harm, &mut self.dice)?),
        }
        Ok(())
    }

    fn heal(&mut self, Active { choice, begun, .. }: Active) -> Result<()> {
        let first = choice.hosts.first().copied().unwrap_or_default();
        match choice.kind {
            Kind::RestartGateway => {}
            Kind::Pause | Kind::PauseMajority => {
                let running = choice.hosts.iter().filter(|host| self.site.cluster().is_host_running(**host));
                running.into_iter().try_for_each(|host| self.site.cluster().resume_host(*host))?;
            }
            Kind::Isolate | Kind::CutFromPeers | Kind::OneWay => self.site.heal()?,
            Kind::DiskFull => self.site.free_disk(first)?,
            Kind::ClockJump => self.site.jump_clock(first, 0)?,
            Kind::DiskError => {
                self.site.mend_disk(first)?;
                self.start(&choice.hosts)?;
            }
            _ => self.start(&choice.hosts)?,
        }
        self.faults.end(begun);
        Ok(())
    }

    fn start(&mut self, hosts: &[usize]) -> Result<()> {
        for host in hosts {
            if !self.site.cluster().is_host_running(*host) {
                self.site.start_host(*host)?;
            }
        }
        Ok(())
    }

    pub async fn heal_all(&mut self) -> Result<()> {
        for active in std::mem::take(&mut self.active) {
            self.heal(active)?;
        }
        self.look().await
    }

    /// Every end of a host that no signal caused.
    pub fn endings(&self) -> usize {
        self.site.endings().len()
    }

    /// Those that no fault explains.
    pub fn unexplained(&self) -> &[Ending] {
        &self.unexplained
    }

    /// Adds to an error what the hosts said last.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| anyhow!("{error:#}\n{}", self.last_lines()))
    }

    pub fn last_lines(&self) -> String {
        self.site.cluster().last_lines(LOG_LINES)
    }
}
