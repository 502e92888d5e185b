//! Hosts that are made to break from inside: crash points that stop them, and bugs that are planted in them.
//!
//! They run the build with faults, see the crate `conclave-faults`. A host that comes to its crash point stops with all
//! its connections open; the test sees that, and kills it, cuts its power, or lets it go on.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::site::{Layout, Site, enclosed};
use conclave_workload::patience::eventually;

const CRASH_POINT: &str = "CONCLAVE_CRASH_POINT";
const PLANTED_BUG: &str = "CONCLAVE_PLANTED_BUG";
/// Far above what a test takes; one that hangs ends with its logs.
const WITHIN: Duration = Duration::from_secs(180);
/// Lines of each log that a failed test shows.
const LAST_LINES: usize = 30;
/// A replica that lacks everything has it within seconds.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// Each attempt to make a host lead has about an even chance, and most need one.
const LEAD_ATTEMPTS: usize = 12;

/// Held by the test that runs: two clusters at once on two cores would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test, whose name is that of the calling function, on a site of the build with faults. The hosts find
/// `environment` at every start.
pub fn with_faults(
    name: &str,
    layout: Layout,
    environment: &[(&str, &str)],
    test: impl AsyncFnOnce(&mut Site) -> Result<()>,
) {
    on_site(name, layout, || Site::start_with_faults(layout, environment), test);
}

/// Runs a test on a site that it furnishes itself.
pub fn on_site(
    name: &str,
    layout: Layout,
    site: impl FnOnce() -> Result<Site>,
    test: impl AsyncFnOnce(&mut Site) -> Result<()>,
) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let run = async || {
        let mut site = site()?;
        let tested = test(&mut site).await;
        tested.map_err(|error| error.context(site.cluster().last_lines(LAST_LINES)))
    };
    let needs = layout.needs();
    if !needs.is_empty() {
        return enclosed(name, &needs, WITHIN, run);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let tested =
        runtime.block_on(async { tokio::time::timeout(WITHIN, run()).await.context("the test took too long") });
    if let Err(error) = tested.and_then(|tested| tested) {
        panic!("{error:?}");
    }
}

impl Site {
    /// Whatever is planted, this host is sound from its next start on.
    pub fn make_sound(&mut self, host: usize) {
        self.cluster_mut().set_host_environment(host, PLANTED_BUG, Some(""));
    }

    /// The host has the bug that was asked for from its next start on; none if none was.
    pub fn make_buggy(&mut self, host: usize) {
        self.cluster_mut().set_host_environment(host, PLANTED_BUG, None);
    }

    /// The host stops where `point` says, such as `applied:20`, in its next life.
    pub fn arm(&mut self, host: usize, point: &str) {
        self.cluster_mut().set_host_environment(host, CRASH_POINT, Some(point));
    }

    pub fn disarm(&mut self, host: usize) {
        self.cluster_mut().set_host_environment(host, CRASH_POINT, None);
    }

    /// Kills a host and starts it again, armed.
    pub fn restart_armed(&mut self, host: usize, point: &str) -> Result<()> {
        self.kill_host(host)?;
        self.arm(host, point);
        self.start_host(host)
    }

    /// Starts a host that was killed without a crash point.
    pub fn start_disarmed(&mut self, host: usize) -> Result<()> {
        self.disarm(host);
        self.start_host(host)
    }

    /// Whether the host stands at its crash point.
    pub fn is_stopped(&self, host: usize) -> Result<bool> {
        let pid = self.cluster().host_pid(host).context("the host does not run")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name before it may hold blanks and parentheses.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(state == Some("T"))
    }

    /// Waits until the host stands at its crash point.
    pub async fn stopped(&self, host: usize) -> Result<()> {
        let look = || async {
            ensure!(self.is_stopped(host)?, "host {host} has not come to its crash point");
            Ok(())
        };
        eventually("a stop at the crash point", look).await
    }

    /// Makes a host lead the shard of a room: with the third host gone, the leader hands over to it when it is stopped.
    /// All hosts must run; the host first gets what it lacks.
    pub async fn make_leader(&mut self, host: usize, room: &str) -> Result<()> {
        for _ in 0..LEAD_ATTEMPTS {
            self.become_whole(WHOLE_WITHIN).await?;
            let leader = self.cluster().leader_of(room).await?;
            if leader == host {
                return Ok(());
            }
            let third: Vec<usize> = (0..self.hosts()).filter(|other| ![host, leader].contains(other)).collect();
            for &other in &third {
                self.cluster_mut().stop_host(other).await?;
            }
            self.cluster_mut().stop_host(leader).await?;
            for &other in third.iter().chain([&leader]) {
                self.start_host(other)?;
            }
        }
        anyhow::bail!("host {host} does not come to lead")
    }
}
