//! What everything used during a round: processor time and written bytes by process, the stores' counters, and how
//! disturbed it was.
//!
//! A system without [`HostStatus`] is probed with none: then only what the kernel knows is read.

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep_until};

use crate::host_status::{Counters, HostStatus, sum};
use crate::load::Tally;
use crate::report::{Row, Target};
use crate::usage::{MachineUsage, Usage, Written, disk_flushes};

/// Readings at the beginning of a round.
pub struct Probe<'a> {
    hosts: &'a [HostStatus],
    leader: usize,
    tally: &'a Tally,
    operations: u64,
    at: Instant,
    usage: Usage,
    written: Written,
    flushes: Option<u64>,
    machine: MachineUsage,
    counters: Vec<Counters>,
}

/// What a round used.
#[derive(Debug, Clone)]
pub struct Used {
    pub seconds: f64,
    /// Done in these seconds.
    pub operations: u64,
    /// Processor seconds by process.
    pub cpu: Vec<(String, f64)>,
    /// Bytes written to files by process.
    pub written: Vec<(String, u64)>,
    /// Flushes of all disks of the machine.
    pub flushes: Option<u64>,
    /// Share of the machine that others took: compilers, the kernel's own threads.
    pub others: f64,
    pub leader: Counters,
    pub all_hosts: Counters,
}

/// A round: how long each operation took, and what all used.
#[derive(Debug, Clone)]
pub struct Round {
    pub latency_us: Histogram<u64>,
    pub used: Used,
}

impl<'a> Probe<'a> {
    pub async fn begin(
        hosts: &'a [HostStatus],
        processes: Vec<(String, u32)>,
        leader: usize,
        tally: &'a Tally,
    ) -> Result<Probe<'a>> {
        let counters = read(hosts).await?;
        let (written, flushes) = (Written::read(&processes)?, disk_flushes()?);
        let (usage, machine) = (Usage::read(&processes)?, MachineUsage::read()?);
        Ok(Probe {
            hosts,
            leader,
            tally,
            operations: tally.done_by_all(),
            at: Instant::now(),
            usage,
            written,
            flushes,
            machine,
            counters,
        })
    }

    /// Waits for the round to pass and returns what it used.
    pub async fn over_round(
        hosts: &'a [HostStatus],
        processes: Vec<(String, u32)>,
        leader: usize,
        tally: &'a Tally,
    ) -> Result<Used> {
        sleep_until(tally.span.from).await;
        let probe = Probe::begin(hosts, processes, leader, tally).await?;
        sleep_until(tally.span.until).await;
        probe.end().await
    }

    pub async fn end(self) -> Result<Used> {
        let seconds = self.at.elapsed().as_secs_f64();
        let operations = self.tally.done_by_all() - self.operations;
        let cpu = self.usage.since()?;
        let own: f64 = cpu.iter().map(|(_, seconds)| seconds).sum();
        let others = self.machine.share_of_others(own)?;
        let written = self.written.since()?;
        let flushes = disk_flushes()?.zip(self.flushes).map(|(now, before)| now - before);
        let now = read(self.hosts).await?;
        let grown: Vec<Counters> = now.iter().zip(&self.counters).map(|(now, before)| now.since(before)).collect();
        let leader = grown.get(self.leader).cloned().unwrap_or_default();
        Ok(Used { seconds, operations, cpu, written, flushes, others, leader, all_hosts: sum(&grown) })
    }
}

async fn read(hosts: &[HostStatus]) -> Result<Vec<Counters>> {
    let mut counters = Vec::with_capacity(hosts.len());
    for host in hosts {
        counters.push(host.read().await?);
    }
    Ok(counters)
}

/// The round whose rate is the middle one.
pub fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    rounds.swap_remove(rounds.len() / 2)
}

impl Round {
    pub fn rate(&self) -> f64 {
        self.used.operations as f64 / self.used.seconds
    }

    /// Where a round's figures come from, for every row of it.
    pub fn conditions(&self) -> String {
        format!("others took {:.0}% of the machine", self.used.others * 100.0)
    }

    /// Rows of what one operation cost.
    pub fn costs(&self, work: &str, config: &str, budget: &Budget) -> Vec<Row> {
        let mut rows = self.processor_costs(work, config, budget);
        rows.extend(self.store_costs(work, config, budget));
        rows
    }

    fn per_operation(&self, value: f64) -> f64 {
        value / self.used.operations.max(1) as f64
    }

    /// Rows of what one operation cost in processor time.
    pub fn processor_costs(&self, work: &str, config: &str, budget: &Budget) -> Vec<Row> {
        let per_operation = |value| self.per_operation(value);
        let row = |what: &str, value: f64, unit: &str| Row::new(&format!("{work}: {what}"), config, value, unit);
        let mut rows = Vec::new();
        let mut total = 0.0;
        for (process, seconds) in &self.used.cpu {
            let us = per_operation(seconds * 1e6);
            total += us;
            let limit = budget.cpu_us.iter().find(|(name, _)| process.starts_with(name)).map(|(_, us)| *us);
            let cores = format!("{:.2} cores", seconds / self.used.seconds);
            rows.push(row(&format!("CPU {process}"), us, "us/op").at_most(limit).detail(cores));
        }
        rows.push(row("CPU all", total, "us/op").at_most(budget.all_cpu_us).detail(self.conditions()));
        rows
    }

    /// Rows of what one operation cost the disk, as the kernel counts it: the same for every system.
    pub fn disk_costs(&self, work: &str, config: &str) -> Vec<Row> {
        let per_operation = |value: u64| self.per_operation(value as f64);
        let row = |what: &str, value: f64, unit: &str| Row::new(&format!("{work}: {what}"), config, value, unit);
        let servers = || self.used.written.iter().filter(|(process, _)| process != "generator");
        let all: u64 = servers().map(|(_, bytes)| bytes).sum();
        let each: Vec<_> =
            servers().map(|(process, bytes)| format!("{process} {:.0}", per_operation(*bytes))).collect();
        let mut rows = vec![row("written to files, all servers", per_operation(all), "B/op").detail(each.join(", "))];
        let flushes =
            self.used.flushes.map(|flushes| row("flushes of the machine's disks", per_operation(flushes), "/op"));
        rows.extend(flushes);
        rows
    }

    /// Rows of what one operation cost in the hosts' stores, as they count it.
    pub fn store_costs(&self, work: &str, config: &str, budget: &Budget) -> Vec<Row> {
        let per_operation = |value| self.per_operation(value);
        let row = |what: &str, value: f64, unit: &str| Row::new(&format!("{work}: {what}"), config, value, unit);
        let mut rows = Vec::new();
        let (leader, all) = (&self.used.leader, &self.used.all_hosts);
        let fsyncs = per_operation(all.syncs as f64);
        let of_leader = format!("leader {:.4}", per_operation(leader.syncs as f64));
        rows.push(row("fsyncs, all hosts", fsyncs, "/op").at_most(budget.fsyncs).detail(of_leader));
        rows.push(
            row("WAL, all hosts", per_operation(all.wal_bytes as f64), "B/op")
                .detail(format!("leader {:.0}", per_operation(leader.wal_bytes as f64))),
        );
        let operations = per_operation(leader.operations() as f64);
        rows.push(row("puts and deletes, leader", operations, "/op").at_most(budget.operations));
        for (name, family) in leader.families.iter().filter(|(_, family)| family.operations > 0) {
            let of_all = &all.families[name];
            rows.push(
                row(&format!("family {name}, leader"), per_operation(family.written_bytes as f64), "B/op").detail(
                    format!(
                        "{:.3} puts and deletes; all hosts {:.0} B, {:.3}",
                        per_operation(family.operations as f64),
                        per_operation(of_all.written_bytes as f64),
                        per_operation(of_all.operations as f64)
                    ),
                ),
            );
        }
        rows
    }
}

/// Most that an operation may cost; what is absent is only reported.
#[derive(Debug, Default)]
pub struct Budget {
    /// Microseconds of processes whose names begin so.
    pub cpu_us: &'static [(&'static str, f64)],
    pub all_cpu_us: Option<f64>,
    /// On all hosts together.
    pub fsyncs: Option<f64>,
    /// Puts and deletes in the leader's store.
    pub operations: Option<f64>,
}

impl Row {
    fn at_most(self, limit: Option<f64>) -> Row {
        match limit {
            Some(limit) => self.target(Target::AtMost(limit)),
            None => self,
        }
    }
}
