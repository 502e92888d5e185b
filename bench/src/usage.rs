//! What processes used, read from the kernel: CPU time and resident memory.

use std::fs;

use anyhow::{Context, Result};

/// The kernel counts CPU time in these ticks on every Linux this runs on (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds a process has used so far, user and system.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name is in brackets and may hold anything; fields are counted behind it.
    let behind = stat.rsplit_once(')').context("stat has no command name")?.1;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// Resident memory of a process in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("status has no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmRSS has no value")?.parse()?;
    Ok(kib / 1024.0)
}

/// CPU seconds of several processes, to be compared with a later reading.
#[derive(Debug, Clone)]
pub struct Usage {
    seconds: Vec<(String, u32, f64)>,
}

impl Usage {
    pub fn read(processes: &[(String, u32)]) -> Result<Usage> {
        let seconds = processes.iter().map(|(name, pid)| Ok((name.clone(), *pid, cpu_seconds(*pid)?)));
        Ok(Usage { seconds: seconds.collect::<Result<_>>()? })
    }

    /// CPU seconds used since this reading, by process.
    pub fn since(&self) -> Result<Vec<(String, f64)>> {
        self.seconds.iter().map(|(name, pid, before)| Ok((name.clone(), cpu_seconds(*pid)? - before))).collect()
    }
}
