//! Who starts a host again when it has ended by itself: what an orchestrator does, in a few lines.
//!
//! A host ends itself when its disk fails, when its disk is full and when its store is damaged, and counts on being
//! started again. The wait before a further start keeps a host that cannot live yet from taking the machine for itself.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::Cluster;

/// Between two starts of one host.
const START_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// More ends than this mean that starting again does not help. A full disk of ten seconds takes twenty of them.
const MAX_ENDINGS: usize = 2_000;

/// A host has ended without having been told to.
#[derive(Debug, Clone)]
pub struct Ending {
    pub host: usize,
    pub status: ExitStatus,
    /// When it was noticed.
    pub at: Instant,
}

#[derive(Debug)]
pub struct Supervisor {
    endings: Vec<Ending>,
    /// Hosts that have ended, with the time from which they may be started.
    waiting: Vec<Option<Instant>>,
}

impl Supervisor {
    pub fn new(hosts: usize) -> Supervisor {
        Supervisor { endings: Vec::new(), waiting: vec![None; hosts] }
    }

    /// One round: notes who has ended, and starts whose wait is over. Hosts that a test has stopped are left alone.
    pub fn look(&mut self, cluster: &mut Cluster) -> Result<Vec<Ending>> {
        let now = Instant::now();
        let mut noticed = Vec::new();
        for host in 0..self.waiting.len() {
            if let Some(status) = cluster.host_ended(host)? {
                noticed.push(Ending { host, status, at: now });
                self.waiting[host] = Some(now + START_AGAIN_AFTER);
            }
            if self.waiting[host].is_some_and(|from| from <= now) {
                self.waiting[host] = None;
                // A test that has started it meanwhile was quicker.
                if !cluster.is_host_running(host) {
                    cluster.start_host(host)?;
                }
            }
        }
        self.endings.extend_from_slice(&noticed);
        ensure!(self.endings.len() <= MAX_ENDINGS, "hosts have ended by themselves {} times", self.endings.len());
        Ok(noticed)
    }

    /// A test has taken this host into its own hands: it is not started here, until it ends by itself once more.
    pub fn leave(&mut self, host: usize) {
        self.waiting[host] = None;
    }

    pub fn endings(&self) -> &[Ending] {
        &self.endings
    }
}
