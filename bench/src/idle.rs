//! A cluster that nobody uses: what its hosts take all the same.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::bench::{Bench, SHARDS};
use crate::report::{Row, Target};
use crate::usage::{MachineUsage, Usage, resident_mib};

const WORK: &str = "idle";
/// After the elections of a cluster's birth.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(10);
const CORE_PERCENT: f64 = 10.0;
const RESIDENT_MIB: f64 = 200.0;

pub async fn run(bench: &Bench) -> Result<Vec<Row>> {
    tokio::time::sleep(SETTLE).await;
    let processes = bench.processes(None)?;
    let (usage, machine, begun) = (Usage::read(&processes)?, MachineUsage::read()?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    let used = usage.since()?;
    let seconds = begun.elapsed().as_secs_f64();
    let others = machine.share_of_others(used.iter().map(|(_, seconds)| seconds).sum())?;
    let config = format!("shards={SHARDS}");
    let detail = format!("others took {:.0}% of the machine", others * 100.0);
    let mut rows = Vec::new();
    for ((name, pid), (_, cpu)) in processes.iter().zip(used).filter(|((name, _), _)| name != "generator") {
        let cores = Row::new(&format!("{WORK}: CPU {name}"), &config, cpu / seconds * 100.0, "% core");
        let memory = Row::new(&format!("{WORK}: memory {name}"), &config, resident_mib(*pid)?, "MiB");
        if name.starts_with("host") {
            rows.push(cores.target(Target::AtMost(CORE_PERCENT)).detail(detail.clone()));
            rows.push(memory.target(Target::AtMost(RESIDENT_MIB)));
        } else {
            rows.extend([cores.detail(detail.clone()), memory]);
        }
    }
    Ok(rows)
}
