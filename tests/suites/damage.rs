//! Damaged files: no wrong byte is served, the damaged host mends by itself, and nobody else notices.
//!
//! One host at a time is stopped, damaged and started again. Either the damage does not matter (it hit what is never
//! read, or what was never synced), or the host condemns its store, begins an empty one and is filled by its peers. That
//! its replicas are right is shown by the next victim: while that one is down, every write needs the mended host's vote,
//! and all that was ever acknowledged is read.
//!
//! A flipped bit that nobody has read by then is flipped back: two hosts damaged at once are not what three replicas
//! promise to survive.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use conclave_client::Client;
use conclave_proto::v1::{NewMessage, PostMessageRequest};
use conclave_tests::evidence::{Evidence, FAILOVER_WITHIN, size};
use conclave_tests::ledger::Ledger;
use conclave_tests::site::damage::{Damage, Kind, Part, files, store};
use conclave_tests::site::{Layout, Site, enclosed};
use conclave_workload::dice::{Dice, seed_of_run};

/// Damages in the test command, at about three seconds each. A report takes 500.
const DAMAGES: u64 = 60;
const DAMAGES_VARIABLE: &str = "CONCLAVE_DAMAGES";
const HOSTS: usize = 3;
const SHARDS: u16 = 4;
const ROOMS: usize = 4;
/// After so many damages a new cluster is taken, or reading everything after each one would take longer and longer.
const DAMAGES_A_CLUSTER: u64 = 30;
/// Every second cluster keeps so little log that a host is filled by snapshots, of which parts lie on its disk meanwhile.
const SHORT_LOGS: [(&str, &str); 2] =
    [("CONCLAVE_HOST_COMPACT_AFTER_ENTRIES", "100"), ("CONCLAVE_HOST_KEEP_LOG_ENTRIES", "10")];
/// What makes those snapshots large enough to be caught half-way: messages of one room, and their size.
const STUFFING: usize = 40;
const STUFFING_BYTES: usize = 200 << 10;
const SERVE_WITHIN: Duration = Duration::from_secs(20);
/// For a damaged host to be filled again.
const MEND_WITHIN: Duration = Duration::from_secs(30);
/// For the first part of a snapshot to arrive at an empty host.
const STAGED_WITHIN: Duration = Duration::from_secs(10);
/// Far above what a damage takes, beside other work on the machine.
const DAMAGE_WITHIN: Duration = Duration::from_secs(20);
const START_WITHIN: Duration = Duration::from_secs(120);
/// Each part of a store is hit at least once in so many damages.
const PARTS_EVERY: u64 = 12;

const KINDS: [Kind; 3] = [Kind::FlipBit, Kind::FlipBit, Kind::Truncate];

const CONDEMNED: &str = "store condemned and filled again";
const HARMLESS: &str = "damage that did not matter";
const HIDDEN: &str = "damage that nobody has read, taken back";

#[test]
fn damage_is_never_served_and_always_mended() {
    let damages = size(DAMAGES_VARIABLE, DAMAGES);
    let within = START_WITHIN + DAMAGE_WITHIN * damages as u32;
    enclosed("damage_is_never_served_and_always_mended", &[], within, || run(damages));
}

async fn run(damages: u64) -> Result<()> {
    let seed = seed_of_run("damage");
    let mut dice = Dice::new(seed);
    let mut evidence = Evidence::default();
    evidence.fact("seed", seed);
    evidence.require(CONDEMNED, damages / PARTS_EVERY);
    for part in Part::ALL {
        evidence.require(format!("{part:?} damaged"), damages / PARTS_EVERY);
    }
    // Snapshots are what every second cluster alone is filled by.
    evidence.require(format!("{:?} damaged", Part::Staged), damages / PARTS_EVERY / 4);
    let mut left = damages;
    for environment in [&[][..], &SHORT_LOGS].into_iter().cycle() {
        let here = left.min(DAMAGES_A_CLUSTER);
        let mut site = Site::start_with(Layout::plain(HOSTS, SHARDS), environment)?;
        let run = Run { site: &mut site, dice: &mut dice, evidence: &mut evidence, is_staged: !environment.is_empty() };
        let result = run.damage_again_and_again(here).await;
        result.with_context(|| format!("seed {seed}\n{}", site.cluster().last_lines(30)))?;
        left -= here;
        if left == 0 {
            break;
        }
    }
    eprintln!("{}", evidence.report());
    evidence.check()
}

/// One cluster and its damages.
struct Run<'a> {
    site: &'a mut Site,
    dice: &'a mut Dice,
    evidence: &'a mut Evidence,
    /// Whether hosts are filled by snapshots.
    is_staged: bool,
}

impl Run<'_> {
    async fn damage_again_and_again(mut self, damages: u64) -> Result<()> {
        let client = self.site.cluster().client_with_room("writer", "ledger").await?;
        if self.is_staged {
            stuff(self.site, &client).await?;
        }
        let mut ledger = Ledger::open(client, ROOMS).await?;
        ledger.flow(SERVE_WITHIN).await?;
        self.site.become_whole(SERVE_WITHIN).await?;
        let parts = if self.is_staged { &Part::ALL[..] } else { &Part::ALL[..Part::ALL.len() - 1] };
        let mut last = None;
        for number in 0..damages {
            let victim = self.another(last);
            let part = parts[number as usize % parts.len()];
            self.stop(&mut ledger, victim).await?;
            let damage =
                self.damage(&mut ledger, victim, part).await.with_context(|| format!("{part:?} of {victim}"))?;
            self.mend(&mut ledger, victim, &damage).await.with_context(|| format!("host {victim}, {damage}"))?;
            last = Some(victim);
        }
        // The last one is put to the test too.
        let witness = self.another(last);
        self.stop(&mut ledger, witness).await?;
        self.site.start_host(witness)?;
        self.site.become_whole(MEND_WITHIN).await?;
        let account = ledger.close().await?;
        self.evidence.saw("cluster");
        self.evidence.fact(format!("writes and reads of cluster {}", self.evidence.count("cluster")), &account);
        account.check()
    }

    /// Kills a host. While it is gone, the two others must agree on every write, and hold all that was acknowledged.
    async fn stop(&mut self, ledger: &mut Ledger, victim: usize) -> Result<()> {
        self.site.kill_host(victim)?;
        let flowed = ledger.flow(FAILOVER_WITHIN).await.with_context(|| format!("without host {victim}"))?;
        self.evidence.failover(flowed);
        ledger.compare_clean().await.with_context(|| format!("without host {victim}"))?;
        Ok(())
    }

    /// Damages a host that is stopped, and brings it about that it has what is to be damaged.
    async fn damage(&mut self, ledger: &mut Ledger, victim: usize, part: Part) -> Result<Damage> {
        if files(self.site.data(victim), part)?.is_empty() {
            match part {
                // Whoever replays a log writes tables.
                Part::Table => {
                    self.site.start_host(victim)?;
                    self.site.become_whole(MEND_WITHIN).await?;
                    self.stop(ledger, victim).await?;
                }
                Part::Staged => self.stop_while_filled(victim).await?,
                _ => bail!("the store has no such file"),
            }
        }
        let kind = *self.dice.pick(&KINDS);
        self.site.damage(victim, part, kind, self.dice)?.context("the store has no such file")
    }

    /// Makes a stopped host begin an empty store, and stops it when a part of a snapshot lies there.
    async fn stop_while_filled(&mut self, victim: usize) -> Result<()> {
        let empties = self.site.damage(victim, Part::Current, Kind::Truncate, self.dice)?.context("no database")?;
        let before = store(self.site.data(victim))?;
        self.site.start_host(victim)?;
        let began = Instant::now();
        while files(self.site.data(victim), Part::Staged)?.is_empty() {
            ensure!(
                began.elapsed() < STAGED_WITHIN,
                "no part of a snapshot came within {STAGED_WITHIN:?} of {empties}"
            );
            self.site.supervise()?;
            // A part lies there for as long as the next one takes to come.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.site.kill_host(victim)?;
        ensure!(store(self.site.data(victim))? != before, "{empties} did not condemn the store");
        Ok(())
    }

    /// Starts the damaged host, and sees what becomes of it.
    async fn mend(&mut self, ledger: &mut Ledger, victim: usize, damage: &Damage) -> Result<()> {
        let before = store(self.site.data(victim))?;
        let endings = self.site.endings().len();
        self.site.start_host(victim)?;
        ledger.flow(FAILOVER_WITHIN).await?;
        let took = self.site.become_whole(MEND_WITHIN).await?;
        let is_hidden = damage.take_back()?;
        let outcome = outcome(self.site, victim, &before, endings, is_hidden)?;
        eprintln!("host {victim}, {damage}: {outcome} ({took:?})");
        self.evidence.saw(format!("{:?} damaged", damage.part));
        self.evidence.saw(format!("{:?}, {:?}: {outcome}", damage.part, damage.kind));
        self.evidence.saw(outcome);
        self.evidence.save()
    }

    fn another(&mut self, last: Option<usize>) -> usize {
        let others: Vec<usize> = (0..HOSTS).filter(|host| Some(*host) != last).collect();
        *self.dice.pick(&others)
    }
}

fn outcome(site: &Site, victim: usize, before: &Path, endings: usize, is_hidden: bool) -> Result<&'static str> {
    let endings = &site.endings()[endings..];
    ensure!(endings.iter().all(|ending| ending.host == victim), "others ended: {endings:?}");
    Ok(if store(site.data(victim))? != before {
        CONDEMNED
    } else {
        ensure!(endings.is_empty(), "it ended and kept its store: {endings:?}");
        if is_hidden { HIDDEN } else { HARMLESS }
    })
}

/// Gives one shard a state of some megabytes.
async fn stuff(site: &Site, client: &Client) -> Result<()> {
    site.cluster().client_with_room("writer", "stuffing").await?;
    for _ in 0..STUFFING {
        let message =
            NewMessage { r#type: "stuffing".into(), body: vec![7; STUFFING_BYTES].into(), ..Default::default() };
        let parent = "rooms/stuffing".into();
        client.post_message(PostMessageRequest { parent, message: Some(message), ..Default::default() }).await?;
    }
    Ok(())
}
