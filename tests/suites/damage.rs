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
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_tests::dice::{Dice, seed_of_run};
use conclave_tests::evidence::{Evidence, size};
use conclave_tests::ledger::Ledger;
use conclave_tests::site::damage::{Damage, Kind, Part, store};
use conclave_tests::site::{Layout, Site, enclosed};

/// Damages in the test command, at about four seconds each. A report takes 500.
const DAMAGES: u64 = 60;
const DAMAGES_VARIABLE: &str = "CONCLAVE_DAMAGES";
const HOSTS: usize = 3;
const SHARDS: u16 = 4;
const ROOMS: usize = 4;
/// After so many damages a new cluster is taken, or reading everything after each one would take longer and longer.
const DAMAGES_A_CLUSTER: u64 = 50;
/// With one of three hosts gone, the others elect and go on.
const FAILOVER_WITHIN: Duration = Duration::from_secs(3);
const SERVE_WITHIN: Duration = Duration::from_secs(20);
/// For a damaged host to be filled again.
const MEND_WITHIN: Duration = Duration::from_secs(30);
/// Far above what a damage takes, beside other work on the machine.
const DAMAGE_WITHIN: Duration = Duration::from_secs(20);
const START_WITHIN: Duration = Duration::from_secs(120);
/// Each part of a store is hit at least once in so many damages.
const PARTS_EVERY: u64 = 12;

/// What is damaged. Parts of snapshots are left out: a host that is stopped between two of them has none.
const PARTS: [Part; 5] = [Part::Log, Part::Table, Part::Manifest, Part::Current, Part::Synced];
const KINDS: [Kind; 3] = [Kind::FlipBit, Kind::FlipBit, Kind::Truncate];

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
    for part in PARTS {
        evidence.require(format!("{part:?} damaged"), damages / PARTS_EVERY);
    }
    evidence.require(CONDEMNED, damages / PARTS_EVERY);
    let mut left = damages;
    while left > 0 {
        let here = left.min(DAMAGES_A_CLUSTER);
        let mut site = Site::start(Layout::plain(HOSTS, SHARDS))?;
        let result = damage_again_and_again(&mut site, here, &mut dice, &mut evidence).await;
        result.with_context(|| format!("seed {seed}\n{}", site.cluster().last_lines(30)))?;
        left -= here;
    }
    eprintln!("{}", evidence.report());
    evidence.check()
}

const CONDEMNED: &str = "store condemned and filled again";
const HARMLESS: &str = "damage that did not matter";
const HIDDEN: &str = "damage that nobody has read, taken back";

async fn damage_again_and_again(site: &mut Site, damages: u64, dice: &mut Dice, evidence: &mut Evidence) -> Result<()> {
    let client = site.cluster().client_with_room("writer", "ledger").await?;
    let mut ledger = Ledger::open(client, ROOMS).await?;
    ledger.flow(SERVE_WITHIN).await?;
    site.become_whole(SERVE_WITHIN).await?;
    let mut last = None;
    for number in 0..damages {
        let victim = another(last, dice);
        let part = PARTS[number as usize % PARTS.len()];
        stop(site, &mut ledger, victim).await?;
        let damage = damage(site, victim, part, dice)?;
        let context = || format!("host {victim}, {damage}");
        let before = store(site.data(victim))?;
        let endings = site.endings().len();
        site.start_host(victim)?;
        ledger.flow(FAILOVER_WITHIN).await.with_context(context)?;
        let took = site.become_whole(MEND_WITHIN).await.with_context(context)?;
        let is_hidden = damage.take_back()?;
        let outcome = outcome(site, victim, &before, endings, is_hidden).with_context(context)?;
        eprintln!("{number}: {}: {outcome} ({took:?})", context());
        evidence.saw(format!("{:?} damaged", damage.part));
        evidence.saw(format!("{:?}, {:?}: {outcome}", damage.part, damage.kind));
        evidence.saw(outcome);
        evidence.save()?;
        last = Some(victim);
    }
    // The last one is put to the test too.
    let witness = another(last, dice);
    stop(site, &mut ledger, witness).await?;
    site.start_host(witness)?;
    site.become_whole(MEND_WITHIN).await?;
    let account = ledger.close().await?;
    evidence.fact(format!("writes and reads of cluster {}", evidence.count("cluster") + 1), &account);
    evidence.saw("cluster");
    account.check()
}

/// Kills a host. While it is gone, the two others must agree on every write, and hold all that was acknowledged.
async fn stop(site: &mut Site, ledger: &mut Ledger, victim: usize) -> Result<()> {
    site.kill_host(victim)?;
    ledger.flow(FAILOVER_WITHIN).await.with_context(|| format!("without host {victim}"))?;
    ledger.compare_clean().await.with_context(|| format!("without host {victim}"))?;
    Ok(())
}

fn damage(site: &mut Site, victim: usize, part: Part, dice: &mut Dice) -> Result<Damage> {
    let kind = *dice.pick(&KINDS);
    if let Some(damage) = site.damage(victim, part, kind, dice)? {
        return Ok(damage);
    }
    // A young store has no tables yet, and always a log.
    site.damage(victim, Part::Log, kind, dice)?.context("the host has no log")
}

fn another(last: Option<usize>, dice: &mut Dice) -> usize {
    let others: Vec<usize> = (0..HOSTS).filter(|host| Some(*host) != last).collect();
    *dice.pick(&others)
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
