//! What a host counts, as text for Prometheus on its internal listener.
//!
//! Made whenever it is asked for, from the host's status, where nothing is counted twice, and from what the leaders of
//! shards count of their queues. No table is read for it. It shows numbers only, so it needs no proof of the cluster
//! token.

use std::fmt::Write;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use conclave_proto::internal::v1::{GetHostStatusResponse, ShardStatus};
use tonic::service::Routes;

use crate::admin::Admin;
use crate::queue_counts::QueueFigures;

/// Where it is found.
const PATH: &str = "/metrics";
const FORMAT: &str = "text/plain; version=0.0.4";

/// Kind of a metric, as Prometheus names it.
enum Kind {
    Gauge,
    Counter,
}

/// Adds the page to what a listener serves.
pub fn add_page(mut routes: Routes, admin: Admin) -> Routes {
    let page = axum::routing::get(move || async move {
        ([(CONTENT_TYPE, FORMAT)], text(&admin.status(), &admin.queue_figures())).into_response()
    });
    let router = routes.axum_router_mut();
    *router = std::mem::take(router).route(PATH, page);
    routes
}

fn text(status: &GetHostStatusResponse, queues: &[QueueFigures]) -> String {
    let replicas: Vec<&ShardStatus> = status.shards.iter().collect();
    let count = |holds: fn(&ShardStatus) -> bool| replicas.iter().filter(|replica| holds(replica)).count() as u64;
    let engine = status.engine.clone().unwrap_or_default();
    let mut page = Page::default();
    page.one("conclave_replicas", Kind::Gauge, "Replicas of shards on this host.", replicas.len() as u64);
    page.one("conclave_leaderships", Kind::Gauge, "Shards that this host leads.", count(|replica| replica.leading));
    let stopped = replicas.iter().map(|replica| (replica.shard, u64::from(replica.stopped_reason.is_some())));
    let help = "Whether the replica broke or could not be opened.";
    page.by_shard("conclave_replica_stopped", Kind::Gauge, help, stopped);
    page.one("conclave_store_number", Kind::Gauge, "Number of the store in use, from 1.", status.store.into());
    let condemned = u64::from(status.store.saturating_sub(1));
    page.one("conclave_stores_condemned_total", Kind::Counter, "Stores that were condemned or lost.", condemned);
    page.one("conclave_log_syncs_total", Kind::Counter, "Syncs of the write-ahead log since the start.", engine.syncs);
    page.one("conclave_wal_bytes_total", Kind::Counter, "Bytes written to it since the start.", engine.wal_bytes);
    let rebuilds = "Groups led here that got the voters that the table lists, since the start.";
    page.one("conclave_rebuilds_total", Kind::Counter, rebuilds, status.rebuilds);
    add_queues(&mut page, queues);
    page.0
}

/// Of the queues of each shard.
fn add_queues(page: &mut Page, queues: &[QueueFigures]) {
    let mut of_each = |name, kind, help, value: fn(&QueueFigures) -> u64| {
        page.by_shard(name, kind, help, queues.iter().map(|figures| (figures.shard, value(figures))));
    };
    let help = "Items sent to queues of the shard while it was led here, since the start; duplicates left out.";
    of_each("conclave_queue_items_sent_total", Kind::Counter, help, |of| of.tally.sent);
    let help = "Deliveries of items while the shard was led here, since the start.";
    of_each("conclave_queue_items_delivered_total", Kind::Counter, help, |of| of.tally.delivered);
    let help = "Deliveries acknowledged, or taken at most once, while the shard was led here, since the start.";
    of_each("conclave_queue_items_acked_total", Kind::Counter, help, |of| of.tally.acked);
    let help = "Deliveries given back without a reject while the shard was led here, since the start.";
    of_each("conclave_queue_items_given_back_total", Kind::Counter, help, |of| of.tally.given_back);
    let help = "Deliveries rejected while the shard was led here, since the start.";
    of_each("conclave_queue_items_rejected_total", Kind::Counter, help, |of| of.tally.rejected);
    let help = "Receives and consumers in line for an item; 0 where the shard is not led.";
    of_each("conclave_queue_receivers_waiting", Kind::Gauge, help, |of| of.takers.waiting);
    let help = "Receives and consumers that wait because they hold as much as they may; 0 where the shard is not led.";
    of_each("conclave_queue_receivers_full", Kind::Gauge, help, |of| of.takers.full);
    let help = "Open streams of deliveries; 0 where the shard is not led.";
    of_each("conclave_queue_delivery_streams", Kind::Gauge, help, |of| of.takers.streams);
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn by_shard(&mut self, name: &str, kind: Kind, help: &str, values: impl Iterator<Item = (u32, u64)>) {
        self.head(name, kind, help);
        for (shard, value) in values {
            let _ = writeln!(self.0, "{name}{{shard=\"{shard}\"}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue_counts::{Takers, Tally};

    #[test]
    fn what_the_host_knows_shows() {
        let replica = |shard, leading, stopped: Option<&str>| ShardStatus {
            shard,
            leading,
            stopped_reason: stopped.map(str::to_owned),
            ..ShardStatus::default()
        };
        let shards = vec![replica(0, true, None), replica(3, false, Some("an entry nobody understands"))];
        let status = GetHostStatusResponse { shards, store: 3, rebuilds: 7, ..GetHostStatusResponse::default() };
        let tally = Tally { sent: 5, delivered: 4, acked: 3, given_back: 2, rejected: 1 };
        let takers = Takers { waiting: 6, full: 7, streams: 8 };
        let page = text(&status, &[QueueFigures { shard: 9, tally, takers }]);
        let shows = |line: &str| assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        shows("conclave_replicas 2");
        shows("conclave_leaderships 1");
        shows("conclave_replica_stopped{shard=\"0\"} 0");
        shows("conclave_replica_stopped{shard=\"3\"} 1");
        shows("conclave_store_number 3");
        shows("conclave_stores_condemned_total 2");
        shows("conclave_rebuilds_total 7");
        shows("conclave_queue_items_sent_total{shard=\"9\"} 5");
        shows("conclave_queue_items_delivered_total{shard=\"9\"} 4");
        shows("conclave_queue_items_acked_total{shard=\"9\"} 3");
        shows("conclave_queue_items_given_back_total{shard=\"9\"} 2");
        shows("conclave_queue_items_rejected_total{shard=\"9\"} 1");
        shows("conclave_queue_receivers_waiting{shard=\"9\"} 6");
        shows("conclave_queue_receivers_full{shard=\"9\"} 7");
        shows("conclave_queue_delivery_streams{shard=\"9\"} 8");
        let named = |mark: &str| page.lines().filter(|line| line.starts_with(mark)).count();
        assert_eq!((named("# HELP "), named("# TYPE ")), (16, 16));
    }
}
