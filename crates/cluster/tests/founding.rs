//! Whole clusters in one process, over loopback: born, restarted, joined, and refused.

#[path = "founding/host.rs"]
mod host;

use std::time::{Duration, Instant};

use conclave_cluster::{
    ClusterError, ClusterToken, FoundingError, LeaderHint, MetaClient, MetaClientError, MetaCommand, NodeState, Origin,
    TableClient, TableRevision,
};
use conclave_types::{ReplicaId, ShardId};
use host::{Host, HostSeed, SHARDS, founders, table_where, token};

const PATIENCE: Duration = Duration::from_secs(30);

fn create_project(name: &str) -> MetaCommand {
    MetaCommand::CreateProject { project: name.parse().unwrap() }
}

async fn start_all(seeds: &[HostSeed]) -> Vec<Host> {
    let mut hosts = Vec::new();
    for seed in seeds {
        hosts.push(seed.start().await);
    }
    hosts
}

async fn stop_all(hosts: Vec<Host>) {
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hosts_with_one_list_and_token_become_one_cluster() {
    let seeds = founders(3);
    let hosts = start_all(&seeds).await;
    let mut tables = Vec::new();
    for host in &hosts {
        tables.push(table_where(host.cluster.table(), |table| table.revision >= TableRevision(1)).await);
    }
    let table = &tables[0];
    assert!(tables.iter().all(|other| other.cluster == table.cluster));
    assert_eq!((table.shard_count(), table.replication, table.nodes.len()), (SHARDS, 3, 3));
    assert_eq!(table.meta_replicas.iter().map(|replica| replica.replica.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(table.shards.iter().all(|shard| shard.replicas.len() == 3));
    for (host, seed) in hosts.iter().zip(&seeds) {
        let node = table.node(host.cluster.node()).unwrap();
        assert_eq!((node.address.as_str(), node.state), (seed.address.as_str(), NodeState::Up));
        assert_eq!(table.shards_of(node.node).count(), usize::from(SHARDS));
    }
    for (number, host) in hosts.iter().enumerate() {
        let outcome = host.cluster.propose(create_project(&format!("project-{number}"))).await.unwrap();
        assert!(outcome.changed);
    }
    for host in &hosts {
        table_where(host.cluster.table(), |table| table.projects.len() == 4).await;
    }
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host_is_a_cluster() {
    let seeds = founders(1);
    let hosts = start_all(&seeds).await;
    let table = table_where(hosts[0].cluster.table(), |_| true).await;
    assert_eq!((table.replication, table.meta_replicas.len()), (1, 1));
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_host_goes_on_from_its_disk() {
    let seeds = founders(3);
    let mut hosts = start_all(&seeds).await;
    for host in &hosts {
        table_where(host.cluster.table(), |_| true).await;
    }
    let stopped = hosts.pop().unwrap();
    let node = stopped.cluster.node();
    stopped.stop().await;
    hosts[0].cluster.propose(create_project("meanwhile")).await.unwrap();

    let again = seeds[2].start().await;
    assert_eq!(again.cluster.node(), node);
    let table = table_where(again.cluster.table(), |table| table.projects.len() == 2).await;
    assert_eq!(table.nodes.len(), 3);
    hosts.push(again);
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_list_or_token_is_refused_with_the_reason() {
    let mut seeds = founders(2);
    let mut hosts = seeds[1].hosts();
    hosts.reverse();
    seeds[1].origin = Origin::founder(hosts, &seeds[1].address).unwrap();
    let started = start_all(&seeds).await;
    let failure = started[0].failure().await;
    assert!(matches!(&*failure, ClusterError::Founding(FoundingError::List { .. })), "{failure}");
    stop_all(started).await;

    let mut seeds = founders(2);
    seeds[1].token = "another cluster's token".parse().unwrap();
    let started = start_all(&seeds).await;
    let failure = started[0].failure().await;
    assert!(matches!(&*failure, ClusterError::Founding(FoundingError::Token { .. })), "{failure}");
    assert!(started[0].cluster.table().borrow().is_none());
    stop_all(started).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_host_does_not_stand_in_for_the_lost_replica() {
    let seeds = founders(3);
    let mut hosts = start_all(&seeds).await;
    for host in &hosts {
        table_where(host.cluster.table(), |_| true).await;
    }
    hosts.pop().unwrap().stop().await;
    let emptied = seeds[2].emptied();
    let again = emptied.start().await;
    let failure = again.failure().await;
    assert!(matches!(&*failure, ClusterError::Founding(FoundingError::Stranger { .. })), "{failure}");
    assert!(again.cluster.table().borrow().is_none());
    hosts.push(again);
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_a_metadata_replica_follows_relays_and_proposes() {
    let seeds = founders(4);
    let hosts = start_all(&seeds).await;
    let fourth = &hosts[3];
    assert!(fourth.cluster.meta_leadership().is_none());
    table_where(fourth.cluster.table(), |table| table.nodes.len() == 4).await;
    fourth.cluster.propose(create_project("from-the-fourth")).await.unwrap();

    let outside = TableClient::start(vec![seeds[3].address.clone()], token());
    table_where(outside.table(), |table| table.projects.len() == 2).await;
    outside.shutdown().await;
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joining_host_is_registered_and_found_where_it_moved() {
    let seeds = founders(1);
    let mut hosts = start_all(&seeds).await;
    table_where(hosts[0].cluster.table(), |_| true).await;
    let mut joining = HostSeed::new(Origin::Joined);
    joining.join = vec![seeds[0].address.clone()];
    let joined = joining.start().await;
    let node = joined.cluster.node();
    let registered = |address: String| {
        move |table: &conclave_cluster::ClusterTable| table.node(node).is_some_and(|node| node.address == address)
    };
    table_where(hosts[0].cluster.table(), registered(joining.address.clone())).await;
    table_where(joined.cluster.table(), registered(joining.address.clone())).await;
    joined.stop().await;

    let moved = joining.moved();
    hosts.push(moved.start().await);
    table_where(hosts[0].cluster.table(), registered(moved.address.clone())).await;
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hear_tables_and_leaders_and_find_the_leader() {
    let seeds = founders(3);
    let hosts = start_all(&seeds).await;
    let outside = TableClient::start(vec![seeds[1].address.clone()], token());
    table_where(outside.table(), |_| true).await;

    let hint = |shard: u16, term, host: usize| LeaderHint {
        shard: ShardId(shard),
        term,
        replica: ReplicaId(1_000),
        address: seeds[host].address.clone(),
    };
    hosts[0].led.send_replace([hint(0, 1, 0), hint(1, 4, 0)].into_iter().collect());
    hosts[2].led.send_replace([hint(0, 2, 2), hint(1, 3, 2)].into_iter().collect());
    let mut leaders = outside.leaders();
    let known = tokio::time::timeout(
        PATIENCE,
        leaders.wait_for(|known| {
            known.get(ShardId(0)) == Some(&hint(0, 2, 2)) && known.get(ShardId(1)) == Some(&hint(1, 4, 0))
        }),
    );
    known.await.unwrap().unwrap();

    let client = MetaClient::new(token());
    for seed in &seeds {
        let name = format!("by-{}", seed.address.replace([':', '.'], "-"));
        client.propose(std::slice::from_ref(&seed.address), &create_project(&name), PATIENCE).await.unwrap();
    }
    table_where(outside.table(), |table| table.projects.len() == 4).await;

    let unknown_shard = MetaCommand::ActivateShard { shard: ShardId(SHARDS) };
    let refused = client.propose(&[seeds[0].address.clone()], &unknown_shard, PATIENCE).await;
    assert!(matches!(&refused, Err(MetaClientError::Refused { reason }) if reason.contains("does not exist")));
    let stranger: ClusterToken = "a stranger's own token".parse().unwrap();
    let refused = MetaClient::new(stranger).propose(&[seeds[0].address.clone()], &create_project("x"), PATIENCE).await;
    assert!(matches!(refused, Err(MetaClientError::Token { .. })), "{refused:?}");
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_followed_while_a_metadata_host_is_gone() {
    let seeds = founders(3);
    let mut hosts = start_all(&seeds).await;
    let addresses = seeds.iter().map(|seed| seed.address.clone()).collect();
    let outside = TableClient::start(addresses, token());
    table_where(outside.table(), |_| true).await;
    for host in &hosts {
        table_where(host.cluster.table(), |_| true).await;
    }
    hosts.remove(0).stop().await;
    let started = Instant::now();
    hosts[0].cluster.propose(create_project("later")).await.unwrap();
    table_where(outside.table(), |table| table.projects.len() == 2).await;
    assert!(started.elapsed() < PATIENCE);
    stop_all(hosts).await;
}
