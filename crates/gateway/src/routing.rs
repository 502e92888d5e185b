//! From a room to the host that leads its shard.
//!
//! The table says which hosts hold a shard and in which epoch; hints say which of them leads. Hints are soft: a wrong
//! one costs a hop, never a wrong answer, because a host that does not lead refuses. A host that did not answer is
//! passed over for a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use conclave_cluster::{ClusterTable, NodeState};
use conclave_types::{Clock, NodeUuid, ProjectId, RoomName, ShardId};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long a host that did not answer is passed over while another may be asked.
const SUSPECT_FOR: Duration = Duration::from_secs(1);

/// A host of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHost {
    pub node: NodeUuid,
    /// `host:port` of the listener for forwarded calls.
    pub address: Arc<str>,
}

/// Which hosts hold which shard: what routing reads of the cluster's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardMap {
    /// Of the table it was read from; newer is higher.
    pub revision: u64,
    /// By shard number; in each the replica that should lead stands first.
    pub shards: Vec<Vec<ShardHost>>,
}

impl From<&ClusterTable> for ShardMap {
    fn from(table: &ClusterTable) -> Self {
        let addresses: HashMap<NodeUuid, Arc<str>> = table
            .nodes
            .values()
            .filter(|node| node.state != NodeState::Gone)
            .map(|node| (node.node, node.address.as_str().into()))
            .collect();
        let shards = table.shards.iter().map(|shard| {
            let mut replicas = shard.replicas.clone();
            replicas.sort_by_key(|replica| replica.replica != shard.preferred_leader);
            let host =
                |node: NodeUuid| addresses.get(&node).map(|address| ShardHost { node, address: address.clone() });
            replicas.into_iter().filter_map(|replica| host(replica.node)).collect()
        });
        ShardMap { revision: table.revision.0, shards: shards.collect() }
    }
}

/// Who leads a shard and since which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint {
    pub node: NodeUuid,
    pub term: u64,
}

pub struct Router {
    map: watch::Sender<Option<Arc<ShardMap>>>,
    hints: Mutex<HashMap<ShardId, LeaderHint>>,
    /// Told when a hint says something new.
    news: watch::Sender<()>,
    /// Until when, on the monotonic clock.
    suspects: Mutex<HashMap<NodeUuid, Duration>>,
    clock: Arc<dyn Clock>,
}

impl Router {
    /// A router without a map: it finds nothing until [`Router::replace_map`] is called.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (map, news) = (watch::Sender::new(None), watch::Sender::new(()));
        Router { map, hints: Mutex::default(), news, suspects: Mutex::default(), clock }
    }

    /// Takes a newer map; an older one is ignored.
    pub fn replace_map(&self, map: ShardMap) {
        self.map.send_if_modified(|present| {
            let newer = present.as_ref().is_none_or(|present| present.revision <= map.revision);
            if newer {
                *present = Some(Arc::new(map));
            }
            newer
        });
    }

    pub fn map(&self) -> Option<Arc<ShardMap>> {
        self.map.borrow().clone()
    }

    /// Waits until the map is newer than this revision, or there is one where there was none.
    pub async fn newer_map(&self, revision: Option<u64>) {
        let newer = |map: &Option<Arc<ShardMap>>| map.as_ref().map(|map| map.revision) > revision;
        // The sender is ours, so waiting ends only by a newer map.
        let _ = self.map.subscribe().wait_for(newer).await;
    }

    /// The shard of a room; none while there is no map.
    pub fn shard_of(&self, project: &ProjectId, room: &RoomName) -> Option<ShardId> {
        let shards = u16::try_from(self.map()?.shards.len()).ok()?;
        Some(conclave_placement::shard_of(conclave_placement::slot(project, room), shards))
    }

    /// Notes who leads. An older term than the known one says nothing.
    pub fn learn(&self, shard: ShardId, hint: LeaderHint) {
        let mut hints = self.hints.lock();
        let known = hints.get(&shard);
        if known.is_none_or(|known| hint.term >= known.term && hint != *known) {
            hints.insert(shard, hint);
            drop(hints);
            self.news.send_replace(());
        }
    }

    /// Waits until another leadership of the shard is known than at the moment of the call. Hosts tell of theirs as it
    /// begins, so nobody who waits for an election needs to wait any longer.
    pub async fn news_of_leader(&self, shard: ShardId) {
        let mut news = self.news.subscribe();
        let known = self.hints.lock().get(&shard).copied();
        loop {
            // The sender is ours.
            let _ = news.changed().await;
            let present = self.hints.lock().get(&shard).copied();
            if present.is_some() && present != known {
                return;
            }
        }
    }

    /// Waits until a newer leadership of the shard than known at the moment of the call is known, on another host than
    /// this one. A host that hangs does not say that it was deposed; its successor says it for it.
    pub async fn led_elsewhere(&self, shard: ShardId, node: NodeUuid) -> (ShardHost, u64) {
        let mut news = self.news.subscribe();
        let known_term = self.hints.lock().get(&shard).map_or(0, |hint| hint.term);
        loop {
            let hint = self.hints.lock().get(&shard).copied();
            let newer = hint.filter(|hint| hint.node != node && hint.term > known_term);
            if let Some((hint, host)) = newer.and_then(|hint| Some((hint, self.host_of(shard, hint.node)?))) {
                return (host, hint.term);
            }
            // The sender is ours.
            let _ = news.changed().await;
        }
    }

    fn host_of(&self, shard: ShardId, node: NodeUuid) -> Option<ShardHost> {
        let map = self.map()?;
        map.shards.get(usize::from(shard.0))?.iter().find(|host| host.node == node).cloned()
    }

    /// Notes that this host has just answered as the shard's leader.
    pub fn confirm(&self, shard: ShardId, node: NodeUuid) {
        let mut hints = self.hints.lock();
        let known = hints.entry(shard).or_insert(LeaderHint { node, term: 0 });
        known.node = node;
    }

    /// Notes that this host did not answer when it was asked about this shard.
    pub fn suspect(&self, shard: ShardId, node: NodeUuid) {
        let mut hints = self.hints.lock();
        if hints.get(&shard).is_some_and(|hint| hint.node == node) {
            hints.remove(&shard);
        }
        drop(hints);
        let now = self.clock.monotonic();
        let mut suspects = self.suspects.lock();
        suspects.retain(|_, until| *until > now);
        suspects.insert(node, now + SUSPECT_FOR);
    }

    pub fn is_suspect(&self, node: NodeUuid) -> bool {
        self.suspects.lock().get(&node).is_some_and(|until| *until > self.clock.monotonic())
    }

    /// Where to ask first: the leader as far as known, else the first host that is not suspect, else the first.
    pub fn first(&self, shard: ShardId) -> Option<ShardHost> {
        let map = self.map()?;
        let hosts = map.shards.get(usize::from(shard.0))?;
        let leader = self.hints.lock().get(&shard).map(|hint| hint.node);
        let leading = hosts.iter().find(|host| Some(host.node) == leader && !self.is_suspect(host.node));
        leading.or_else(|| hosts.iter().find(|host| !self.is_suspect(host.node))).or(hosts.first()).cloned()
    }

    /// Where to ask after `asked` did not help: the leader if that is another, else the next host that is not suspect,
    /// else the next.
    pub fn after(&self, shard: ShardId, asked: NodeUuid) -> Option<ShardHost> {
        let map = self.map()?;
        let hosts = map.shards.get(usize::from(shard.0))?;
        let leader = self.hints.lock().get(&shard).map(|hint| hint.node).filter(|leader| *leader != asked);
        let position = hosts.iter().position(|host| host.node == asked).map_or(0, |position| position + 1);
        let mut others = hosts.iter().cycle().skip(position).take(hosts.len());
        let leading = hosts.iter().find(|host| Some(host.node) == leader && !self.is_suspect(host.node));
        let next = hosts.get(position % hosts.len().max(1));
        leading.or_else(|| others.find(|host| !self.is_suspect(host.node))).or(next).cloned()
    }

    /// The host of the shard that goes by this name: its address or its node uuid.
    pub fn host_named(&self, shard: ShardId, name: &str) -> Option<ShardHost> {
        let map = self.map()?;
        let hosts = map.shards.get(usize::from(shard.0))?;
        hosts.iter().find(|host| *host.address == *name || name.parse() == Ok(host.node)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;

    const SHARD: ShardId = ShardId(0);

    fn node(number: u8) -> NodeUuid {
        NodeUuid([number; 16])
    }

    fn router() -> (Router, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let router = Router::new(clock.clone());
        let hosts = (1..=3).map(|number| ShardHost { node: node(number), address: "127.0.0.1:1".into() }).collect();
        router.replace_map(ShardMap { revision: 3, shards: vec![hosts] });
        (router, clock)
    }

    fn told<F: Future>(waiting: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
        futures::FutureExt::now_or_never(waiting.as_mut())
    }

    fn asked(host: Option<ShardHost>) -> u8 {
        host.unwrap().node.0[0]
    }

    #[test]
    fn the_known_leader_is_asked_first_unless_it_is_suspect() {
        let (router, clock) = router();
        assert_eq!(asked(router.first(SHARD)), 1);
        router.learn(SHARD, LeaderHint { node: node(3), term: 5 });
        assert_eq!(asked(router.first(SHARD)), 3);
        router.suspect(SHARD, node(3));
        assert_eq!(asked(router.first(SHARD)), 1);
        router.learn(SHARD, LeaderHint { node: node(3), term: 5 });
        assert_eq!(asked(router.first(SHARD)), 1, "others may still name it");
        clock.advance(SUSPECT_FOR);
        assert_eq!(asked(router.first(SHARD)), 3);
    }

    #[test]
    fn a_hint_of_an_older_term_is_no_news() {
        let (router, _) = router();
        router.learn(SHARD, LeaderHint { node: node(3), term: 5 });
        router.learn(SHARD, LeaderHint { node: node(2), term: 4 });
        assert_eq!(asked(router.first(SHARD)), 3);
        router.learn(SHARD, LeaderHint { node: node(2), term: 6 });
        assert_eq!(asked(router.first(SHARD)), 2);
    }

    #[test]
    fn only_a_newer_leadership_elsewhere_counts() {
        let (router, _) = router();
        router.learn(SHARD, LeaderHint { node: node(2), term: 5 });
        router.confirm(SHARD, node(1));
        let mut elsewhere = std::pin::pin!(router.led_elsewhere(SHARD, node(1)));
        assert_eq!(told(&mut elsewhere), None);
        router.learn(SHARD, LeaderHint { node: node(2), term: 5 });
        assert_eq!(told(&mut elsewhere), None, "the old hint, told again");
        router.learn(SHARD, LeaderHint { node: node(1), term: 6 });
        assert_eq!(told(&mut elsewhere), None, "the host itself");
        router.learn(SHARD, LeaderHint { node: node(3), term: 7 });
        let (host, term) = told(&mut elsewhere).expect("deposed");
        assert_eq!((host.node, term), (node(3), 7));
    }

    #[test]
    fn probing_goes_round_and_skips_suspects() {
        let (router, _) = router();
        assert_eq!(asked(router.after(SHARD, node(1))), 2);
        assert_eq!(asked(router.after(SHARD, node(3))), 1);
        router.suspect(SHARD, node(2));
        assert_eq!(asked(router.after(SHARD, node(1))), 3);
        for number in 1..=3 {
            router.suspect(SHARD, node(number));
        }
        assert_eq!(asked(router.after(SHARD, node(1))), 2, "somebody is asked even when all are suspect");
    }

    #[test]
    fn an_older_map_does_not_replace_a_newer_one() {
        let (router, _) = router();
        router.replace_map(ShardMap { revision: 2, shards: Vec::new() });
        assert_eq!(router.map().unwrap().revision, 3);
    }
}
