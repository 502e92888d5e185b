//! Our own cluster, measured as `cargo xtask bench send` and `receive` do, with bytes that do not compress.

use anyhow::Result;
use conclave_bench::bench::Bench;
use conclave_bench::load::Payload;
use conclave_bench::probe::Round;
use conclave_bench::{receive, send};

use crate::cluster::Cluster;

pub struct Ours {
    bench: Bench,
}

impl Ours {
    pub async fn start() -> Result<Ours> {
        Ok(Ours { bench: Bench::start().await? })
    }
}

impl Cluster for Ours {
    async fn send(&self, queue: &str, clients: usize, window: usize) -> Result<Round> {
        send::round(&self.bench, queue, clients, window, Payload::Noise).await
    }

    async fn receive(&self, queue: &str) -> Result<Round> {
        receive::round(&self.bench, queue, Payload::Noise).await
    }
}
