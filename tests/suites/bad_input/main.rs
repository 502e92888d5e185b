//! Bad input: each mistake gets its status with a reason, and nobody else notices.
//!
//! One cluster of real processes takes all cases, one after the other, over one connection, while a bystander works in a
//! room of its own, and two companions in the room of the cases. At the end every process lives, no log tells of trouble,
//! and neither they nor the bystander have lost anything.
//!
//! [`calls`] is a table of calls, [`frames`] one of session frames; what needs a story stands in [`stories`].

mod bystander;
mod calls;
mod companion;
mod expected;
mod frames;
mod place;
mod stories;
mod updates;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conclave_tests::cluster::Cluster;

use bystander::Bystander;
use companion::Companions;
use place::Place;

/// Longest that one case may take; the longest waits for a lease of 1 s to end.
const CASE_WITHIN: Duration = Duration::from_secs(20);
const ALL_WITHIN: Duration = Duration::from_secs(300);

/// What logs may say. While a cluster is born, its groups ask replicas for votes before they are there, and of two hosts
/// that begin together one gives way; a machine that is busy with other tests may delay a heartbeat by its 200 ms.
const EXPECTED_ALARMS: [&str; 4] = [
    "is not here",
    "no longer Leader: msg sent by vote: <T1-",
    "Leader vote changed: msg sent by vote: <T0-",
    "failed to send a heartbeat: Ok(Err(Timeout",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_gets_its_status_and_harms_nobody() -> Result<()> {
    tokio::time::timeout(ALL_WITHIN, run()).await.context("the cases took too long")?
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(3, 4).await?;
    let place = Place::prepare(&cluster).await?;
    let bystander = Bystander::start(&cluster).await?;
    let companions = Companions::start(&cluster).await?;

    let mut failures = Vec::new();
    let mut ran = 0;
    for call in calls::table(&place) {
        ran += 1;
        note(&mut failures, call.name, tokio::time::timeout(CASE_WITHIN, call.run(&place)).await);
    }
    for case in frames::table(&place) {
        ran += 1;
        note(&mut failures, case.name, tokio::time::timeout(CASE_WITHIN, case.run(&place)).await);
    }
    for (name, story) in stories::all(&place) {
        ran += 1;
        note(&mut failures, name, tokio::time::timeout(CASE_WITHIN, story).await);
    }

    let after = tokio::time::timeout(CASE_WITHIN, bystander.finish()).await;
    note(&mut failures, "the bystander", after);
    let after = tokio::time::timeout(CASE_WITHIN, companions.finish()).await;
    note(&mut failures, "the companions", after);
    note(&mut failures, "the cluster afterwards", Ok(unharmed(&mut cluster)));
    if !failures.is_empty() {
        let (count, list) = (failures.len(), failures.join("\n"));
        bail!("{count} of {ran} cases failed:\n{list}\n{}", cluster.last_lines(20));
    }
    Ok(())
}

fn note(failures: &mut Vec<String>, name: &str, result: Result<Result<()>, tokio::time::error::Elapsed>) {
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failures.push(format!("- {name}: {error:#}")),
        Err(_late) => failures.push(format!("- {name}: not over within {CASE_WITHIN:?}")),
    }
}

fn unharmed(cluster: &mut Cluster) -> Result<()> {
    let (ended, panics) = (cluster.ended()?, cluster.panics());
    ensure!(ended.is_empty(), "processes ended: {ended:?}");
    ensure!(panics.is_empty(), "{panics:?}");
    let alarming = cluster.alarming_lines(&EXPECTED_ALARMS)?;
    ensure!(alarming.is_empty(), "unexpected lines:\n{}", alarming.join("\n"));
    Ok(())
}
