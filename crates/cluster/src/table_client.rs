//! Follows the table and the leader hints of a cluster from outside its metadata group: gateways, and hosts that hold
//! no replica of it.
//!
//! The table comes from members of the metadata group, two at a time, because a single one may be cut off from the
//! others without knowing it; only a newer revision replaces an older one. Others serve the table too, but only for
//! seconds at a time: hosts that follow each other in a ring would never hear anything new. Leader hints come from every
//! host, each speaking for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conclave_types::GroupId;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::TableWatch;
use crate::client::{MetaClient, MetaClientError, Pause};
use crate::leaders::{LeaderHint, LeaderHints};
use crate::table::{ClusterTable, NodeState};
use crate::token::ClusterToken;

/// Hosts the table is followed from at once.
const TABLE_STREAMS: usize = 2;
/// How long a host outside the metadata group is listened to before a member is tried again.
const RELAY_LIFE: Duration = Duration::from_secs(10);

/// A cluster as seen from outside. Stops when dropped.
pub struct TableClient {
    follower: Arc<Follower>,
    table: TableWatch,
    leaders: watch::Receiver<Arc<LeaderHints>>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
    _cancel_on_drop: DropGuard,
}

impl TableClient {
    /// Starts to follow the cluster that the hosts at `seeds` belong to. Must be called within a runtime.
    pub fn start(seeds: Vec<String>, token: ClusterToken) -> TableClient {
        TableClient::start_with(seeds, MetaClient::new(token))
    }

    /// Starts to follow the cluster by a client of the caller's.
    pub fn start_with(seeds: Vec<String>, client: MetaClient) -> TableClient {
        let (table_sender, table) = watch::channel(None);
        let (leaders_sender, leaders) = watch::channel(Arc::default());
        let cancelled = CancellationToken::new();
        let tasks = TaskTracker::new();
        let follower = Arc::new(Follower {
            client,
            seeds,
            table: table_sender,
            leaders: leaders_sender,
            tasks: tasks.clone(),
            cancelled: cancelled.clone(),
        });
        for turn in 0..TABLE_STREAMS {
            follower.spawn(follower.clone().follow_table(turn));
        }
        follower.spawn(follower.clone().follow_all_leaders());
        TableClient {
            follower,
            table,
            leaders,
            tasks,
            cancelled: cancelled.clone(),
            _cancel_on_drop: cancelled.drop_guard(),
        }
    }

    /// Takes a table that came another way.
    pub(crate) fn offer(&self, table: Arc<ClusterTable>) {
        self.follower.take_table(table, "this host");
    }

    /// The newest table; none until the cluster exists and one of its hosts was reached.
    pub fn table(&self) -> TableWatch {
        self.table.clone()
    }

    /// Who leads what, as far as the hosts have said.
    pub fn leaders(&self) -> watch::Receiver<Arc<LeaderHints>> {
        self.leaders.clone()
    }

    pub async fn shutdown(&self) {
        self.cancelled.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Follower {
    client: MetaClient,
    seeds: Vec<String>,
    table: watch::Sender<Option<Arc<ClusterTable>>>,
    leaders: watch::Sender<Arc<LeaderHints>>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

impl Follower {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancelled = self.cancelled.clone();
        self.tasks.spawn(async move {
            cancelled.run_until_cancelled(work).await;
        });
    }

    async fn follow_table(self: Arc<Self>, first_turn: usize) {
        let mut turn = first_turn;
        let mut pause = Pause::default();
        loop {
            let sources = self.table_sources();
            let Some(source) = sources.get(turn % sources.len().max(1)) else { return };
            let heard = match source {
                Source::Member(address) => self.hear_tables(address).await,
                Source::Other(address) => match timeout(RELAY_LIFE, self.hear_tables(address)).await {
                    Ok(heard) => heard,
                    Err(_) => Heard::Something,
                },
            };
            turn = turn.wrapping_add(1);
            match heard {
                Heard::Something => pause.reset(),
                Heard::Nothing => {}
            }
            pause.wait().await;
        }
    }

    /// Members of the metadata group first, then everybody else who was named to us.
    fn table_sources(&self) -> Vec<Source> {
        let table = self.table.borrow().clone();
        let members: Vec<String> = match &table {
            Some(table) => table.members(GroupId::META).map(|(_, node)| node.address.clone()).collect(),
            None => Vec::new(),
        };
        let others = self.seeds.iter().filter(|seed| !members.contains(seed)).cloned().map(Source::Other);
        let others: Vec<Source> = others.collect();
        members.into_iter().map(Source::Member).chain(others).collect()
    }

    /// Takes tables in until the stream ends.
    async fn hear_tables(&self, address: &str) -> Heard {
        let known = self.table.borrow().as_ref().map(|table| table.revision).unwrap_or_default();
        let mut heard = Heard::Nothing;
        let ended = async {
            let mut stream = self.client.watch_table(address, known).await?;
            while let Some(response) =
                stream.message().await.map_err(|status| crate::client::failure(address, &status))?
            {
                let table = ClusterTable::from_wire(response.table.unwrap_or_default())
                    .map_err(|error| MetaClientError::Refused { reason: error.to_string() })?;
                self.take_table(Arc::new(table), address);
                heard = Heard::Something;
            }
            Ok(())
        };
        log_end(address, ended.await);
        heard
    }

    fn take_table(&self, table: Arc<ClusterTable>, address: &str) {
        self.table.send_if_modified(|current| match current {
            Some(current) if current.cluster != table.cluster => {
                tracing::error!(address, ours = %current.cluster, theirs = %table.cluster, "a host serves another cluster");
                false
            }
            Some(current) if current.revision >= table.revision => false,
            _ => {
                *current = Some(table);
                true
            }
        });
    }

    /// Keeps one stream of hints to every host that is known at the moment.
    async fn follow_all_leaders(self: Arc<Self>) {
        let mut table = self.table.subscribe();
        let mut followed: BTreeMap<String, DropGuard> = BTreeMap::new();
        loop {
            let wanted = self.hosts(table.borrow_and_update().as_deref());
            followed.retain(|address, _| wanted.contains(address));
            for address in wanted {
                followed.entry(address.clone()).or_insert_with(|| {
                    let cancelled = self.cancelled.child_token();
                    let follower = self.clone();
                    let own = cancelled.clone();
                    self.tasks.spawn(async move {
                        own.run_until_cancelled(follower.follow_leaders(&address)).await;
                    });
                    cancelled.drop_guard()
                });
            }
            if table.changed().await.is_err() {
                return;
            }
        }
    }

    /// The hosts of the table; before there is one, the seeds.
    fn hosts(&self, table: Option<&ClusterTable>) -> BTreeSet<String> {
        match table {
            Some(table) => {
                let here = table.nodes.values().filter(|node| node.state != NodeState::Gone);
                here.map(|node| node.address.clone()).collect()
            }
            None => self.seeds.iter().cloned().collect(),
        }
    }

    async fn follow_leaders(&self, address: &str) {
        let mut pause = Pause::default();
        loop {
            match self.hear_leaders(address).await {
                Heard::Something => pause.reset(),
                Heard::Nothing => {}
            }
            pause.wait().await;
        }
    }

    async fn hear_leaders(&self, address: &str) -> Heard {
        let mut heard = Heard::Nothing;
        let ended = async {
            let mut stream = self.client.watch_leaders(address).await?;
            while let Some(response) =
                stream.message().await.map_err(|status| crate::client::failure(address, &status))?
            {
                let hints: Result<Vec<LeaderHint>, _> =
                    response.leaders.into_iter().map(LeaderHint::from_wire).collect();
                let hints = hints.map_err(|error| MetaClientError::Refused { reason: error.to_string() })?;
                self.leaders.send_if_modified(|known| Arc::make_mut(known).merge(hints));
                heard = Heard::Something;
            }
            Ok(())
        };
        log_end(address, ended.await);
        heard
    }
}

enum Source {
    Member(String),
    Other(String),
}

/// Whether a stream brought anything before it ended; one that did is tried again soon.
enum Heard {
    Something,
    Nothing,
}

fn log_end(address: &str, ended: Result<(), MetaClientError>) {
    match ended {
        // These do not heal by waiting: a person must look.
        Err(error @ (MetaClientError::Token { .. } | MetaClientError::Refused { .. })) => {
            tracing::warn!(address, %error, "a host cannot be followed");
        }
        Err(error) => tracing::debug!(address, %error, "a host is not reached"),
        Ok(()) => tracing::debug!(address, "a host ended its stream"),
    }
}
