//! The judge is judged: a run in which nothing failed is accepted, and every falsification of its history is caught.
//!
//! And `docs/guarantees.md` promises nothing that no test holds.

mod falsify;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_client::Client;
use conclave_tests::alone::with_cluster;
use conclave_workload::checks::{Demand, Verdict, judge};
use conclave_workload::history::{Answer, Call, History, Operation, Outcome};
use conclave_workload::load::{Load, Workload};
use conclave_workload::patience::eventually;

const ROOMS: usize = 2;
/// What a few seconds of the load bring, of each kind.
const OPERATIONS: u64 = 40;

/// A history of a healthy cluster.
async fn healthy_run(clients: Vec<Client>) -> Result<History> {
    let load = Load { pace: Duration::from_millis(25), ..Load::new(ROOMS, 7) };
    let workload = Workload::start(clients, load).await?;
    let (recorder, demand) = (workload.recorder(), Demand::new(OPERATIONS));
    eventually("a load that has done something", || async {
        let lacking = demand.missing_operations(&recorder.tally());
        ensure!(lacking.is_empty(), "{lacking:?}");
        Ok(())
    })
    .await?;
    workload.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_run_is_accepted_and_each_falsification_is_caught() {
    with_cluster(|cluster| async move {
        let mut clients = Vec::new();
        for participant in ["ann", "bob"] {
            clients.push(cluster.lock().await.client_with_room(participant, "judged").await?);
        }
        let history = healthy_run(clients).await?;
        let demand = Demand::new(OPERATIONS);
        let tally = judge(&history, &demand).settle("checkers", &history, &std::env::temp_dir())?;
        eprintln!("{tally}");
        for (what, falsify) in falsify::ALL {
            let mut falsified = history.clone();
            falsify(&mut falsified).with_context(|| format!("the run has nothing to falsify: {what}"))?;
            let verdict = judge(&falsified, &demand);
            ensure!(matches!(verdict, Verdict::Violations(..)), "not caught: {what}");
        }
        let alarming = cluster.lock().await.panics();
        ensure!(alarming.is_empty(), "{alarming:?}");
        Ok(())
    })
    .await;
}

#[test]
fn a_history_is_the_same_after_writing_and_reading_it() -> Result<()> {
    let mut history = History::new(1, vec!["room".to_owned()]);
    let call = Call::Post { value: "w1-2".parse()?, again: false };
    let outcome = Outcome::Ok { revision: 3, answer: Answer::Done };
    let operation = Operation { actor: 0, session: Some(1), room: 0, invoked: 5, answered: Some(9), call, outcome };
    history.operations.push(operation);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("history.json");
    history.save(&path)?;
    let text = std::fs::read_to_string(path)?;
    ensure!(text.contains(r#""call":{"post":{"value":"w1-2","again":false}}"#), "{text}");
    ensure!(serde_json::from_str::<History>(&text)? == history);
    Ok(())
}

/// Every line of the promises names its tests as `file`: `test`.
#[test]
fn every_promise_names_tests_that_exist() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let promises = std::fs::read_to_string(root.join("docs/guarantees.md"))?;
    let rows: Vec<&str> = promises.lines().filter(|line| line.starts_with("| ") && line.contains(".rs`")).collect();
    ensure!(rows.len() >= 20, "the promises are gone: {} rows", rows.len());
    for row in promises.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let is_head = row.contains("| held by |");
        ensure!(is_head || row.contains(".rs`"), "a promise names no test: {row}");
    }
    for row in rows {
        let quoted: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let mut file: Option<(&str, String)> = None;
        for name in quoted {
            if name.ends_with(".rs") {
                let text = std::fs::read_to_string(root.join(name)).with_context(|| name.to_owned())?;
                file = Some((name, text));
            } else if let Some((path, text)) = file.as_ref().filter(|_| is_test_name(name)) {
                ensure!(text.contains(&format!("fn {name}(")), "{path} has no test `{name}`: {row}");
            }
        }
        let names = row.split('`').skip(1).step_by(2).filter(|name| is_test_name(name)).count();
        ensure!(names > 0, "a file without a test: {row}");
    }
    Ok(())
}

/// Names of tests are claims of several words.
fn is_test_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.contains('_') && name.chars().all(is_word)
}
