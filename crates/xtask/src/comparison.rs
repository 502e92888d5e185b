//! `cargo xtask bench nats` and `bench rabbitmq`: brings the other system here, then measures ours beside it.
//!
//! RabbitMQ comes as Debian's package (see [`setup`]). NATS has no package that is current: its server is built from the
//! release that `bench/compare/nats/go.mod` pins, with the Go toolchain, and kept beside the target directory.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::Cargo;
use crate::setup::{self, Purpose};
use crate::{ONE_WORKER, replace_process};

/// The folder of the pin, from the root of the workspace.
const PIN: &str = "bench/compare/nats";
const MODULE: &str = "github.com/nats-io/nats-server/v2";
/// Where the toolchain's own instructions put it, which is not on everybody's path.
const GO_INSTALLED: &str = "/usr/local/go/bin";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Nats,
    RabbitMq,
}

impl Peer {
    /// The peer that these arguments of `bench` ask for, if any.
    pub fn named(arguments: &[String]) -> Option<Peer> {
        [Peer::Nats, Peer::RabbitMq].into_iter().find(|peer| arguments.first().is_some_and(|name| name == peer.name()))
    }

    pub fn purpose(self) -> Purpose {
        match self {
            // What it needs beyond the build is no package.
            Peer::Nats => Purpose::Build,
            Peer::RabbitMq => Purpose::RabbitMq,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Peer::Nats => "nats",
            Peer::RabbitMq => "rabbitmq",
        }
    }
}

/// Becomes the comparison.
pub fn run(cargo: &Cargo, peer: Peer) -> Result<ExitCode> {
    let server = match peer {
        Peer::Nats => Some(nats_server(cargo)?),
        Peer::RabbitMq => None,
    };
    let product = cargo.build_product()?;
    let mut command = Command::new(cargo.build_comparison()?);
    command.arg(peer.name()).env("CONCLAVE_BIN", product).envs([ONE_WORKER]).current_dir(cargo.root());
    command.envs(server.map(|server| ("CONCLAVE_NATS_SERVER", server)));
    replace_process(command)
}

/// The pinned server, built unless it was before.
fn nats_server(cargo: &Cargo) -> Result<PathBuf> {
    let pin = cargo.root().join(PIN);
    let pinned = std::fs::read_to_string(pin.join("go.mod")).context("cannot read the pin")?;
    let version = pinned_version(&pinned).with_context(|| format!("{PIN}/go.mod names no version of {MODULE}"))?;
    let server = cargo.tools().join(format!("nats-server-{version}"));
    if !server.is_file() {
        build(&pin, &server).with_context(|| toolchain_wanted(&pinned))?;
    }
    Ok(server)
}

fn build(pin: &Path, server: &Path) -> Result<()> {
    let go = setup::find("go", &[GO_INSTALLED.into()]).context("there is no `go` on the path")?;
    println!("== building {}", server.display());
    std::fs::create_dir_all(server.parent().unwrap_or(server)).context("cannot make the folder of tools")?;
    // Not `with_extension`: the version's last part would count as one.
    let unfinished = server.with_file_name("nats-server.next");
    let mut command = Command::new(go);
    command.args(["build", "-mod=readonly", "-o"]).arg(&unfinished).arg(MODULE);
    let status = command.current_dir(pin).stdin(Stdio::null()).status().context("cannot run go")?;
    if !status.success() {
        bail!("nats-server does not build: {status}");
    }
    std::fs::rename(&unfinished, server).context("cannot keep nats-server")
}

fn toolchain_wanted(go_mod: &str) -> String {
    let version = go_mod.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("of a later version");
    format!(
        "the comparison with NATS builds its server with Go {version}, or any from 1.21 on that may fetch that one; \
         Debian's package golang is too old: take it from https://go.dev/dl and put its bin folder on the path"
    )
}

/// The version in a line such as `require github.com/nats-io/nats-server/v2 v2.15.3 // indirect`.
fn pinned_version(go_mod: &str) -> Option<&str> {
    go_mod.lines().find_map(|line| {
        let (_, version) = line.split_once(MODULE)?;
        version.split_whitespace().next().filter(|version| version.starts_with('v'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_requirement_and_not_of_the_tool() {
        let go_mod = "go 1.26.0\n\ntool github.com/nats-io/nats-server/v2\n\nrequire (\n\tgolang.org/x/sys v0.50.0\n\t\
                      github.com/nats-io/nats-server/v2 v2.15.3 // indirect\n)\n";
        assert_eq!(pinned_version(go_mod), Some("v2.15.3"));
        assert!(toolchain_wanted(go_mod).contains("Go 1.26.0"));
    }

    #[test]
    fn only_peers_are_compared() {
        let named = |name: &str| Peer::named(&[name.to_owned()]);
        assert_eq!((named("nats"), named("rabbitmq"), named("send")), (Some(Peer::Nats), Some(Peer::RabbitMq), None));
        assert_eq!(Peer::named(&[]), None);
    }
}
