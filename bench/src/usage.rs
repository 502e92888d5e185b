//! What processes and disks did, read from the kernel.

use std::fs;
use std::path::Path;

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

/// Bytes that several processes wrote to files, to be compared with a later reading.
///
/// The kernel counts the pages that a process made dirty, whole ones, however little of each changed: what a disk gets,
/// unless a file is deleted first.
#[derive(Debug, Clone)]
pub struct Written {
    bytes: Vec<(String, u32, u64)>,
}

impl Written {
    pub fn read(processes: &[(String, u32)]) -> Result<Written> {
        let bytes = processes.iter().map(|(name, pid)| Ok((name.clone(), *pid, written_bytes(*pid)?)));
        Ok(Written { bytes: bytes.collect::<Result<_>>()? })
    }

    /// Bytes written since this reading, by process.
    pub fn since(&self) -> Result<Vec<(String, u64)>> {
        self.bytes.iter().map(|(name, pid, before)| Ok((name.clone(), written_bytes(*pid)? - before))).collect()
    }
}

fn written_bytes(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let value = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).context("io has no write_bytes")?;
    Ok(value.trim().parse()?)
}

/// Flushes that all real disks of the machine have done so far: what a sync comes to in the end, whoever asked for it.
/// None where the kernel does not count them.
pub fn disk_flushes() -> Result<Option<u64>> {
    let disks = fs::read_to_string("/proc/diskstats")?;
    let is_real = |name: &str| Path::new(&format!("/sys/block/{name}/device")).exists();
    let flushes = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2).filter(|name| is_real(name)).and(fields.get(18)?.parse::<u64>().ok())
    };
    Ok(disks.lines().filter_map(flushes).reduce(|all, disk| all + disk))
}

/// Processor time of the whole machine, to be compared with a later reading.
#[derive(Debug, Clone, Copy)]
pub struct MachineUsage {
    busy_seconds: f64,
    all_seconds: f64,
}

impl MachineUsage {
    pub fn read() -> Result<MachineUsage> {
        let stat = fs::read_to_string("/proc/stat")?;
        let cpu = stat.lines().find_map(|line| line.strip_prefix("cpu ")).context("no line of all processors")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; the guests' time behind them is in the user's.
        let ticks: Vec<f64> = cpu.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>()?;
        let all_seconds = ticks.iter().sum::<f64>() / TICKS_PER_SECOND;
        let unused_seconds = (ticks[3] + ticks[4]) / TICKS_PER_SECOND;
        Ok(MachineUsage { busy_seconds: all_seconds - unused_seconds, all_seconds })
    }

    /// What others than the measured processes used since this reading, as a share of the machine.
    pub fn share_of_others(&self, measured_seconds: f64) -> Result<f64> {
        let now = MachineUsage::read()?;
        let others = now.busy_seconds - self.busy_seconds - measured_seconds;
        Ok((others / (now.all_seconds - self.all_seconds)).max(0.0))
    }
}
