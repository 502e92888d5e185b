//! Runs a test in namespaces of its own: network, mounts and processes.
//!
//! Bridges, firewall rules, mounted images and servers then exist for the test alone and end with it, however it ends:
//! when the first process of a process namespace is killed, the kernel kills all others, and what was mounted or
//! plugged goes with the last of them. The test executable starts itself again through `unshare`, because a process
//! cannot enter a process namespace and a thread must not be moved alone without unsafe code.
//!
//! Where the rights or tools are missing, the test says so aloud and counts as skipped. A test that needs nothing of the
//! kind runs where it is. One such test at a time: two clusters on two cores would measure each other.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::clock;
use super::tools::{has_tool, tool, tool_line};

/// Set in the process that runs inside.
const INSIDE: &str = "CONCLAVE_ENCLOSED_TEST";
/// Namespaces of a test: those of its network, its mounts and its processes, which all end when the first one ends.
const UNSHARE: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

static ALONE: Mutex<()> = Mutex::new(());

/// What a test needs of the machine beside the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Loop devices with ext4 on them, and the ioctl that shuts a filesystem down.
    Images,
    /// Virtual wires, a bridge, and a firewall on each end.
    Wires,
    /// A library that shows a process another time.
    Clocks,
}

/// Runs `test`, whose name is that of the function that calls this, inside. Panics when it fails or takes too long.
pub fn enclosed<F>(name: &str, needs: &[Need], within: Duration, test: impl FnOnce() -> F)
where
    F: Future<Output = Result<()>>,
{
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ran = if needs.is_empty() {
        run(within, test)
    } else if std::env::var_os(INSIDE).is_some() {
        prepare_inside().and_then(|()| run(within, test))
    } else if let Err(lack) = check(needs) {
        return say_skipped(name, &format!("{lack:#}"));
    } else {
        run_again_inside(name)
    };
    if let Err(error) = ran {
        // Without its backtrace, which says nothing that the contexts do not.
        panic!("{error:#}");
    }
}

/// Names of network namespaces are files below /run, which must be this test's own. So must be /dev/shm, where
/// libfaketime names what a process keeps there by its id, and ids begin anew in each namespace. And a new network has no
/// loopback.
fn prepare_inside() -> Result<()> {
    tool_line("mount -t tmpfs tmpfs /run")?;
    tool_line("mount -t tmpfs tmpfs /dev/shm")?;
    tool_line("ip link set lo up").map(drop)
}

fn run<F: Future<Output = Result<()>>>(within: Duration, test: impl FnOnce() -> F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(within, test()).await.context("the test took too long")? })
}

fn run_again_inside(name: &str) -> Result<()> {
    let executable = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    command.args(UNSHARE).arg(executable).args(["--exact", name, "--nocapture", "--test-threads", "1"]);
    // Its standard output holds a result line that would be counted beside ours.
    command.env(INSIDE, name).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = command.spawn()?.wait_with_output()?;
    if output.status.success() && String::from_utf8_lossy(&output.stdout).contains(" 1 passed") {
        return Ok(());
    }
    Err(anyhow!("inside its namespaces it ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stdout)))
}

fn check(needs: &[Need]) -> Result<()> {
    require_tools(&["unshare", "mount", "ip"])?;
    inside("true").context("no right to make namespaces")?;
    for need in needs {
        match need {
            Need::Images => {
                require_tools(&["mkfs.ext4", "umount", "losetup", "perl"])?;
                inside("losetup --find").context("no right to use loop devices")?;
            }
            Need::Wires => {
                require_tools(&["nsenter", "iptables"])?;
                inside("ip link add bridge-test type bridge && iptables --list")
                    .context("no right to bridges or firewalls")?;
            }
            Need::Clocks => {
                clock::library()?;
            }
        }
    }
    Ok(())
}

fn require_tools(names: &[&str]) -> Result<()> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !has_tool(name)).collect();
    anyhow::ensure!(missing.is_empty(), "not installed: {} (cargo xtask setup installs them)", missing.join(", "));
    Ok(())
}

fn inside(script: &str) -> Result<()> {
    let script = format!("mount -t tmpfs tmpfs /run && {script}");
    tool("unshare", &[&UNSHARE[..], &["sh", "-c", &script]].concat()).map(drop)
}

/// Past the capture of the test's output, on lines of their own: people read the one, the task runner counts the other.
fn say_skipped(name: &str, reason: &str) {
    let reason = reason.replace('\n', " ");
    // A terminal that is gone is no reason to fail.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {name}: {reason}");
    let _ = writeln!(std::io::stdout(), "\nskipped: {name}: {reason}");
}
