//! What a host counts, as text for Prometheus on its internal listener.
//!
//! Made from the host's status whenever it is asked for: nothing is counted twice. It shows numbers only, so it needs no
//! proof of the cluster token.

use std::fmt::Write;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use conclave_proto::internal::v1::{GetHostStatusResponse, ShardStatus};
use tonic::service::Routes;

use crate::admin::Admin;

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
    let page =
        axum::routing::get(move || async move { ([(CONTENT_TYPE, FORMAT)], text(&admin.status())).into_response() });
    let router = routes.axum_router_mut();
    *router = std::mem::take(router).route(PATH, page);
    routes
}

fn text(status: &GetHostStatusResponse) -> String {
    let replicas: Vec<&ShardStatus> = status.shards.iter().collect();
    let count = |holds: fn(&ShardStatus) -> bool| replicas.iter().filter(|replica| holds(replica)).count() as u64;
    let engine = status.engine.clone().unwrap_or_default();
    let mut page = Page::default();
    page.one("conclave_replicas", Kind::Gauge, "Replicas of shards on this host.", replicas.len() as u64);
    page.one("conclave_leaderships", Kind::Gauge, "Shards that this host leads.", count(|replica| replica.leading));
    page.head("conclave_replica_stopped", Kind::Gauge, "Whether the replica broke or could not be opened.");
    for replica in &replicas {
        page.shard("conclave_replica_stopped", replica.shard, u64::from(replica.stopped_reason.is_some()));
    }
    page.one("conclave_store_number", Kind::Gauge, "Number of the store in use, from 1.", status.store.into());
    let condemned = u64::from(status.store.saturating_sub(1));
    page.one("conclave_stores_condemned_total", Kind::Counter, "Stores that were condemned or lost.", condemned);
    page.one("conclave_log_syncs_total", Kind::Counter, "Syncs of the write-ahead log since the start.", engine.syncs);
    page.one("conclave_wal_bytes_total", Kind::Counter, "Bytes written to it since the start.", engine.wal_bytes);
    let rebuilds = "Groups led here that got the voters that the table lists, since the start.";
    page.one("conclave_rebuilds_total", Kind::Counter, rebuilds, status.rebuilds);
    page.0
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

    fn shard(&mut self, name: &str, shard: u32, value: u64) {
        let _ = writeln!(self.0, "{name}{{shard=\"{shard}\"}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_replica_and_a_condemned_store_show() {
        let replica = |shard, leading, stopped: Option<&str>| ShardStatus {
            shard,
            leading,
            stopped_reason: stopped.map(str::to_owned),
            ..ShardStatus::default()
        };
        let shards = vec![replica(0, true, None), replica(3, false, Some("an entry nobody understands"))];
        let page = text(&GetHostStatusResponse { shards, store: 3, rebuilds: 7, ..GetHostStatusResponse::default() });
        let shows = |line: &str| assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        shows("conclave_replicas 2");
        shows("conclave_leaderships 1");
        shows("conclave_replica_stopped{shard=\"0\"} 0");
        shows("conclave_replica_stopped{shard=\"3\"} 1");
        shows("conclave_store_number 3");
        shows("conclave_stores_condemned_total 2");
        shows("conclave_rebuilds_total 7");
        let named = |mark: &str| page.lines().filter(|line| line.starts_with(mark)).count();
        assert_eq!((named("# HELP "), named("# TYPE ")), (8, 8));
    }
}
