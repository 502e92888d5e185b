//! The load generator: measures a cluster of real processes on this machine.
//!
//! It starts three hosts and a gateway from the product's binary, loads them through the public client, and reads what
//! each process used. Every run is bounded in time and ends by itself. A figure is never a test: it is printed beside
//! its target and kept in `bench/results`.
//!
//! What is measured stands in the library; start with [`send`].
#![expect(clippy::print_stdout, reason = "a command line tool talks to its terminal")]

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use conclave_bench::bench::Bench;
use conclave_bench::fan_out::Lane;
use conclave_bench::report::Row;
use conclave_bench::{
    RESULTS, availability, document, fan_out, idle, open_loop, receive, report, restart, send, waiting,
};

const USAGE: &str = "\
cargo xtask bench [what]

  all        everything down to `follow` (default); the rest is long or stops hosts, and runs alone
  idle       a cluster without load: processor and memory of each host
  one        one durable send outstanding
  open       durable sends at a fixed rate, latency from the intended time
  send       durable sends, closed loop, windows of 256 and 1,024
  receive    receive and confirmed ack
  echo       one client's document update to another client
  paper      a recorded paper typed into a document edit by edit, 1,000 in flight
  broadcast  ephemeral messages of one to 100 listeners
  follow     the durable log followed by 100
  failover   the host that leads is killed: pause of writes, 30 times
  transfer   the host that leads is stopped: pause of writes, 12 times
  restart    a host with 1 GiB of state: from start to level with the others
  waiting    1,000,000 items waiting: how long a receive takes, and what is left on disk when nine of ten are acked
  nats       ours beside three servers of NATS JetStream, in turn, five rounds; needs Go to build their server
  rabbitmq   ours beside three nodes of RabbitMQ, in turn, five rounds; installs Debian's package

CONCLAVE_BENCH_SECONDS sets the length of a measured round (default 10).
";

/// One thread: the generator shares two cores with everything it measures, and one does far more than is asked of it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let what = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    match run(&what).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(what: &str) -> Result<()> {
    let known = ["all", "idle", "one", "open", "send", "receive", "echo", "paper", "broadcast", "follow"];
    let apart = ["failover", "transfer", "restart", "waiting"];
    if !known.contains(&what) && !apart.contains(&what) {
        bail!("there is no bench `{what}`\n\n{USAGE}");
    }
    let asked = |name: &str| what == "all" || what == name;
    let mut bench = Bench::start().await?;
    let mut rows: Vec<Row> = Vec::new();
    if asked("idle") {
        rows.extend(idle::run(&bench).await?);
    }
    if asked("one") {
        rows.extend(send::one(&bench).await?);
    }
    if asked("open") {
        rows.extend(open_loop::run(&bench).await?);
    }
    if asked("send") {
        rows.extend(send::run(&bench).await?);
    }
    if asked("receive") {
        rows.extend(receive::run(&bench).await?);
    }
    if asked("echo") {
        rows.extend(document::echo(&bench).await?);
    }
    if asked("paper") {
        rows.extend(document::paper(&bench).await?);
    }
    if asked("broadcast") {
        rows.extend(fan_out::run(&bench, Lane::Ephemeral).await?);
    }
    if asked("follow") {
        rows.extend(fan_out::run(&bench, Lane::Durable).await?);
    }
    rows.extend(match what {
        "failover" => availability::failover(&mut bench).await?,
        "transfer" => availability::transfer(&mut bench).await?,
        "restart" => restart::run(&mut bench).await?,
        "waiting" => waiting::run(&bench).await?,
        _ => Vec::new(),
    });
    let path = report::publish(Path::new(RESULTS), what, &rows)?;
    println!("\n{}\n{}", report::machine(), path.display());
    Ok(())
}
