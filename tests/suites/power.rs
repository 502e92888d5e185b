//! Power cuts under load: what was acknowledged is there, whichever hosts lost power and whenever.
//!
//! Each host has its data on a disk of its own, and a cut takes away all that was not synced there. A third of the cuts
//! hit one host, a third a majority, a third all of them at once; some hit hosts that are just coming up.
//!
//! Two loads run: the ledger is compared with the cluster after each cut, and the history of the other one, which uses
//! everything that rooms can do, is judged in the end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_tests::evidence::{Evidence, FAILOVER_WITHIN, size};
use conclave_tests::ledger::Ledger;
use conclave_tests::site::{Clocks, Disks, IMAGE_MIB, Layout, Site, Wires, enclosed};
use conclave_workload::checks::{Demand, judge};
use conclave_workload::dice::{Dice, seed_of_run};
use conclave_workload::load::{Load, Workload};

/// Power cuts in the test command: six and more of each kind, in about a minute and a half. A report takes a hundred.
const CUTS: u64 = 20;
const CUTS_VARIABLE: &str = "CONCLAVE_POWER_CUTS";
const HOSTS: usize = 3;
const SHARDS: u16 = 4;
/// Rooms of the ledger: most shards have one.
const ROOMS: usize = 6;
/// Rooms of the load that is judged in the end.
const JUDGED_ROOMS: usize = 2;
/// Operations of each kind that a cut must bring at least, for the judge to have something to judge.
const OPERATIONS_A_CUT: u64 = 2;
/// A cut comes at any moment below this, once writes flow: long enough for flushes and for the filesystem's own writing.
const LONGEST_CALM: Duration = Duration::from_millis(1_500);
/// Or below this after the hosts were started: while they replay their logs and elect.
const LONGEST_RECOVERY: Duration = Duration::from_millis(1_000);
/// One of so many cuts hits hosts that are coming up.
const RECOVERY_EVERY: usize = 4;
/// With all hosts started again.
const SERVE_WITHIN: Duration = Duration::from_secs(20);
/// Far above what a cut takes, beside other work on the machine.
const CUT_WITHIN: Duration = Duration::from_secs(30);
const START_WITHIN: Duration = Duration::from_secs(120);

const LAYOUT: Layout = Layout {
    hosts: HOSTS,
    shards: SHARDS,
    disks: Disks::Images { mib: IMAGE_MIB },
    wires: Wires::Loopback,
    clocks: Clocks::Shared,
};

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let cuts = size(CUTS_VARIABLE, CUTS);
    let within = START_WITHIN + CUT_WITHIN * cuts as u32;
    enclosed("no_power_cut_loses_what_was_acknowledged", &LAYOUT.needs(), within, || run(cuts));
}

async fn run(cuts: u64) -> Result<()> {
    let seed = seed_of_run("power");
    let mut site = Site::start(LAYOUT)?;
    let result = cut_again_and_again(&mut site, cuts, seed).await;
    result.with_context(|| format!("seed {seed}\n{}", site.cluster().last_lines(30)))
}

async fn cut_again_and_again(site: &mut Site, cuts: u64, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    let mut evidence = Evidence::default();
    for (kind, victims) in KINDS {
        evidence.require(kind, cuts / KINDS.len() as u64);
        ensure!(victims <= HOSTS, "{kind}");
    }
    evidence.fact("seed", seed);
    let client = site.cluster().client_with_room("writer", "ledger").await?;
    let workload = Workload::start(vec![client.clone()], Load::new(JUDGED_ROOMS, seed)).await?;
    let mut ledger = Ledger::open(client, ROOMS).await?;
    ledger.flow(SERVE_WITHIN).await?;
    for cut in 0..cuts {
        let (kind, victims) = KINDS[cut as usize % KINDS.len()];
        let mut hosts: Vec<usize> = (0..HOSTS).collect();
        dice.shuffle(&mut hosts);
        hosts.truncate(victims);
        // A random moment is what this waits for, not a condition.
        tokio::time::sleep(dice.time(LONGEST_CALM)).await;
        site.cut_power(&hosts)?;
        evidence.saw(kind);
        if victims == 1 {
            let flowed = ledger.flow(FAILOVER_WITHIN).await.with_context(|| format!("cut {cut} of {hosts:?}"))?;
            evidence.failover(flowed);
        }
        start(site, &hosts)?;
        if dice.roll(RECOVERY_EVERY) == 0 {
            tokio::time::sleep(dice.time(LONGEST_RECOVERY)).await;
            site.cut_power(&hosts)?;
            evidence.saw(format!("{kind}, again while coming up"));
            start(site, &hosts)?;
        }
        ledger.flow(SERVE_WITHIN).await.with_context(|| format!("after cut {cut} of {hosts:?}"))?;
        site.become_whole(SERVE_WITHIN).await.with_context(|| format!("after cut {cut} of {hosts:?}"))?;
        ensure!(site.endings().is_empty(), "after cut {cut} of {hosts:?}: {:?}", site.endings());
        let account = ledger.compare_clean().await.with_context(|| format!("after cut {cut} of {hosts:?}"))?;
        evidence.fact("writes and reads", account);
        evidence.save()?;
    }
    let account = ledger.close().await?;
    evidence.fact("writes and reads", &account);
    let history = workload.finish().await?;
    let verdict = judge(&history, &Demand::new(cuts * OPERATIONS_A_CUT));
    let tally = verdict.settle("power", &history, &std::env::temp_dir())?;
    evidence.fact("operations that were judged", tally.all());
    evidence.save()?;
    eprintln!("{}", evidence.report());
    account.check()?;
    evidence.check()
}

/// What is cut, and how many hosts that is.
const KINDS: [(&str, usize); 3] =
    [("power cut of one host", 1), ("power cut of a majority", 2), ("power cut of all", 3)];

fn start(site: &mut Site, hosts: &[usize]) -> Result<()> {
    hosts.iter().try_for_each(|host| site.start_host(*host))
}
