//! A cluster under load with one fault to come, and the end that every test has.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use conclave_tests::evidence::{Evidence, FAILOVER_WITHIN};
use conclave_tests::ledger::Ledger;
use conclave_tests::site::supervision::Ending;
use conclave_tests::site::{Layout, Site, enclosed};
use conclave_workload::patience::POLL;

pub const HOSTS: usize = 3;
pub const SHARDS: u16 = 4;
const ROOMS: usize = 4;
const SERVE_WITHIN: Duration = Duration::from_secs(20);
/// For hosts that were away to have everything again.
pub const MEND_WITHIN: Duration = Duration::from_secs(30);
/// Far above what a test takes, beside other work on the machine.
const TEST_WITHIN: Duration = Duration::from_secs(180);

pub struct Scene {
    pub site: Site,
    pub ledger: Ledger,
    pub evidence: Evidence,
    longest_wait: Duration,
}

/// Runs one test; `name` is its path from the root of the suite.
pub fn play(name: &str, layout: Layout, test: impl AsyncFnOnce(&mut Scene) -> Result<()>) {
    enclosed(name, &layout.needs(), TEST_WITHIN, || async move {
        let mut scene = Scene::open(layout).await?;
        let played = test(&mut scene).await;
        let logs = |scene: &Scene| scene.site.cluster().last_lines(40);
        played.with_context(|| logs(&scene))?;
        let logs = logs(&scene);
        scene.close().await.context(logs)
    });
}

impl Scene {
    async fn open(layout: Layout) -> Result<Scene> {
        let mut site = Site::start(layout)?;
        let client = site.cluster().client_with_room("writer", "ledger").await?;
        let mut ledger = Ledger::open(client, ROOMS).await?;
        ledger.flow(SERVE_WITHIN).await?;
        site.become_whole(SERVE_WITHIN).await?;
        Ok(Scene { site, ledger, evidence: Evidence::default(), longest_wait: Duration::ZERO })
    }

    /// The name of a room that is written to, and the host that leads it: a fault there is one that matters.
    pub async fn victim(&self) -> Result<(String, usize)> {
        let room = self.ledger.rooms().into_iter().next().context("no room")?;
        let leader = self.site.cluster().leader_of(&room).await?;
        Ok((room, leader))
    }

    /// What is written from now on is acknowledged in every room, within the time that a failover may take.
    pub async fn flows(&mut self) -> Result<()> {
        let took = self.ledger.flow(FAILOVER_WITHIN).await?;
        self.longest_wait = self.longest_wait.max(took);
        self.evidence.fact("longest wait for writes to flow again", format!("{:?}", self.longest_wait));
        Ok(())
    }

    /// Waits until the host has ended by itself. It is started again, as always.
    pub async fn ends(&mut self, host: usize, within: Duration) -> Result<Ending> {
        let began = Instant::now();
        loop {
            let noticed = self.site.supervise()?;
            if let Some(ending) = noticed.into_iter().find(|ending| ending.host == host) {
                self.evidence.saw("host ended by itself");
                return Ok(ending);
            }
            if began.elapsed() > within {
                bail!("host {host} still runs {within:?} after its disk failed");
            }
            tokio::time::sleep(POLL / 5).await;
        }
    }

    /// Everybody is there again, and nothing was lost.
    async fn close(mut self) -> Result<()> {
        self.site.become_whole(MEND_WITHIN).await?;
        self.flows().await?;
        let account = self.ledger.close().await?;
        self.evidence.fact("writes and reads", &account);
        eprintln!("{}", self.evidence.report());
        account.check()?;
        self.evidence.check()?;
        let panics = self.site.cluster().panics();
        ensure!(panics.is_empty(), "{panics:?}");
        Ok(())
    }
}
