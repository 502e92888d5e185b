//! The processes of a peer: how they are started, and how they are named in results.

use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context, Result};
use conclave_tests::process::{Launch, Process};

use crate::cluster::Processes;

/// Servers of a peer's cluster; as many as we have hosts.
pub const SERVERS: usize = 3;
/// Before a command: it becomes that command, which is killed when this program ends, however that is.
pub const BOUND_TO_US: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// Starts a process that ends when it is dropped, and also when this program is killed.
///
/// The command must become the server itself, without a process between.
pub fn start(name: &str, command: &[&str], environment: &[(&str, String)], folder: &Path) -> Result<Process> {
    let launch = Launch {
        command: BOUND_TO_US.iter().chain(command).map(|word| (*word).to_owned()).collect(),
        environment: environment.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    };
    let mut process = Process::new(name.to_owned(), launch, folder.join(format!("{name}.log")));
    process.start()?;
    Ok(process)
}

/// Fails as long as nobody listens there.
pub fn listens(address: &str) -> Result<()> {
    TcpStream::connect(address).map(drop).with_context(|| format!("nobody listens on {address}"))
}

/// Fails with the end of its log once a server has ended.
pub fn all_run(servers: &mut [Process]) -> Result<()> {
    for server in servers {
        if let Some(status) = server.ended()? {
            let log = server.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(20);
            anyhow::bail!("{} ended with {status}\n{}", server.name(), lines[from..].join("\n"));
        }
    }
    Ok(())
}

/// Named by what they are to the queue that `leader` leads.
pub fn processes(servers: &[Process], leader: usize) -> Result<Processes> {
    let mut named = vec![("generator".to_owned(), std::process::id())];
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by_key(|server| *server != leader);
    for (place, server) in order.into_iter().enumerate() {
        let name = if place == 0 { "leader".to_owned() } else { format!("follower {place}") };
        named.push((name, servers[server].pid().context("a server does not run")?));
    }
    Ok(named)
}
