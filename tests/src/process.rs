//! One process of a cluster, and what can be done to it from outside.
//!
//! It keeps the command it was started with, so that it can be started again as the same node. Its output goes to a
//! file that all its lives share. Dropping it kills it.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use conclave_workload::patience::POLL;

/// SIGTERM, then the process has this long to hand over and end.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How a process is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program and its arguments.
    pub command: Vec<String>,
    pub environment: Vec<(String, String)>,
}

#[derive(Debug)]
pub struct Process {
    name: String,
    launch: Launch,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    pub fn new(name: String, launch: Launch, log: PathBuf) -> Process {
        Process { name, launch, log, child: None }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let [program, arguments @ ..] = self.launch.command.as_slice() else { bail!("{} has no command", self.name) };
        let mut command = Command::new(program);
        command.args(arguments).envs(self.launch.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("start {program}"))?);
        Ok(())
    }

    /// The same command, with other surroundings at its next start.
    pub fn set_environment(&mut self, key: &str, value: Option<&str>) {
        self.launch.environment.retain(|(known, _)| known != key);
        self.launch.environment.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL: the process gets no chance to do anything. Returns without waiting for its end: see [`Process::reap`].
    pub fn kill(&mut self) -> Result<()> {
        self.child.as_mut().with_context(|| format!("{} does not run", self.name))?.kill()?;
        Ok(())
    }

    /// Waits for the end of a process that was killed.
    pub fn reap(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().with_context(|| format!("{} does not run", self.name))?;
        Ok(child.wait()?)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        kill_process(Pid::from_child(child), signal).with_context(|| format!("{signal:?} to {}", self.name))
    }

    /// SIGTERM, and waits for the process to end well by itself.
    pub async fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let until = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = self.ended()? {
                ensure!(status.success(), "{} ended with {status}", self.name);
                return Ok(());
            }
            if Instant::now() > until {
                self.kill()?;
                self.reap()?;
                bail!("{} did not end within {STOP_WITHIN:?} of SIGTERM", self.name);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Its status, if it was started and has ended by itself; it does not run from then on.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// What it has printed in all its lives.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A paused process is killed too; neither call can fail for a child of ours.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
